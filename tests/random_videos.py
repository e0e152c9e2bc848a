"""Random small functional graphs on videos, for Hypothesis: volumes, frames, recurrence over images, wrappers.

`model(data.draw)` in a test, as in `tests.random_graphs`; every tensor in between has the axes (batch, time, height,
width, channels), the first three of 3, 4 and 4 unless a step changed them. TensorFlow pools volumes in float32 alone
on a CPU, so frames are pooled instead.
"""

from __future__ import annotations

from typing import Any

import keras
from hypothesis import strategies as st
from keras import layers as L
from keras import ops

from tests.graphs import randomized
from tests.random_graphs import Draw, nested, pick

_WIDTHS = st.sampled_from([2, 3, 4, 6])
_ACTIVATIONS = st.sampled_from(["linear", "relu", "tanh", "gelu", "softmax", "silu"])


def model(draw: Draw) -> keras.Model:
    """A model of 2 to 5 random steps on one or two inputs, with two or three outputs."""
    keras.backend.clear_session()
    inputs = [keras.Input((3, 4, 4, draw(_WIDTHS))) for _ in range(draw(st.integers(1, 2)))]
    pool: list[Any] = [_entrance(draw, entrance) for entrance in inputs]
    for _ in range(draw(st.integers(2, 5))):
        pool.append(draw(st.sampled_from(_STEPS))(draw, pool))
    heads = [L.Dense(2)(_flat(draw, tensor)) for tensor in pool[-draw(st.integers(1, 2)) :]]
    heads.append(L.Dense(2)(L.Concatenate()([_flat(draw, tensor) for tensor in [*pool[: len(inputs)], *pool[-3:]]])))
    return randomized(keras.Model(inputs, heads), draw(st.integers(0, 1000)))


def _entrance(draw: Draw, x: Any) -> Any:
    """What models do with their inputs first."""
    numbers = [0.5 + index for index in range(x.shape[-1])]
    steps = {
        "nothing": lambda: x,
        "rescaled": lambda: L.Rescaling(numbers, offset=0.1)(x),
        "normalized": lambda: L.Normalization(mean=numbers, variance=numbers)(x),
        "noisy": lambda: L.GaussianNoise(0.1)(L.SpatialDropout3D(0.2)(x)),
    }
    return steps[draw(st.sampled_from(sorted(steps)))]()


def _flat(draw: Draw, x: Any) -> Any:
    _, time, height, width, channels = x.shape
    kinds = {
        "average": lambda: L.GlobalAveragePooling3D()(x),
        "maximum": lambda: L.GlobalMaxPooling3D()(x),
        "flatten": lambda: L.Flatten()(x),
        "frames": lambda: L.GRU(draw(_WIDTHS))(L.TimeDistributed(L.GlobalAveragePooling2D())(x)),
        "frames, flat": lambda: L.LSTM(draw(_WIDTHS))(L.TimeDistributed(L.Flatten())(x)),
        "images": lambda: L.Flatten()(L.ConvLSTM2D(draw(_WIDTHS), 3, padding="same")(x)),
        "cells": lambda: L.RNN([L.LSTMCell(draw(_WIDTHS)), L.GRUCell(draw(_WIDTHS))])(
            L.Reshape((time, height * width * channels))(x)
        ),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


def _conv(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    groups = draw(st.sampled_from([g for g in (1, 1, 2, x.shape[-1]) if x.shape[-1] % g == 0]))
    layer = L.Conv3D(
        groups * draw(st.sampled_from([1, 2, 3])),
        draw(st.sampled_from([1, (1, 3, 3), (3, 1, 1)])),
        padding="same",
        groups=groups,
        use_bias=draw(st.booleans()),
        activation=draw(_ACTIVATIONS),
    )
    return L.SpectralNormalization(layer)(x) if groups == 1 and draw(st.booleans()) else layer(x)


def _transposed(draw: Draw, pool: list[Any]) -> Any:
    return L.Conv3DTranspose(draw(_WIDTHS), draw(st.sampled_from([1, 2])), padding="same")(pick(draw, pool))


def _frames(draw: Draw, pool: list[Any]) -> Any:
    """A layer of images on each frame."""
    width, multiplier = draw(_WIDTHS), draw(st.integers(1, 2))
    kinds = {
        "conv": lambda: L.Conv2D(width, 3, padding="same", activation=draw(_ACTIVATIONS)),
        "depthwise": lambda: L.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier),
        "separable": lambda: L.SeparableConv2D(width, 3, padding="same", depth_multiplier=multiplier),
        "transposed": lambda: L.Conv2DTranspose(width, 2, padding="same"),
        "normalized": L.BatchNormalization,
        "dense": lambda: L.Dense(width, activation=draw(_ACTIVATIONS)),
        "maxima": lambda: L.MaxPooling2D(3, 1, padding="same"),
        "averages": lambda: L.AveragePooling2D(3, 1, padding="same"),
        "there and back": lambda: L.ZeroPadding2D(1),
    }
    kind = draw(st.sampled_from(sorted(kinds)))
    x = L.TimeDistributed(kinds[kind]())(pick(draw, pool))
    return L.TimeDistributed(L.Cropping2D(1))(x) if kind == "there and back" else x


def _recurrent(draw: Draw, pool: list[Any]) -> Any:
    layer = L.ConvLSTM2D(
        draw(_WIDTHS),
        draw(st.sampled_from([1, 3])),
        padding="same",
        return_sequences=True,
        use_bias=draw(st.booleans()),
    )
    if draw(st.booleans()):
        layer = L.Bidirectional(layer, merge_mode=draw(st.sampled_from(["concat", "sum", "mul", "ave"])))
    return layer(pick(draw, pool))


def _norm(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    groups = [g for g in (1, 2, 3, -1) if x.shape[-1] % g == 0]
    kinds = [
        L.BatchNormalization(),
        L.BatchNormalization(center=False),
        L.LayerNormalization(),
        L.LayerNormalization(axis=[1, 2, 3, 4]),
        L.RMSNormalization(),
        L.GroupNormalization(draw(st.sampled_from(groups))),
        L.UnitNormalization(),
    ]
    return kinds[draw(st.integers(0, len(kinds) - 1))](x)


def _activation(draw: Draw, pool: list[Any]) -> Any:
    kinds = {
        "elu": L.ELU,
        "prelu": lambda: L.PReLU(shared_axes=draw(st.sampled_from([None, [1, 2, 3]]))),
        "softmax": lambda: L.Softmax(axis=draw(st.sampled_from([1, -1]))),
        "named": lambda: L.Activation(draw(_ACTIVATIONS)),
        "identity": L.Identity,
        "penalty": lambda: L.ActivityRegularization(l2=0.1),
        "dropout": lambda: L.AlphaDropout(0.1),
        "floor": lambda: L.ReLU(max_value=6.0, negative_slope=0.1, threshold=0.2),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()(pick(draw, pool))


def _window(draw: Draw, pool: list[Any]) -> Any:
    """Larger and small again."""
    x = pick(draw, pool)
    if draw(st.booleans()):
        return L.Cropping3D(1)(L.ZeroPadding3D(1)(x))
    return L.TimeDistributed(L.AveragePooling2D(2))(L.UpSampling3D((1, 2, 2))(x))


def _merge(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    partners = [t for t in pool if t.shape == x.shape and t is not x]
    y = draw(st.sampled_from(partners)) if partners else L.Conv3D(x.shape[-1], 1)(pick(draw, pool))
    return draw(st.sampled_from([L.Add, L.Multiply, L.Maximum, L.Minimum, L.Average, L.Subtract]))()([x, y])


def _concatenate(draw: Draw, pool: list[Any]) -> Any:
    return L.Concatenate()([pick(draw, pool) for _ in range(draw(st.integers(2, 3)))])


def _gate(draw: Draw, pool: list[Any]) -> Any:
    """Squeeze and excitation over a volume, its shape written out or not."""
    x = pick(draw, pool)
    channels = x.shape[-1]
    gate = L.Dense(channels, "sigmoid")(L.Dense(draw(_WIDTHS), "relu")(L.GlobalAveragePooling3D()(x)))
    return (
        x * ops.reshape(gate, (-1, 1, 1, 1, channels))
        if draw(st.booleans())
        else L.Multiply()([x, L.Reshape((1, 1, 1, channels))(gate)])
    )


def _reshaped(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    _, time, height, width, channels = x.shape
    kinds = {
        "rows": lambda: L.Reshape((time, height, width, -1))(L.Reshape((time, height * width, channels))(x)),
        "flat": lambda: L.Reshape((time, height, width, channels))(L.Flatten()(x)),
        "turned": lambda: L.Permute((2, 1, 3, 4))(L.Conv3D(draw(_WIDTHS), 1)(L.Permute((2, 1, 3, 4))(x))),
        "moved": lambda: ops.moveaxis(ops.moveaxis(x, -1, 1), 1, -1),
        "split": lambda: ops.concatenate(ops.split(x, [1], axis=-1)[::-1], axis=-1),
        "time apart": lambda: ops.concatenate([x[:, :1], ops.tanh(x[:, 1:])], axis=1),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


def _nested(draw: Draw, pool: list[Any]) -> Any:
    return nested(draw, pool, [_conv, _frames, _norm, _merge, _recurrent])


_STEPS = [
    _conv,
    _conv,
    _transposed,
    _frames,
    _frames,
    _recurrent,
    _norm,
    _activation,
    _window,
    _merge,
    _merge,
    _concatenate,
    _gate,
    _reshaped,
    _nested,
]
