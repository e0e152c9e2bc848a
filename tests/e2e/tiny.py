"""A tiny model and its data, made without Keras: a test that only kills processes need not import it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pruning.archive import Archive, write


def model(path: Path, middle: Sequence[str] = ()) -> None:
    """A dense network of 4 inputs, 16 hidden units and 3 classes, in a `.keras` file; `middle`: more of 16."""
    rng = np.random.default_rng(0)
    names = ["hidden", *middle, "classes"]
    widths = [4, *(16 for _ in names[1:]), 3]
    places = ["layers/dense", *(f"layers/dense_{index}" for index in range(1, len(names)))]
    shapes: dict[str, tuple[int, ...]] = {}
    for place, entering, leaving in zip(places, widths[:-1], widths[1:], strict=True):
        shapes |= {f"{place}/vars/0": (entering, leaving), f"{place}/vars/1": (leaving,)}
    config = {
        "name": "tiny",
        "layers": [
            _layer("InputLayer", {"name": "inputs", "batch_shape": [None, 4], "dtype": "float32"}),
            *(_layer("Dense", {"name": name, "units": 16, "activation": "relu"}) for name in names[:-1]),
            _layer("Dense", {"name": "classes", "units": 3, "activation": "softmax"}),
        ],
    }
    archive = Archive(
        config={**_layer("Sequential", config), "build_config": {"input_shape": [None, 4]}},
        metadata={"keras_version": "3.15.1", "date_saved": "2026-11-24@00:00:00"},
        arrays={name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()},
        names=dict(zip(places, names, strict=True)),
    )
    write(path, archive)


def data(path: Path) -> None:
    """200, 40 and 1,000 samples of labelled noise, in a `.npz` file."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in {"train": 200, "validation": 40, "test": 1000}.items():
        arrays[f"x_{split}"] = rng.normal(size=(count, 4)).astype("float32")
        arrays[f"y_{split}"] = rng.integers(0, 3, count)
    np.savez(path, **arrays)


def _layer(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    module = "keras" if class_name == "Sequential" else "keras.layers"
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}
