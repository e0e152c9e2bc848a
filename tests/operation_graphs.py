"""The part of the zoo that is made of `keras.ops`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tests.graphs import conv as _conv
from tests.graphs import head as _head
from tests.graphs import model as _model


def _pooled(x: Any, classes: int = 2) -> Any:
    return L.Dense(classes)(L.GlobalAveragePooling1D()(x))


def _numbers(*shape: int) -> Any:
    """A constant that no symmetry hides behind, in the dtype of the model."""
    return np.random.default_rng(len(shape)).normal(0.2, 0.6, shape).astype(keras.config.floatx())


@_model
def normalizing_operations() -> keras.Model:
    """Normalisations of `keras.ops` with scales that are constants or tensors, or without."""
    x = inputs = keras.Input((5, 4))
    x = ops.layer_normalization(L.Dense(6)(x), _numbers(6), ops.convert_to_tensor(_numbers(6)))
    x = L.Dense(5, "relu")(ops.layer_normalization(L.Dense(7)(x)))
    scale = ops.expand_dims(L.Dense(6)(L.GlobalMaxPooling1D()(inputs)), 1)
    x = ops.layer_normalization(L.Dense(6)(x), scale, scale * 0.5)
    x = ops.rms_normalization(L.Dense(5)(x), _numbers(5))
    x = ops.batch_normalization(L.Dense(6)(x), _numbers(6), _numbers(6) ** 2 + 0.5, -1, _numbers(6), _numbers(6))
    x = L.Dense(5)(ops.layer_normalization(L.Dense(4)(x), axis=(1, 2)))
    mean, variance = ops.moments(L.Dense(4)(x), axes=[1, 2], keepdims=True)
    x = L.Dense(6)((x - mean) / ops.sqrt(variance + 0.1))
    return keras.Model(inputs, _pooled(x))


@_model
def shares() -> keras.Model:
    """Softmax and its kin over units: gates, and a running product."""
    x = inputs = keras.Input((5, 4))
    x = L.Dense(6)(x)
    x = x * ops.softmax(L.Dense(6)(x))
    x = L.Dense(5)(ops.log_softmax(L.Dense(7)(x)))
    x = L.Dense(6)(L.Softmax()(L.Dense(5)(x)) + L.Activation("softmax")(x))
    x = L.Dense(4)(L.Softmax(axis=[1, 2])(x))
    x = L.Dense(5)(ops.cumprod(ops.sigmoid(x) + 0.6, axis=-1))
    return keras.Model(inputs, [_pooled(x), L.Dense(2)(ops.sparsemax(L.Dense(6)(x) * 0.2))])


@_model
def statistics() -> keras.Model:
    x = inputs = keras.Input((5, 4))
    y = x = L.Dense(7, "tanh")(x)
    seen = [ops.quantile(x, 0.3, -1, keepdims=True), ops.nanmean(x, -1, keepdims=True), ops.ptp(x, -1, keepdims=True)]
    x = L.Dense(6)(L.Concatenate()([*seen, ops.nansum(L.Dense(5)(x), -1, keepdims=True)]))
    y = L.Dense(5)(ops.cumsum(L.Dense(6)(y), -1)) * ops.cast(
        ops.expand_dims(ops.count_nonzero(ops.relu(y), -1), -1), "float64"
    )
    z = ops.transpose(ops.quantile(L.Dense(6)(y), [0.2, 0.7], 1), (1, 0, 2))
    averaged = ops.average(L.Dense(3)(y), axis=-1)
    y = L.Concatenate()([L.Dense(3)(ops.diff(y, axis=1)), ops.cumsum(x, 1)[:, 1:]])
    return keras.Model(inputs, [_pooled(y), _pooled(z), L.Dense(2)(averaged)])


@_model
def averages() -> keras.Model:
    """Attentive pooling: each unit with its own weights, computed or constant; a choice by a constant for each unit."""
    x = inputs = keras.Input((5, 4))
    x = ops.average(L.Dense(6)(x), axis=1, weights=L.Dense(6, "sigmoid")(x))
    y = ops.average(L.Dense(6)(inputs), axis=1, weights=_numbers(1, 5, 6) ** 2 + 0.1)
    z = ops.average(L.Dense(6)(inputs), axis=1, weights=_numbers(5) ** 2 + 0.1)
    w = ops.average(L.Dense(6)(inputs), axis=-1, weights=L.Dense(6, "sigmoid")(inputs))
    chosen = ops.select([np.array([True, False, True, True, False, True])], [L.Dense(6)(x)], 0.0)
    return keras.Model(inputs, [L.Dense(2)(each) for each in (x, y, z, w, chosen)])


@_model
def elements() -> keras.Model:
    x = inputs = keras.Input((5, 4))
    x = L.Dense(6)(x)
    chosen = ops.select([x > 0.5, x < -0.5], [x * 2.0, L.Dense(6)(x)], 0.25)
    steps = ops.cast(ops.digitize(x, np.array([-1.0, 0.0, 1.0])), x.dtype)
    x = L.Dense(5)(chosen) + L.Dense(5)(ops.where(ops.isin(ops.round(x), [0.0, 1.0]), x, steps))
    x = ops.ldexp(L.Dense(5)(x), ops.cast(ops.round(L.Dense(5)(x)), "int32"))
    low, high = ops.cast(ops.floor(x), "int32"), ops.cast(ops.ceil(x * 3.0), "int32")
    x = x + ops.cast(ops.bitwise_and(low, high) + ops.gcd(low, 6), x.dtype) + ops.real(x) + ops.full_like(x, 0.5)
    return keras.Model(inputs, _pooled(x))


@_model
def places() -> keras.Model:
    """Splits, stacks and turns of all kinds."""
    x = inputs = keras.Input((4, 6, 3))
    x = ops.rot90(_conv(x, 6), 3, axes=(2, 1))
    a, b, c = ops.array_split(x, 3, axis=-1)
    x = ops.append(ops.fliplr(_conv(b, 4)), ops.flipud(_conv(a, 3)), axis=-1)
    top, bottom = ops.hsplit(x, 2)
    x = ops.hstack([bottom, top])
    left, right = ops.dsplit(_conv(x, 5), [1])
    x = ops.dstack([right, left])
    first, *_, last = ops.unstack(ops.rot90(_conv(x, 4), 1, axes=(3, 2)), axis=2)
    x = ops.rot90(ops.rot90(x, 1, axes=(2, 3)), 1, axes=(3, 2))
    chosen = ops.take_along_axis(x, ops.argsort(x, axis=1), 1)
    highest, _ = ops.top_k(ops.moveaxis(_conv(chosen, 4), 1, -1), 2)
    hot = ops.one_hot(ops.argmax(_conv(c, 3), axis=1), 6)
    spread = ops.broadcast_to(_conv(ops.mean(x, (0, 1, 2), keepdims=True), 4), (1, 6, 4, 4))
    y = L.Dense(3)(L.Flatten()(highest)) + L.Dense(3)(L.Flatten()(hot)) + L.Dense(3)(L.Flatten()(first + last))
    return keras.Model(inputs, [L.Dense(2)(y), _head(_conv(x, 4) * spread)])


@_model
def products() -> keras.Model:
    """Products with constants, whose rows and columns go, and of tensors by `axes`, with an ellipsis, distances."""
    x = inputs = keras.Input((5, 4))
    x = ops.einsum("...d,de->...e", L.Dense(6)(x), _numbers(6, 7))
    x = ops.matmul(_numbers(3, 5), L.Dense(6)(x))
    x = ops.dot(L.Dense(5)(x), _numbers(5, 4)) + ops.inner(L.Dense(3)(x), _numbers(4, 3))
    x = L.Dense(4)(ops.tensordot(L.Dense(6)(x), _numbers(6, 2, 2), 1)[..., 0])
    y = ops.einsum("...td,...sd->...ts", L.Dense(5)(x), L.Dense(5)(x))
    y = y + ops.cdist(L.Dense(6)(x), L.Dense(6, "relu")(x))
    z = ops.matmul(L.Dense(4)(x), _numbers(4))
    return keras.Model(inputs, [_pooled(ops.matmul(y, L.Dense(6)(x))), L.Dense(2)(z)])


@_model
def constant_kernels() -> keras.Model:
    """Convolutions with kernels that are constants (a blur before a stride) or come out of the graph."""
    x = inputs = keras.Input((8, 8, 3))
    x = ops.depthwise_conv(_conv(x, 6), np.broadcast_to(_numbers(3, 3, 1, 1), (3, 3, 6, 1)).copy(), 2, "same")
    x = L.ReLU()(ops.conv(_conv(x, 5), _numbers(3, 3, 5, 4), padding="same"))
    x = ops.separable_conv(_conv(x, 4), _numbers(3, 3, 4, 2), _numbers(1, 1, 8, 5), padding="same")
    x = _conv(x, 4)
    kernel = ops.reshape(ops.mean(L.Dense(20)(L.GlobalAveragePooling2D()(x)), axis=0), (1, 1, 4, 5))
    return keras.Model(inputs, _head(_conv(ops.conv(x, kernel), 4)))


@_model
def image_operations() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3))
    x = ops.image.resize(_conv(x, 5), (6, 10))
    x = ops.image.extract_patches(_conv(x, 4), (2, 3), padding="valid")
    x = ops.image.pad_images(_conv(x, 5), 1, 2, target_height=6, target_width=7)
    x = ops.image.crop_images(_conv(x, 6), 1, 1, target_height=4, target_width=5)
    x = ops.image.gaussian_blur(_conv(x, 4), (3, 3), (0.8, 0.6))
    x = ops.image.affine_transform(_conv(x, 5), np.array([[0.9, 0.1, 0.3, -0.1, 1.1, 0.2, 0.0, 0.0]]))
    x = ops.max_pool(ops.average_pool(_conv(x, 5), 1), (2, 1))
    y = ops.unfold(ops.transpose(_conv(x, 4), (0, 3, 1, 2)), 2)
    y = ops.fold(L.Permute((2, 1))(L.Dense(16)(L.Permute((2, 1))(y))), (2, 5), 2)
    return keras.Model(inputs, [_head(_conv(x, 4)), _head(_conv(ops.transpose(y, (0, 2, 3, 1)), 3))])


@_model
def spectra() -> keras.Model:
    """Fourier transforms along time, in the place of attention (FNet), with the width left alone."""
    x = inputs = keras.Input((6, 4))
    turned = ops.swapaxes(L.Dense(6)(x), 1, 2)
    real, _ = ops.fft((turned, ops.zeros_like(turned)))
    x = L.Dense(5)(ops.swapaxes(real, 1, 2))
    real, imaginary = ops.rfft(ops.swapaxes(x, 1, 2))
    x = ops.swapaxes(ops.irfft((ops.tanh(real), imaginary)), 1, 2)
    mixed, _ = ops.fft2((L.Dense(4)(x), ops.zeros_like(L.Dense(4)(x))))
    return keras.Model(inputs, [_pooled(L.Dense(4)(x)), _pooled(mixed)])


@_model
def segments() -> keras.Model:
    """A layer of a graph network: rows gathered, mapped, summed by the number of their target."""
    nodes, numbers = keras.Input((4,)), keras.Input((), dtype="int32")
    x = L.Dense(6, "relu")(nodes)
    largest = ops.maximum(ops.segment_max(L.Dense(7)(x), numbers, 4), -3.0)
    x = L.Dense(5)(ops.segment_sum(L.Dense(7)(x), numbers, 4) - largest)
    return keras.Model([nodes, numbers], L.Dense(2)(x))


@_model
def grouped_heads() -> keras.Model:
    """Several heads of the query to one of key and value."""
    x = inputs = keras.Input((7, 4))
    for many, few in ((8, 4), (9, 3)):
        q = L.EinsumDense("abc,cde->abde", (None, many, 5))(x)
        k, v = (L.EinsumDense("abc,cde->abde", (None, few, 5))(x) for _ in range(2))
        bias = ops.expand_dims(ops.convert_to_tensor(_numbers(many, 7)), 1)
        x = L.EinsumDense("abde,def->abf", (None, 6))(ops.dot_product_attention(q, k, v, bias=bias))
    return keras.Model(inputs, _pooled(x))


@_model
def flattened_heads() -> keras.Model:
    """Heads and their widths, both made by one kernel, put side by side before the output projection."""
    x = inputs = keras.Input((7, 4))
    q, k, v = (L.EinsumDense("abc,cde->abde", (None, 3, width), bias_axes="de")(x) for width in (4, 4, 5))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) / 2.0)
    x = L.Dense(6, "relu")(ops.reshape(ops.einsum("bhqk,bkhd->bqhd", scores, v), (-1, 7, 15)))
    x = L.EinsumDense("abc,cde->abde", (7, 5, 2))(x)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))
