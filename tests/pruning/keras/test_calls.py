"""A graph run call by call says what the model says, also where a config records that a layer trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from pruning import graph as graphs
from pruning.archive import Archive
from pruning.graph import Graph
from pruning.keras import bypass, live
from pruning.keras.walk import Walk
from tests import equivalence


def by_bypass(model: keras.Model, archive: Archive, graph: Graph, inputs: list[Any]) -> Any:
    return bypass.runner(model, archive.config, graph)(inputs)


def by_walk(model: keras.Model, archive: Archive, graph: Graph, inputs: list[Any]) -> Any:
    walk = Walk(graph, archive.config, model, inputs)
    for index in range(len(graph.ops)):
        walk.run(index)
    return walk.values


@pytest.mark.parametrize("run", [by_bypass, by_walk])
def test_layers_that_augment_are_still(run: Callable[..., Any]) -> None:
    entering = keras.Input((6, 6, 3))
    turned = keras.layers.RandomInvert(1.0, value_range=(0, 1))(entering)
    archive = equivalence.archived(keras.Model(entering, keras.layers.Conv2D(4, 3)(turned)))
    assert archive.config["config"]["layers"][1]["inbound_nodes"][0]["kwargs"] == {"training": True}
    model, graph = live.build(archive.config, archive.arrays), graphs.build(archive.config)
    inputs = [np.random.default_rng(0).uniform(size=(2, 6, 6, 3)).astype(np.float32)]
    (expected,) = live.call(model, inputs)
    found = run(model, archive, graph, inputs)[graph.outputs[0]]
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-6)


def test_operations_that_cannot_be_given_a_name_are_found() -> None:
    x = entering = keras.Input((8, 8, 3))
    for size in (4, 2):
        x = keras.ops.image.extract_patches(keras.layers.Dense(2)(x), size)
    archive = equivalence.archived(keras.Model(entering, keras.layers.Flatten()(x)))
    layers = archive.config["config"]["layers"]
    assert ["name" in layer["config"] for layer in layers].count(False) == 2
    found = bypass.live_layers(live.build(archive.config, archive.arrays), archive.config)
    sizes = [found["config", "layers", index].size for index, layer in enumerate(layers) if "size" in layer["config"]]
    assert sizes == [layer["config"]["size"] for layer in layers if "size" in layer["config"]] == [[4, 4], [2, 2]]


def test_what_a_wrapper_wraps_has_no_call_of_its_own() -> None:
    tower = keras.Sequential([keras.Input((6, 2)), keras.layers.Conv1D(4, 3), keras.layers.Flatten()])
    x = entering = keras.Input((5, 6, 2))
    for wrapped in (tower, keras.layers.Dense(3, activation="relu")):
        x = keras.layers.TimeDistributed(wrapped)(x)
    archive = equivalence.archived(keras.Model(entering, keras.layers.Dense(2)(x)))
    model, graph = live.build(archive.config, archive.arrays), graphs.build(archive.config)
    inputs = [np.random.default_rng(0).normal(size=(2, 5, 6, 2)).astype(np.float32)]
    (expected,) = live.call(model, inputs)
    found = by_bypass(model, archive, graph, inputs)[graph.outputs[0]]
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-6)
