"""Peak memory on a graph small enough to count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from pruning import graph as graphs
from pruning import memory, surgery
from pruning import units as unit_finder
from pruning.archive import Archive


def entry(class_name: str, name: str, inbound: list[str], **config: Any) -> dict[str, Any]:
    def tensor(source: str) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [source, 0, 0]}}

    args = [tensor(source) for source in inbound]
    node = {"args": args if class_name != "Add" else [args], "kwargs": {}}
    return {
        "class_name": class_name,
        "module": "keras.layers",
        "config": {"name": name, **config},
        "name": name,
        "inbound_nodes": [node] if inbound else [],
    }


def dense(name: str, source: str, units: int) -> dict[str, Any]:
    return entry("Dense", name, [source], units=units, use_bias=False, activation="linear")


CONFIG = {
    "class_name": "Functional",
    "module": "keras.src.models.functional",
    "config": {
        "name": "m",
        "layers": [
            entry("InputLayer", "x", [], batch_shape=[None, 4], dtype="float32"),
            dense("a", "x", 10),
            dense("b", "a", 10),
            entry("Add", "sum", ["a", "b"]),
            dense("out", "sum", 2),
        ],
        "input_layers": [["x", 0, 0]],
        "output_layers": [["out", 0, 0]],
    },
}
ARRAYS = {
    "layers/dense/vars/0": np.zeros((4, 10), np.float32),
    "layers/dense_1/vars/0": np.zeros((10, 10), np.float32),
    "layers/dense_2/vars/0": np.zeros((10, 2), np.float32),
}


def test_the_largest_sum_of_what_is_alive_plus_weights() -> None:
    """a, b and their sum are alive at once: 30 numbers; x is gone by then, weights are 40 + 100 + 20."""
    graph = graphs.build(CONFIG)
    units = unit_finder.find(graph, ARRAYS)
    assert memory.peak_bytes(graph, units) == 4 * (30 + 160)


def test_removed_units_need_none() -> None:
    """With 4 of 10 coupled units left: 12 numbers alive, weights 16 + 16 + 8."""
    graph = graphs.build(CONFIG)
    units = unit_finder.find(graph, ARRAYS)
    left = surgery.apply(Archive(CONFIG, {}, ARRAYS, {}), graph, units, units.widths["a"][4:])
    graph = graphs.build(left.config)
    assert memory.peak_bytes(graph, unit_finder.find(graph, left.arrays)) == 4 * (12 + 40)
