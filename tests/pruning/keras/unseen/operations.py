"""Functional graphs in which `keras.ops` and Python's operators do the work."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tests.pruning.keras.unseen.catalogue import architecture


@architecture()
def global_response_normalisation_by_hand() -> keras.Model:
    inputs = x = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(x)
    norm = ops.sqrt(ops.sum(ops.square(x), axis=(1, 2), keepdims=True))
    scale = norm / (ops.mean(norm, axis=-1, keepdims=True) + 1e-6)
    x = x + x * scale
    return keras.Model(inputs, L.Dense(2)(ops.mean(L.Conv2D(5, 1)(x), axis=[1, 2])))


@architecture()
def attention_by_einsum() -> keras.Model:
    inputs = keras.Input((6, 5))
    q, k, v = (L.EinsumDense("btd,dhk->bthk", (None, 2, 4), bias_axes="hk")(inputs) for _ in range(3))
    scores = ops.softmax(ops.einsum("bqhk,bshk->bhqs", q, k) / 2.0)
    x = ops.einsum("bhqs,bshk->bqhk", scores, v)
    x = L.EinsumDense("bqhk,hkd->bqd", (None, 6), bias_axes="d")(x)
    return keras.Model(inputs, L.Dense(2)(L.Dense(7, activation="relu")(x)))


@architecture(quick=True)
def gated_linear_units() -> keras.Model:
    inputs = x = keras.Input((9,))
    x = L.Dense(12)(x)
    a, b = ops.split(x, 2, axis=-1)
    x = a * ops.sigmoid(b)
    x = L.Dense(10)(x)
    x = ops.glu(x, axis=-1)
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def factorisation_machine() -> keras.Model:
    user, item = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    u, i = L.Flatten()(L.Embedding(9, 6)(user)), L.Flatten()(L.Embedding(8, 6)(item))
    both = ops.stack([u, i], axis=1)
    squared = ops.square(ops.sum(both, axis=1)) - ops.sum(ops.square(both), axis=1)
    deep = L.Dense(8, activation="relu")(ops.concatenate([u, i], axis=-1))
    return keras.Model([user, item], L.Dense(1, activation="sigmoid")(ops.concatenate([squared, deep], axis=-1)))


@architecture()
def matrix_factorisation_with_dot() -> keras.Model:
    user, item = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    u = L.Dense(5, activation="relu")(L.Flatten()(L.Embedding(9, 6)(user)))
    i = L.Dense(5, activation="relu")(L.Flatten()(L.Embedding(8, 7)(item)))
    return keras.Model([user, item], L.Dot(axes=1)([u, i]))


@architecture()
def contrastive_towers() -> keras.Model:
    a, b = keras.Input((8, 8, 1)), keras.Input((6,))
    x = L.Flatten()(L.Conv2D(6, 3, activation="relu")(a))
    x, y = L.Dense(7)(x), L.Dense(7)(L.Dense(9, activation="relu")(b))
    x = ops.normalize(x, axis=-1)
    y = L.UnitNormalization()(y)
    return keras.Model([a, b], ops.sum(x * y, axis=-1, keepdims=True))


@architecture()
def instance_normalisation_by_hand() -> keras.Model:
    inputs = x = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same")(x)
    mean = ops.mean(x, axis=(1, 2), keepdims=True)
    deviation = ops.std(x, axis=(1, 2), keepdims=True)
    x = ops.leaky_relu((x - mean) / (deviation + 1e-3))
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(5, 3, activation="relu")(x))))


@architecture()
def max_out() -> keras.Model:
    inputs = x = keras.Input((7,))
    x = L.Dense(12)(x)
    x = ops.max(ops.reshape(x, (-1, 4, 3)), axis=-1)
    x = L.Dense(10, activation="relu")(x)
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def space_to_depth_stem() -> keras.Model:
    inputs = x = keras.Input((8, 8, 3))
    x = ops.concatenate([x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]], axis=-1)
    x = L.Conv2D(8, 3, padding="same", activation="silu")(x)
    a, b = L.Conv2D(5, 1, activation="silu")(x), L.Conv2D(5, 1, activation="silu")(x)
    pooled = [b, *[L.MaxPooling2D(size, strides=1, padding="same")(b) for size in (3, 5)]]
    x = ops.concatenate([a, *pooled], axis=-1)
    return keras.Model(inputs, L.Dense(2)(ops.max(L.Conv2D(6, 1)(x), axis=(1, 2))))


@architecture()
def non_local_block() -> keras.Model:
    inputs = x = keras.Input((4, 4, 3))
    x = L.Conv2D(8, 3, padding="same", activation="relu")(x)
    q, k, v = (L.Reshape((16, 4))(L.Conv2D(4, 1)(x)) for _ in range(3))
    scores = L.Softmax()(L.Dot(axes=2)([q, k]))
    y = L.Reshape((4, 4, 4))(L.Dot(axes=(2, 1))([scores, v]))
    x = L.Add()([x, L.Conv2D(8, 1)(y)])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))


@architecture()
def capsules_by_matmul() -> keras.Model:
    inputs = x = keras.Input((6, 6, 1))
    x = L.Conv2D(8, 3, activation="relu")(x)
    x = ops.reshape(x, (-1, 16, 8))
    x = ops.matmul(x, ops.transpose(x, (0, 2, 1)))
    x = L.Dense(6, activation="relu")(x)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))


@architecture()
def weight_normalised_by_hand() -> keras.Model:
    inputs = x = keras.Input((7,))
    x = L.Dense(9, use_bias=False, kernel_constraint=keras.constraints.UnitNorm())(x)
    x = x * ops.convert_to_tensor(np.linspace(0.5, 1.5, 9, dtype="float32"))
    x = ops.relu(x)
    return keras.Model(inputs, L.Dense(3)(L.Dense(8, activation="relu")(x)))


@architecture()
def permuted_twice_and_flattened() -> keras.Model:
    inputs = x = keras.Input((4, 6, 2))
    x = L.Conv2D(5, 3, padding="same", activation="relu")(x)
    x = ops.transpose(x, (0, 3, 1, 2))
    x = ops.reshape(x, (-1, 5, 24))
    x = L.Permute((2, 1))(x)
    x = L.Flatten()(L.Conv1D(4, 3, activation="relu")(x))
    x = L.Reshape((2, -1))(L.Dense(6, activation="relu")(x))
    return keras.Model(inputs, L.Dense(2)(ops.swapaxes(x, 1, 2)[:, :, 0]))


@architecture()
def slices_and_padding() -> keras.Model:
    inputs = x = keras.Input((10, 3))
    x = L.Conv1D(8, 3, padding="same", activation="relu")(x)
    a, b, c = x[..., :2], x[..., 2:5], x[..., -3:]
    left, right = ops.pad(a, [[0, 0], [1, 0], [0, 0]])[:, :-1], ops.pad(c, [[0, 0], [0, 1], [0, 0]])[:, 1:]
    x = ops.concatenate([left, b, right], axis=-1)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Conv1D(5, 3, activation="relu")(x))))


@architecture(zero=False)
def arithmetic_on_everything() -> keras.Model:
    inputs = x = keras.Input((6,))
    x = L.Dense(8)(x)
    y = ops.exp(-ops.abs(x)) + ops.log1p(ops.relu(x))
    z = ops.where(x > 0, y, 0.5 * x) ** 2.0
    z = ops.clip(z, 0.0, 6.0) / (1.0 + ops.square(x))
    return keras.Model(inputs, L.Dense(2)(L.Dense(7, activation="softsign")(z)))


@architecture()
def gather_and_top_of_a_sequence() -> keras.Model:
    inputs = keras.Input((8, 4))
    x = L.Conv1D(6, 3, padding="same", activation="relu")(inputs)
    last = ops.take(x, -1, axis=1)
    best = ops.max(x, axis=1)
    return keras.Model(inputs, L.Dense(2)(ops.concatenate([last, best], axis=-1)))


@architecture()
def averaged_and_rolled() -> keras.Model:
    inputs = x = keras.Input((8, 8, 2))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = ops.roll(x, 1, axis=1) + ops.flip(x, axis=2)
    x = ops.average_pool(x, 2)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Conv2D(5, 3, activation="relu")(x))))


@architecture()
def convolution_by_operations() -> keras.Model:
    inputs = x = keras.Input((8, 8, 2))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(x)
    blur = np.ones((3, 3, 6, 1), "float32") / 9
    x = ops.depthwise_conv(x, blur, padding="same")
    x = ops.image.resize(x, (4, 4))
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Conv2D(5, 1, activation="relu")(x))))


@architecture(quick=True)
def patches_and_windows() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = L.Dense(12, activation="relu")(ops.image.extract_patches(inputs, 4))
    y = ops.transpose(ops.reshape(x, (-1, 2, 2, 2, 2, 12)), (0, 1, 3, 2, 4, 5))
    y = L.MultiHeadAttention(2, 4)(ops.reshape(y, (-1, 4, 12)), ops.reshape(y, (-1, 4, 12)))
    y = ops.transpose(ops.reshape(y, (-1, 2, 2, 2, 2, 12)), (0, 1, 3, 2, 4, 5))
    x = L.Add()([x, ops.reshape(y, (-1, 4, 4, 12))])
    x = L.Add()([x, L.Dense(12)(L.Dense(18, activation="relu")(x))])
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
