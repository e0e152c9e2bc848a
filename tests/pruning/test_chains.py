"""Chains of small models: what alone follows a layer, where a constant is added, what bounds the outputs."""

from __future__ import annotations

from math import inf
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

from pruning import products
from pruning.chains import Chains, factor, offset
from tests import equivalence, graphs


def made(x: Any, inputs: Any) -> tuple[Any, Any, dict[str, Any]]:
    archive = equivalence.archived(graphs.randomized(keras.Model(inputs, x)))
    graph, _ = equivalence.traced(archive)
    return archive, graph, {op.name: op for op in graph.ops}


def dense(**options: Any) -> Any:
    return L.Dense(3, name="asked", **options)


@pytest.mark.parametrize(
    ("behind", "norms", "in_sum", "bounds"),
    [
        (lambda x, _: L.ReLU()(L.BatchNormalization(name="norm")(x)), ["norm"], False, (0.0, inf)),
        (lambda x, _: L.ReLU(max_value=6.0)(L.Dropout(0.5)(x)), [], False, (0.0, 6.0)),
        (lambda x, _: L.ReLU(negative_slope=0.1)(x), [], False, None),
        (
            lambda x, y: L.Activation("relu")(L.Add(name="sum")([L.BatchNormalization(name="norm")(x), y])),
            ["norm"],
            True,
            (0.0, inf),
        ),
        (lambda x, y: L.Add(name="sum")([x, y]), [], True, None),
        (lambda x, _: L.Activation("gelu")(x), [], False, None),
        (lambda x, _: L.Multiply()([x, L.ReLU()(x)]), [], False, None),
    ],
)
def test_what_alone_follows(behind: Any, norms: list[str], in_sum: bool, bounds: Any) -> None:
    inputs, other = keras.Input((4,)), keras.Input((3,))
    _, graph, ops = made(L.Dense(2)(behind(dense()(inputs), L.Softmax()(other))), [inputs, other])
    found = Chains(graph).behind(ops["asked"], -1, 2)
    assert [op.name for op in found.norms] == norms
    assert (found.sum is not None and graph.ops[found.sum].name == "sum") == in_sum
    assert found.bounds == bounds


def test_where_a_constant_is_added() -> None:
    inputs = keras.Input((4,))

    def place(x: Any) -> Any:
        _, graph, ops = made(L.Dense(2)(L.ReLU()(x)), inputs)
        return Chains(graph).constants(ops["asked"], products.of(ops["asked"], 2)[0], 2)

    assert place(L.BatchNormalization()(dense()(inputs))) == ("layers/dense/vars/1", 1)
    assert place(L.BatchNormalization()(dense(use_bias=False)(inputs))) == ("layers/batch_normalization/vars/2", -1)
    assert place(L.BatchNormalization(scale=False, center=False)(dense(use_bias=False)(inputs))) == (
        "layers/batch_normalization/vars/0",
        -1,
    )
    assert place(dense(use_bias=False)(inputs)) is None
    assert place(L.BatchNormalization()(dense(use_bias=False, activation="relu")(inputs))) is None


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}, {"scale": False, "center": False}])
def test_factor_and_offset_are_what_a_normalisation_does(options: Any) -> None:
    inputs = keras.Input((4,))
    norm = L.BatchNormalization(name="norm", **options)
    archive, _, ops = made(norm(inputs), inputs)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = x * factor(ops["norm"], archive.arrays) + offset(ops["norm"], archive.arrays)
    np.testing.assert_allclose(np.asarray(norm(x)), expected, rtol=1e-5, atol=1e-6)
