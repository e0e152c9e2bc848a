"""Random small functional graphs on sequences, for Hypothesis: recurrence, attention, einsum, wrappers, `keras.ops`.

`model(data.draw)` in a test, as in `tests.random_graphs`; every tensor in between has the axes (batch, time, features).
There are more steps than heads: with as many, Keras adds a bias of shape (heads, 1) along the steps.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers as L
from keras import ops

from tests.graphs import randomized
from tests.random_graphs import Draw, nested, pick
from tests.random_operations import elementwise

_WIDTHS = st.sampled_from([2, 3, 4, 6])
_ACTIVATIONS = st.sampled_from(["linear", "relu", "tanh", "gelu", "softmax", "sigmoid"])


def model(draw: Draw) -> keras.Model:
    """A model of 3 to 7 random steps on one or two inputs, numbers or tokens, with two or three outputs."""
    keras.backend.clear_session()
    inputs = [_entrance(draw) for _ in range(draw(st.integers(1, 2)))]
    pool = [tensor for _, tensor in inputs]
    for _ in range(draw(st.integers(3, 7))):
        pool.append(draw(st.sampled_from(_STEPS))(draw, pool))
    heads = [L.Dense(2)(_flat(draw, tensor)) for tensor in pool[-draw(st.integers(1, 2)) :]]
    heads.append(L.Dense(2)(L.Concatenate()([_flat(draw, tensor) for tensor in [*pool[: len(inputs)], *pool[-3:]]])))
    return randomized(keras.Model([entrance for entrance, _ in inputs], heads), draw(st.integers(0, 1000)))


def _entrance(draw: Draw) -> tuple[Any, Any]:
    steps = draw(st.sampled_from([8, 9]))
    if draw(st.booleans()):
        tokens = keras.Input((steps,), dtype="int32")
        return tokens, L.Embedding(7, draw(_WIDTHS))(tokens)
    numbers = keras.Input((steps, draw(_WIDTHS)))
    return numbers, numbers


def _flat(draw: Draw, x: Any) -> Any:
    kind = draw(st.sampled_from([L.GlobalAveragePooling1D, L.GlobalMaxPooling1D, L.Flatten, L.LSTM, L.GRU]))
    return kind(draw(_WIDTHS))(x) if kind in (L.LSTM, L.GRU) else kind()(x)


def _like(draw: Draw, pool: list[Any], x: Any) -> Any:
    """A tensor of the shape of `x`: one that is there, or a dense layer on one with as many steps."""
    partners = [t for t in pool if t.shape == x.shape and t is not x]
    if partners and draw(st.booleans()):
        return draw(st.sampled_from(partners))
    return L.Dense(x.shape[-1])(draw(st.sampled_from([t for t in pool if t.shape[1] == x.shape[1]])))


def _recurrent(draw: Draw, pool: list[Any]) -> Any:
    options: dict[str, Any] = {"return_sequences": True, "use_bias": draw(st.booleans())}
    kind = draw(st.sampled_from([L.LSTM, L.GRU, L.SimpleRNN]))
    if kind is L.GRU:
        options["reset_after"] = draw(st.booleans())
    layer = kind(draw(_WIDTHS), **options)
    if draw(st.booleans()):
        layer = L.Bidirectional(layer, merge_mode=draw(st.sampled_from(["concat", "sum", "mul", "ave"])))
    return layer(pick(draw, pool))


def _states(draw: Draw, pool: list[Any]) -> Any:
    width = draw(_WIDTHS)
    _, *states = draw(st.sampled_from([L.LSTM, L.GRU]))(width, return_state=True)(pick(draw, pool))
    layer = L.LSTM if len(states) == 2 else L.GRU
    return layer(width, return_sequences=True)(pick(draw, pool), initial_state=states)


def _conv(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    groups = draw(st.sampled_from([g for g in (1, 1, 2, x.shape[-1]) if x.shape[-1] % g == 0]))
    return L.Conv1D(
        groups * draw(st.sampled_from([1, 2, 3])),
        draw(st.sampled_from([1, 3])),
        padding=draw(st.sampled_from(["same", "causal"])),
        dilation_rate=draw(st.integers(1, 2)),
        groups=groups,
        activation=draw(_ACTIVATIONS),
    )(x)


def _transposed(draw: Draw, pool: list[Any]) -> Any:
    return L.Conv1DTranspose(draw(_WIDTHS), draw(st.integers(1, 3)), padding="same")(pick(draw, pool))


def _elementwise(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    return elementwise(draw, x, _like(draw, pool, x))


def _depthwise(draw: Draw, pool: list[Any]) -> Any:
    x, multiplier = pick(draw, pool), draw(st.integers(1, 2))
    if draw(st.booleans()):
        return L.DepthwiseConv1D(3, padding="same", depth_multiplier=multiplier)(x)
    return L.SeparableConv1D(draw(_WIDTHS), 3, padding="same", depth_multiplier=multiplier)(x)


def _dense(draw: Draw, pool: list[Any]) -> Any:
    layer = L.Dense(draw(_WIDTHS), activation=draw(_ACTIVATIONS))
    x = pick(draw, pool)
    return L.TimeDistributed(layer)(x) if draw(st.booleans()) else layer(x)


def _frames(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    inner = keras.Sequential([keras.Input((x.shape[-1],)), L.Dense(draw(_WIDTHS), "relu"), L.Dense(draw(_WIDTHS))])
    return L.TimeDistributed(inner)(x)


def _shared(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    layer = L.Dense(draw(_WIDTHS), "tanh")
    return L.Concatenate()([layer(x), layer(_like(draw, pool, x))])


def _norm(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    kinds = [
        L.BatchNormalization(),
        L.BatchNormalization(scale=False),
        L.LayerNormalization(),
        L.RMSNormalization(),
        L.GroupNormalization(groups=-1),
        L.GroupNormalization(groups=1),
    ]
    return kinds[draw(st.integers(0, len(kinds) - 1))](x)


def _attention(draw: Draw, pool: list[Any]) -> Any:
    x, y = pick(draw, pool), pick(draw, pool)
    width = draw(_WIDTHS)
    if draw(st.booleans()):
        return L.MultiHeadAttention(
            draw(st.integers(1, 3)),
            draw(st.integers(1, 3)),
            value_dim=draw(st.sampled_from([None, 2, 4])),
            output_shape=draw(st.sampled_from([None, width])),
            use_bias=draw(st.booleans()),
        )(x, y)
    groups = draw(st.integers(1, 2))
    return L.GroupQueryAttention(draw(st.integers(1, 3)), groups * draw(st.integers(1, 2)), groups)(x, x, x)


def _scores(draw: Draw, pool: list[Any]) -> Any:
    x, y = pick(draw, pool), pick(draw, pool)
    width, out = draw(_WIDTHS), draw(_WIDTHS)
    q, k, v = L.Dense(width)(x), L.Dense(width)(y), L.Dense(out)(y)
    kind = draw(st.sampled_from(["layer", "additive", "dot", "matmul"]))
    if kind == "layer":
        return L.Attention(use_scale=draw(st.booleans()))([q, v, k])
    if kind == "additive":
        return L.AdditiveAttention()([q, v, k])
    if kind == "dot":
        return L.Dot(axes=(2, 1))([L.Softmax()(L.Dot(axes=2)([q, k])), v])
    return ops.matmul(ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 2.4), v)


def _einsum(draw: Draw, pool: list[Any]) -> Any:
    x, width = pick(draw, pool), draw(_WIDTHS)
    kind = draw(st.sampled_from(["plain", "there and back", "scale", "dots"]))
    if kind == "plain":
        return L.EinsumDense("abc,cd->abd", output_shape=(x.shape[1], width), bias_axes="d", activation="tanh")(x)
    if kind == "there and back":
        bias, steps = draw(st.sampled_from(["de", "e"])), x.shape[1]
        y = L.EinsumDense("abc,cde->abde", output_shape=(steps, 2, width), bias_axes=bias)(x)
        return L.EinsumDense("abde,def->abf", output_shape=(x.shape[1], draw(_WIDTHS)))(y)
    if kind == "scale":
        return L.EinsumDense("abc,c->abc", output_shape=tuple(x.shape[1:]))(x)
    return L.EinsumDense("...x,xy->...y", output_shape=width, bias_axes="y")(x)


def _merge(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    return draw(st.sampled_from([L.Add, L.Multiply, L.Maximum, L.Average, L.Subtract]))()([x, _like(draw, pool, x)])


def _concatenate(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    axis = draw(st.sampled_from([-1, -1, 1]))
    if axis == 1:
        return L.Concatenate(axis=1)([x, _like(draw, pool, x)])
    return ops.concatenate([x, draw(st.sampled_from([t for t in pool if t.shape[1] == x.shape[1]]))], axis=-1)


def _slice(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    width = x.shape[-1]
    kind = draw(st.sampled_from(["first", "rest", "stride", "reversed", "time", "split", "parts"]))
    if kind == "first":
        return x[..., : max(1, width // 2)]
    if kind == "rest":
        return x[..., width // 3 :]
    if kind == "stride":
        return x[:, :, ::2]
    if kind == "reversed":
        return x[..., ::-1]
    if kind == "time" and x.shape[1] > 5:
        return x[:, 1:]
    if kind == "split" and width % 2 == 0:
        a, b = ops.split(x, 2, axis=-1)
        return draw(st.sampled_from([lambda: a * b, lambda: ops.concatenate([b, a], axis=-1), lambda: b]))()
    a, b = ops.split(x, [1], axis=-1)
    return ops.concatenate([L.Dense(draw(_WIDTHS))(b), a], axis=-1)


def _arithmetic(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    y = _like(draw, pool, x)
    steps = {
        "affine": lambda: x * 2.0 + 1.0,
        "difference": lambda: ops.sigmoid(x) - y / 3.0,
        "where": lambda: ops.where(x > 0.1, ops.tanh(y), -x),
        "maximum": lambda: ops.maximum(x, 0.5 * y),
        "absolute": lambda: ops.abs(x) + ops.square(ops.tanh(y)),
        "gate": lambda: x * ops.sigmoid(ops.mean(y, axis=1, keepdims=True)),
        "vector": lambda: x * ops.convert_to_tensor([0.5 + i for i in range(x.shape[-1])], dtype=x.dtype),
        "clip": lambda: ops.clip(x, -1.0, 1.0),
    }
    return steps[draw(st.sampled_from(sorted(steps)))]()


def _reshaped(draw: Draw, pool: list[Any]) -> Any:
    x = pick(draw, pool)
    _, steps, width = x.shape
    kinds = {
        "flatten": lambda: ops.reshape(ops.reshape(x, (-1, steps * width)), (-1, steps, width)),
        "merge time": lambda: L.Reshape((steps // 2, -1))(x) if steps in (8, 10) else ops.negative(x),
        "time mixing": lambda: L.Permute((2, 1))(L.Dense(draw(_WIDTHS))(L.Permute((2, 1))(x))),
        "transposed": lambda: ops.transpose(ops.tanh(ops.swapaxes(x, 1, 2)), (0, 2, 1)),
        "moved": lambda: ops.moveaxis(ops.moveaxis(x, 1, 2), 2, 1),
        "repeated": lambda: L.RepeatVector(7)(_flat(draw, x)),
        "tile": lambda: ops.tile(x, (1, 1, 2)),
        "repeat": lambda: ops.repeat(x, 2, axis=draw(st.sampled_from([1, -1]))),
        "stack": lambda: L.Reshape((steps, -1))(ops.stack([x, ops.flip(x, draw(st.sampled_from([1, 2])))], axis=2)),
        "pad": lambda: ops.pad(x, [[0, 0], [1, 0], [0, draw(st.integers(0, 1))]]),
        "roll": lambda: ops.roll(x, 1, axis=draw(st.sampled_from([1, -1]))),
        "squeeze": lambda: ops.squeeze(ops.expand_dims(x, 1), 1),
        "window": lambda: L.AveragePooling1D(2, 1, padding="same")(L.Cropping1D(1)(L.ZeroPadding1D(1)(x))),
        "upsampled": lambda: L.UpSampling1D(2)(x),
        "pooled": lambda: L.MaxPooling1D(3, 1, padding="same")(L.SpatialDropout1D(0.2)(x)),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


def _operation(draw: Draw, pool: list[Any]) -> Any:
    """Operations that look along axes, meet constants or cut and turn tensors."""
    x = pick(draw, pool)
    _, steps, width = x.shape
    axis = draw(st.sampled_from([1, 2]))
    numbers = np.random.default_rng(width).normal(0.2, 0.6, (width, draw(_WIDTHS)))
    vector = np.linspace(0.5, 1.5, width)
    kinds = {
        "softmax": lambda: ops.softmax(x, axis),
        "shares": lambda: L.Softmax(axis=[1, 2])(x) + L.Activation("log_softmax")(x),
        "layer norm": lambda: ops.layer_normalization(x, vector, _like(draw, pool, x)),
        "rms norm": lambda: ops.rms_normalization(x, axis=draw(st.sampled_from([1, 2, (1, 2)]))),
        "batch norm": lambda: ops.batch_normalization(x, vector, vector**2, -1, scale=vector[::-1]),
        "standard": lambda: _standard(x, draw(st.sampled_from([1, 2, [1, 2]]))),
        "running": lambda: draw(st.sampled_from([ops.cumsum, ops.cumprod]))(ops.tanh(x), axis),
        "quantile": lambda: x - ops.quantile(x, 0.4, axis, keepdims=True),
        "matrix": lambda: ops.matmul(x, numbers),
        "rows": lambda: ops.matmul(np.linspace(-1.0, 1.0, 8 * steps).reshape(8, steps), x),
        "tensordot": lambda: ops.tensordot(x, numbers, 1) + ops.inner(x, numbers.T),
        "ellipsis": lambda: ops.einsum("...sd,...td->...st", x, _like(draw, pool, x)),
        "distances": lambda: ops.cdist(x, _like(draw, pool, x)),
        "stacked": lambda: ops.dstack([x, ops.fliplr(x)]),
        "parts": lambda: ops.append(*ops.array_split(x, 2, axis)[::-1], axis=axis),
        "turned": lambda: ops.rot90(ops.rot90(x, draw(st.sampled_from([1, 3])), (1, 2)), 3, (2, 1)),
        "places": lambda: ops.take_along_axis(x, ops.argsort(x, 1), 1) + ops.take_along_axis(x, ops.argsort(x, 2), 2),
        "largest": lambda: ops.swapaxes(ops.top_k(ops.swapaxes(x, 1, 2), 6)[0], 1, 2),
        "unstacked": lambda: ops.stack(ops.unstack(x, axis=axis)[::-1], axis=axis),
        "waves": lambda: ops.swapaxes(ops.rfft(ops.swapaxes(ops.pad(x, [[0, 0], [0, 8], [0, 0]]), 1, 2))[0], 1, 2),
        "chosen": lambda: ops.select([x > 0.2], [_like(draw, pool, x)], 0.5),
        "kernel": lambda: ops.conv(x, np.linspace(-1.0, 1.0, 9 * width).reshape(3, width, 3), padding="same"),
        "blur": lambda: ops.depthwise_conv(x, np.linspace(0.1, 0.9, 3 * width).reshape(3, width, 1), padding="same"),
    }
    y = kinds[draw(st.sampled_from(sorted(kinds)))]()
    # Between steps there are more than five of them, and more than one feature.
    return y if y.shape[1] > 5 and y.shape[2] > 1 else x


def _standard(x: Any, axes: Any) -> Any:
    mean, variance = ops.moments(x, axes, keepdims=True)
    return (x - mean) / ops.sqrt(variance + 0.1)


def _shared_heads(draw: Draw, pool: list[Any]) -> Any:
    """Heads of an EinsumDense, several of the query to one of key and value."""
    x, width, few = pick(draw, pool), draw(st.integers(2, 4)), draw(st.integers(2, 4))
    many, steps = few * draw(st.integers(1, 3)), x.shape[1]
    q, k, v = (L.EinsumDense("abc,cde->abde", (steps, heads, width))(x) for heads in (many, few, few))
    y = ops.dot_product_attention(q, k, v)
    if draw(st.booleans()):
        return L.Dense(draw(_WIDTHS))(ops.reshape(y, (-1, steps, many * width)))
    return L.EinsumDense("abde,def->abf", (steps, draw(_WIDTHS)))(y)


def _nested(draw: Draw, pool: list[Any]) -> Any:
    return nested(draw, pool, [_dense, _norm, _merge, _recurrent])


_STEPS = [
    _recurrent,
    _recurrent,
    _states,
    _conv,
    _transposed,
    _elementwise,
    _depthwise,
    _dense,
    _frames,
    _shared,
    _norm,
    _attention,
    _attention,
    _scores,
    _einsum,
    _merge,
    _merge,
    _concatenate,
    _slice,
    _slice,
    _arithmetic,
    _operation,
    _operation,
    _operation,
    _shared_heads,
    _reshaped,
    _reshaped,
    _nested,
]
