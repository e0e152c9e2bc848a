"""Rows times matrix plus bias is what the layer gives, whatever kind of product it is."""

from __future__ import annotations

from math import prod
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

from pruning import products
from tests import equivalence, graphs

ALIKE = {
    "dense": (L.Dense(4), (3, 5)),
    "conv1d causal": (L.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 5)),
    "conv2d same, strides": (L.Conv2D(4, (3, 2), strides=(2, 1), padding="same"), (7, 6, 5)),
    "conv2d valid, no bias": (L.Conv2D(4, 3, use_bias=False), (7, 6, 5)),
    "conv2d dilated": (L.Conv2D(4, 3, dilation_rate=2, padding="same"), (7, 6, 5)),
    "conv2d groups": (L.Conv2D(6, 3, groups=2, padding="same"), (5, 5, 4)),
    "conv3d": (L.Conv3D(3, 2, strides=2, padding="same"), (3, 4, 5, 2)),
    "depthwise": (L.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same"), (6, 7, 3)),
    "depthwise 1d": (L.DepthwiseConv1D(3, padding="same"), (6, 3)),
    "separable": (L.SeparableConv2D(4, 3, depth_multiplier=2, padding="same"), (6, 7, 3)),
    "transposed same": (L.Conv2DTranspose(4, 3, strides=2, padding="same"), (4, 5, 3)),
    "transposed valid": (L.Conv2DTranspose(4, (3, 2), strides=(2, 3)), (4, 5, 3)),
    "transposed 1d": (L.Conv1DTranspose(4, 2, strides=2, padding="same"), (4, 3)),
    "einsum": (L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"), (4, 5)),
    "einsum, two summed": (L.EinsumDense("abcd,cde->abe", output_shape=(None, 4), bias_axes="e"), (4, 2, 3)),
}


def case(layer: Any, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """(archive, the layer's op, its model) with random weights, biases too."""
    inputs = keras.Input(shape)
    model = graphs.randomized(keras.Model(inputs, type(layer).from_config(layer.get_config())(inputs)))
    archive = equivalence.archived(model)
    (op,) = equivalence.traced(archive)[0].ops
    return archive, op, model


@pytest.mark.parametrize("name", ALIKE)
def test_rows_times_matrix_is_the_layer(name: str) -> None:
    archive, op, model = case(*ALIKE[name])
    x = np.random.default_rng(1).normal(size=(2, *ALIKE[name][1])).astype(np.float32)
    y = np.asarray(model(x))
    (product,) = products.of(op, x.ndim)
    places = product.places(x, y)
    at = np.arange(prod(places))
    matrix = product.matrix(archive.arrays[product.kernel])
    found = np.einsum("ngd,gdo->ngo", product.rows(x, at, places, archive.arrays), matrix).reshape(len(at), -1)
    if product.bias is not None:
        found = found + archive.arrays[product.bias].reshape(-1)
    np.testing.assert_allclose(found, y.reshape(len(at), -1), rtol=1e-4, atol=1e-5)
    kernel = archive.arrays[product.kernel]
    np.testing.assert_array_equal(product.array(matrix, kernel), kernel)


@pytest.mark.parametrize("name", ALIKE)
def test_spread_is_what_a_constant_input_gives_away_from_borders(name: str) -> None:
    layer, shape = ALIKE[name]
    archive, op, _ = case(layer, shape)
    (product,) = products.of(op, len(shape) + 1)
    if product.summed > 1:
        return
    channels = np.random.default_rng(2).normal(size=shape[-1]).astype(np.float32)
    wide = (*(12 for _ in shape[:-1]), shape[-1])
    archive, op, model = case(layer, wide)
    x = np.broadcast_to(channels, (1, *wide)).copy()
    y = np.asarray(model(x))
    matrix = product.matrix(archive.arrays[product.kernel])
    found = np.einsum("gd,gdo->go", product.spread(channels, archive.arrays), matrix).reshape(-1)
    if product.bias is not None:
        found = found + archive.arrays[product.bias].reshape(-1)
    inner = y.reshape(*y.shape[: len(shape)], -1)[0][tuple(slice(n // 3, 2 * n // 3) for n in y.shape[1 : len(shape)])]
    if product.window is not None and product.window.transposed:
        strides = product.window.strides
        inner = y[0][
            tuple(slice(s * (n // s // 3), s * (2 * n // s // 3)) for n, s in zip(y.shape[1:], strides, strict=False))
        ]
    np.testing.assert_allclose(found, inner.reshape(-1, inner.shape[-1]).mean(0), rtol=1e-3, atol=1e-5)


def test_projections_of_an_attention() -> None:
    inputs = keras.Input((4, 6))
    layer = L.MultiHeadAttention(2, 3, value_dim=5)
    model = graphs.randomized(keras.Model(inputs, layer(inputs, inputs)))
    archive = equivalence.archived(model)
    (op,) = equivalence.traced(archive)[0].ops
    x = np.random.default_rng(1).normal(size=(2, 4, 6)).astype(np.float32)
    found = products.of(op, 3)
    assert [product.kernel.split("/")[-3] for product in found] == ["query_dense", "key_dense", "value_dense"]
    for product, dense in zip(found, (layer._query_dense, layer._key_dense, layer._value_dense), strict=True):
        rows = product.rows(x, np.arange(8), product.places(x, x), archive.arrays)
        made = np.einsum("ngd,gdo->ngo", rows, product.matrix(archive.arrays[product.kernel])).reshape(8, -1)
        made = made + archive.arrays[product.bias].reshape(-1)
        np.testing.assert_allclose(made, np.asarray(dense(x)).reshape(8, -1), rtol=1e-4, atol=1e-5)
