"""A walk computes what the model computes; steps run everything once, in an order that works."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

from pruning import graph as graphs
from pruning.keras import live
from pruning.keras.data import opened
from pruning.keras.walk import Stuck, Walk, sample, steps
from tests import equivalence
from tests import graphs as zoo
from tests.thinned import thinned

# On most CPUs TensorFlow has no kernels that convolve channels first.
WITHOUT_KERNEL = ("channels_first", "video_channels_first")
MODELS = [name for name in sorted(zoo.ZOO)[::4] if name not in WITHOUT_KERNEL]


def shared_towers() -> keras.Model:
    left, right = keras.Input((6,)), keras.Input((6,))
    first, second = L.Dense(5, "relu", name="first"), L.Dense(4, name="second")
    return keras.Model([left, right], L.Subtract()([second(first(left)), second(first(right))]))


def applied_twice() -> keras.Model:
    inputs = keras.Input((6,))
    dense = L.Dense(6, name="again")
    return keras.Model(inputs, dense(L.ReLU()(dense(inputs))))


def in_time() -> keras.Model:
    inputs = keras.Input((5, 6))
    inner = keras.Sequential([keras.Input((6,)), L.Dense(4, "relu"), L.Dense(3)])
    return keras.Model(inputs, L.LSTM(2)(L.TimeDistributed(inner)(L.Masking()(inputs))))


def walked(archive: Any, inputs: list[np.ndarray]) -> tuple[Walk, Any]:
    graph = graphs.build(archive.config)
    model = live.build(archive.config, archive.arrays)
    walk = Walk(graph, archive.config, model, inputs)
    for step in steps(graph):
        for index in step:
            walk.run(index)
        for index in step:
            walk.forget(index)
    return walk, model


@pytest.mark.parametrize("name", thinned(MODELS, 4))
def test_the_zoo_walks_as_it_is_called(name: str) -> None:
    archive = equivalence.archived(zoo.build(name))
    graph = graphs.build(archive.config)
    dtypes = [tensor.dtype for tensor in live.build(archive.config, archive.arrays).inputs]
    inputs = [
        array.astype(dtype) for array, dtype in zip(equivalence.random_inputs(archive, graph), dtypes, strict=True)
    ]
    walk, model = walked(archive, inputs)
    assert set(walk.values) <= {*graph.outputs, *graph.inputs}
    for tensor, expected in zip(graph.outputs, live.call(model, inputs), strict=True):
        np.testing.assert_allclose(np.asarray(walk.values[tensor]), expected, rtol=1e-3, atol=1e-5)


def test_a_layer_that_cannot_run_here_is_named() -> None:
    inputs = keras.Input((5,), dtype="int32")
    x = L.Embedding(9, 4, mask_zero=True)(inputs)
    # The mask has an axis less than what it masks: Keras finds out when it computes.
    scores = L.Softmax(axis=1, name="shares")(L.Dense(1)(x))
    archive = equivalence.archived(zoo.randomized(keras.Model(inputs, L.Multiply()([x, scores]))))
    with pytest.raises(Stuck, match="'shares' cannot be called by itself"):
        walked(archive, [np.ones((2, 5), np.int32)])


@pytest.mark.parametrize("build", [shared_towers, applied_twice, in_time])
def test_shared_layers_and_wrappers(build: Any) -> None:
    archive = equivalence.archived(zoo.randomized(build()))
    rng = np.random.default_rng(0)
    graph = graphs.build(archive.config)
    shapes = [graph.shapes[tensor] or () for tensor in graph.inputs]
    inputs = [rng.normal(size=(3, *shape[1:])).astype(np.float32) for shape in shapes]
    if build is in_time:
        inputs[0][1, 2:] = 0
    walk, model = walked(archive, inputs)
    for tensor, expected in zip(walk.graph.outputs, live.call(model, inputs), strict=True):
        np.testing.assert_allclose(np.asarray(walk.values[tensor]), expected, rtol=1e-4, atol=1e-6)


def names(model: keras.Model) -> list[list[str]]:
    graph = graphs.build(equivalence.archived(model).config)
    return [[graph.ops[index].name for index in step] for step in steps(graph)]


def test_calls_of_a_shared_layer_run_together_unless_one_waits_for_another() -> None:
    assert names(shared_towers())[:2] == [["first", "first"], ["second", "second"]]
    assert [step for step in names(applied_twice()) if step[0] == "again"] == [["again"], ["again"]]


def test_one_term_of_a_sum_is_whole_before_the_other_is_made() -> None:
    inputs = keras.Input((4,))
    one, two = L.Dense(4, name="one")(inputs), L.Dense(4, name="two")(inputs)
    model = keras.Model(inputs, L.Add(name="sum")([L.BatchNormalization(name="norm")(one), two]))
    assert names(model) == [["one"], ["norm"], ["two"], ["sum"]]


@keras.saving.register_keras_serializable(package="walk")
class Refuses(L.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:  # noqa: ARG002
        raise RuntimeError("not here")

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)


def test_a_layer_that_refuses_is_where_a_walk_is_stuck() -> None:
    model = keras.Sequential([keras.Input((4,)), L.Dense(4), Refuses(name="odd"), L.Dense(2)])
    archive = equivalence.archived(model)
    with pytest.raises(Stuck, match="'odd'"):
        walked(archive, [np.zeros((2, 4), np.float32)])


def test_samples_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = equivalence.archived(zoo.randomized(keras.Sequential([keras.Input((8,)), L.Dense(16), L.Dense(2)])))
    graph, model = graphs.build(archive.config), live.build(archive.config, archive.arrays)
    x = np.arange(800.0, dtype=np.float32).reshape(100, 8)
    with opened({"x_train": x}, model) as data:
        train = data.split("train")
    (few,) = sample(graph, archive.config, model, train, 10, 1, 0)
    assert few.shape == (10, 8)
    assert {row[0] for row in few} <= set(x[:, 0])
    (again,) = sample(graph, archive.config, model, train, 10, 1, 0)
    np.testing.assert_array_equal(few, again)
    # At its widest, 8 + 16 numbers of 4 bytes are alive for a sample of one network.
    monkeypatch.setattr("pruning.keras.walk._ALIVE_BYTES", 5 * 2 * 96)
    assert sample(graph, archive.config, model, train, 10, 2, 0)[0].shape == (5, 8)
