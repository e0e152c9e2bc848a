"""Random small functional graphs out of all covered layers, for Hypothesis: `model(data.draw)` in a test.

Keras draws seeds with `random`, which Hypothesis refuses inside a strategy; so the model is built in the test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from hypothesis import strategies as st
from keras import layers as L

from tests.graphs import randomized
from tests.random_operations import elementwise

Draw = Callable[[st.SearchStrategy[Any]], Any]
Step = Callable[[Draw, list[Any]], Any]
_WIDTHS = st.sampled_from([2, 3, 4, 6])
_ACTIVATIONS = st.sampled_from(["linear", "relu", "tanh", "gelu", "softmax", "silu"])


def model(draw: Draw) -> keras.Model:
    """A model of 3 to 8 random steps on images of 4x4 or 5x6, with one to three outputs."""
    keras.backend.clear_session()
    height, width = draw(st.sampled_from([(4, 4), (5, 6)]))
    inputs = [keras.Input((height, width, draw(_WIDTHS))) for _ in range(draw(st.integers(1, 2)))]
    pool: list[Any] = list(inputs)
    for _ in range(draw(st.integers(3, 8))):
        step = draw(st.sampled_from(_STEPS))
        pool.append(step(draw, pool))
    used = {id(t) for t in inputs}
    ends = [tensor for tensor in pool[-3:] if id(tensor) not in used]
    heads = [_head(draw, tensor) for tensor in ends[: draw(st.integers(1, 3))]]
    heads.append(_head(draw, L.Concatenate()([_pooled(draw, t) for t in [*inputs, *ends]])))
    return randomized(keras.Model(inputs, heads), draw(st.integers(0, 1000)))


def pick(draw: Draw, pool: list[Any]) -> Any:
    """One of the pool."""
    # Late tensors are taken more often: long chains find more than wide ones.
    return pool[max(draw(st.integers(0, len(pool) - 1)), draw(st.integers(0, len(pool) - 1)))]


def _pooled(draw: Draw, x: Any) -> Any:
    return draw(st.sampled_from([L.GlobalAveragePooling2D, L.GlobalMaxPooling2D]))()(x)


def _head(draw: Draw, x: Any) -> Any:
    if len(x.shape) == 4 and draw(st.booleans()):
        x = L.Flatten()(x)
    elif len(x.shape) == 4:
        x = _pooled(draw, x)
    if draw(st.booleans()):
        x = L.Dense(draw(_WIDTHS), activation=draw(_ACTIVATIONS))(x)
    return L.Dense(2)(x)


def _conv(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, x.shape[-1]) if x.shape[-1] % g == 0]))
    filters = groups * draw(st.sampled_from([1, 2, 3]))
    size, dilation = draw(st.sampled_from([(1, 1), (2, 1), (3, 1), (3, 2)]))
    return L.Conv2D(
        filters,
        size,
        padding="same",
        dilation_rate=dilation,
        groups=groups,
        use_bias=draw(st.booleans()),
        activation=draw(_ACTIVATIONS),
    )(x)


def _depthwise(draw: Draw, pool: list[Any]) -> Any:
    return L.DepthwiseConv2D(3, padding="same", depth_multiplier=draw(st.integers(1, 2)))(pick(draw, pool))


def _separable(draw: Draw, pool: list[Any]) -> Any:
    multiplier = draw(st.integers(1, 2))
    return L.SeparableConv2D(draw(_WIDTHS), 3, padding="same", depth_multiplier=multiplier)(pick(draw, pool))


def _transposed(draw: Draw, pool: list[Any]) -> Any:
    return L.Conv2DTranspose(draw(_WIDTHS), draw(st.sampled_from([1, 2, 3])), padding="same")(pick(draw, pool))


def _dense(draw: Draw, pool: list[Any]) -> Any:
    return L.Dense(draw(_WIDTHS), activation=draw(_ACTIVATIONS))(pick(draw, pool))


def _norm(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    return L.BatchNormalization(axis=draw(st.sampled_from([-1, 3])), scale=draw(st.booleans()))(x)


def _activation(draw: Draw, pool: list[Any]) -> Any:
    layers: dict[str, Any] = {
        "elu": L.ELU,
        "identity": L.Identity,
        "noise": lambda: L.GaussianNoise(0.1),
        "spatial dropout": lambda: L.SpatialDropout2D(0.5),
        "relu": L.ReLU,
        "prelu": L.PReLU,
        "prelu_shared": lambda: L.PReLU(shared_axes=[1, 2]),
        "leaky": L.LeakyReLU,
        "softmax": lambda: L.Softmax(axis=draw(st.sampled_from([1, -1]))),
        "dropout": lambda: L.Dropout(0.5),
    }
    return layers[draw(st.sampled_from(sorted(layers)))]()(pick(draw, pool))


def _elementwise(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    return elementwise(draw, x, draw(st.sampled_from([t for t in pool if t.shape == x.shape])))


def _merge(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    partners = [t for t in pool if t.shape == x.shape and t is not x]
    y = draw(st.sampled_from(partners)) if partners else L.Conv2D(x.shape[-1], 1)(pick(draw, pool))
    return draw(st.sampled_from([L.Add, L.Multiply, L.Maximum, L.Average, L.Subtract]))()([x, y])


def _concatenate(draw: Draw, pool: list[Any]) -> Any:
    return L.Concatenate()([pick(draw, pool) for _ in range(draw(st.integers(2, 3)))])


def _gate(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    channels = x.shape[-1]
    gate = L.Dense(channels, "sigmoid")(_pooled(draw, x))
    return L.Multiply()([x, L.Reshape((1, 1, draw(st.sampled_from([channels, -1]))))(gate)])


def _window(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    _, h, w, _ = x.shape
    kinds = {
        "maxima": lambda: L.MaxPooling2D(3, 1, padding="same")(x),
        "averages": lambda: L.AveragePooling2D(3, 1, padding="same")(x),
        "margins": lambda: L.Cropping2D(1)(L.ZeroPadding2D(1)(x)),
        "larger": lambda: L.AveragePooling2D(2)(L.UpSampling2D(2)(x)),
        "adaptive": lambda: L.UpSampling2D((h // 2, 1))(L.AdaptiveAveragePooling2D((2, w))(x)) if h == 4 else x,
        "adaptive maxima": lambda: L.AdaptiveMaxPooling2D((h, w))(L.ZeroPadding2D(1)(x)),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


def _there_and_back(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    kind = draw(st.sampled_from(["flatten", "rows", "permute", "split"]))
    _, h, w, c = x.shape
    if kind == "flatten":
        return L.Reshape((h, w, c))(L.Flatten()(x))
    if kind == "rows":
        return L.Reshape((h, w, -1))(L.Reshape((h * w, c))(x))
    if kind == "permute":
        return L.Permute((2, 3, 1))(L.Permute((3, 1, 2))(x))
    groups = 2 if c % 2 == 0 else 1
    return L.Reshape((h, w, c))(L.Permute((1, 2, 4, 3))(L.Reshape((h, w, groups, -1))(x)))


def _shared(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    layer = L.Conv2D(draw(_WIDTHS), 3, padding="same")
    partners = [t for t in pool if t.shape == x.shape]
    return L.Concatenate()([layer(x), layer(draw(st.sampled_from(partners)))])


def nested(draw: Draw, pool: list[Any], steps: list[Step]) -> Any:
    """A tensor of the pool through a model of two of these steps."""
    x = pick(draw, pool)
    inner = keras.Input(x.shape[1:])
    pooled = [inner]
    for _ in range(2):
        pooled.append(draw(st.sampled_from(steps))(draw, pooled))
    return keras.Model(inner, pooled[-1])(x)


def _nested(draw: Draw, pool: list[Any]) -> Any:
    return nested(draw, pool, [_conv, _norm, _merge])


def _attention(draw: Draw, pool: list[Any]) -> Any:
    query, value = pick(draw, pool), pick(draw, pool)
    layer = L.MultiHeadAttention(
        draw(st.integers(1, 3)),
        draw(st.integers(1, 4)),
        value_dim=draw(st.sampled_from([None, 2, 3])),
        use_bias=draw(st.booleans()),
        use_gate=draw(st.booleans()),
        output_shape=draw(st.sampled_from([None, 4])),
        attention_axes=draw(st.sampled_from([None, 1, 2])),
    )
    return layer(query, value)


def _grouped_attention(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    _, h, w, c = x.shape
    few, times = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    rows = L.Reshape((h * w, c))(x)
    rows = L.GroupQueryAttention(draw(st.integers(1, 3)), few * times, few, use_gate=draw(st.booleans()))(rows, rows)
    return L.Reshape((h, w, c))(rows)


def _mixing_norm(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    groups = [g for g in (1, 2, 3, -1) if x.shape[-1] % g == 0]
    kinds = [
        L.LayerNormalization(axis=draw(st.sampled_from([-1, [1, 2, 3]])), scale=draw(st.booleans())),
        L.RMSNormalization(),
        L.UnitNormalization(),
        L.GroupNormalization(draw(st.sampled_from(groups)), center=draw(st.booleans())),
    ]
    return draw(st.sampled_from(kinds))(x)


def _product(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    other = L.Dense(x.shape[-1])(_pooled(draw, pick(draw, pool)))
    likeness = L.Dot(axes=-1, normalize=draw(st.booleans()))([_pooled(draw, x), other])
    return L.Multiply()([x, L.Reshape((1, 1, x.shape[-1]))(L.Dense(x.shape[-1], "sigmoid")(likeness))])


_STEPS = [
    _attention,
    _grouped_attention,
    _mixing_norm,
    _product,
    _conv,
    _conv,
    _depthwise,
    _separable,
    _transposed,
    _dense,
    _norm,
    _activation,
    _elementwise,
    _merge,
    _merge,
    _concatenate,
    _gate,
    _window,
    _there_and_back,
    _shared,
    _nested,
]
