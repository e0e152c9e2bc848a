"""A zoo of small Keras models, each built by a function, each with random weights that no symmetry can hide behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L

from tests.thinned import thinned

Builder = Callable[[], keras.Model]
ZOO: dict[str, Builder] = {}


def build(name: str, seed: int = 0) -> keras.Model:
    """A model of the zoo with weights drawn from `seed`."""
    keras.backend.clear_session()
    return randomized(ZOO[name](), seed)


def randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """Draw every weight anew: kernels He-scaled, scales and variances in [0.5, 1.5], the rest normal with 0.3."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if np.issubdtype(np.dtype(weight.dtype), np.floating):
            weight.assign(draw(weight.path, tuple(weight.shape), rng))
    return model


def draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """One weight by its name."""
    last = name.rsplit("/", 1)[-1]
    if "gamma" in last or "variance" in last:
        return rng.uniform(0.5, 1.5, shape)
    if "kernel" in last or "embeddings" in last:
        return rng.normal(0, np.sqrt(2 / max(1, np.prod(shape[:-1]))), shape)
    return rng.normal(0, 0.3, shape)


def model(builder: Builder) -> Builder:
    ZOO[builder.__name__] = builder
    return builder


def _bn_relu(x: Any) -> Any:
    return L.ReLU()(L.BatchNormalization()(x))


def conv(x: Any, filters: int, size: int = 3, **options: Any) -> Any:
    return L.Conv2D(filters, size, padding="same", **options)(x)


def head(x: Any, classes: int = 3) -> Any:
    return L.Dense(classes, activation="softmax")(L.GlobalAveragePooling2D()(x))


@model
def dense_stack() -> keras.Model:
    return keras.Sequential(
        [keras.Input((5,)), L.Dense(7, "relu"), L.Dropout(0.2), L.Dense(6, "tanh"), L.Dense(3, "softmax")]
    )


@model
def lenet() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            L.Rescaling(1 / 255),
            L.Conv2D(6, 5, padding="same", activation="tanh"),
            L.AveragePooling2D(2),
            L.Conv2D(8, 3, activation="tanh"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(12, "relu"),
            L.Dense(10, "softmax"),
        ]
    )


@model
def built_without_input() -> keras.Model:
    model = keras.Sequential([L.Conv2D(4, 3), L.BatchNormalization(), L.Flatten(), L.Dense(2)])
    model.build((None, 6, 6, 2))
    return model


@model
def residual() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3))
    x = y = _bn_relu(conv(x, 6))
    x = L.BatchNormalization()(conv(_bn_relu(conv(x, 7)), 6))
    x = y = L.ReLU()(L.Add()([x, y]))
    x = L.BatchNormalization()(conv(_bn_relu(conv(x, 8, strides=2)), 9))
    x = L.Add()([x, conv(y, 9, 1, strides=2)])
    return keras.Model(inputs, head(x))


@model
def residual_on_input() -> keras.Model:
    inputs = keras.Input((6, 6, 4))
    x = L.Add()([inputs, conv(inputs, 4)])
    return keras.Model(inputs, head(conv(x, 5)))


@model
def dense_blocks() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = conv(x, 5)
    for _ in range(3):
        x = L.Concatenate()([x, conv(_bn_relu(x), 3)])
    return keras.Model(inputs, head(_bn_relu(x)))


@model
def inception() -> keras.Model:
    inputs = keras.Input((7, 7, 3))
    x = conv(inputs, 4)
    branches = [conv(x, 3, 1), conv(conv(x, 4, 1), 5), L.AveragePooling2D(3, 1, "same")(x), conv(x, 2, 5)]
    x = L.Concatenate(axis=-1)(branches)
    return keras.Model(inputs, head(conv(x, 4)))


@model
def concatenate_into_flatten() -> keras.Model:
    inputs = keras.Input((4, 5, 2))
    x = L.Concatenate()([conv(inputs, 3), conv(inputs, 4)])
    return keras.Model(inputs, L.Dense(3)(L.Dense(6, "relu")(L.Flatten()(x))))


@model
def concatenate_into_sum() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    x = L.Concatenate()([conv(inputs, 3), conv(inputs, 4)])
    x = L.Add()([x, conv(inputs, 7)])
    return keras.Model(inputs, head(conv(x, 5)))


@model
def concatenate_other_axes() -> keras.Model:
    inputs = keras.Input((4, 6, 2))
    x = L.Concatenate(axis=1)([conv(inputs, 5), conv(inputs, 5)])
    x = L.Concatenate(axis=2)([x, conv(x, 5)])
    return keras.Model(inputs, head(x))


@model
def concatenate_with_input() -> keras.Model:
    inputs = keras.Input((5, 5, 2))
    x = L.Concatenate()([inputs, conv(inputs, 4), inputs])
    return keras.Model(inputs, head(conv(_bn_relu(x), 5)))


@model
def mobile_net() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3))
    x = L.ReLU(max_value=6.0)(L.BatchNormalization()(conv(x, 4, strides=2)))
    for filters, strides in ((6, 1), (6, 2)):
        y = _bn_relu(conv(x, 9, 1))
        y = L.ZeroPadding2D(((0, 1), (0, 1)))(y) if strides == 2 else y
        y = L.DepthwiseConv2D(3, strides=strides, padding="same" if strides == 1 else "valid", use_bias=False)(y)
        x = L.BatchNormalization()(conv(_bn_relu(y), filters, 1))
    return keras.Model(inputs, head(x))


@model
def depth_multiplier() -> keras.Model:
    x = inputs = keras.Input((6, 6, 2))
    x = L.DepthwiseConv2D(3, depth_multiplier=2)(conv(x, 5))
    return keras.Model(inputs, head(conv(_bn_relu(x), 4)))


@model
def separable() -> keras.Model:
    x = inputs = keras.Input((8, 8, 3))
    x = L.SeparableConv2D(5, 3, activation="relu")(x)
    x = L.SeparableConv2D(6, 3, depth_multiplier=2, strides=2, padding="same", use_bias=False)(x)
    return keras.Model(inputs, head(_bn_relu(x)))


@model
def one_dimensional() -> keras.Model:
    x = inputs = keras.Input((16, 3))
    x = L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    x = L.DepthwiseConv1D(3, depth_multiplier=2)(x)
    x = L.SeparableConv1D(5, 3, depth_multiplier=2)(L.MaxPooling1D(2)(x))
    x = L.UpSampling1D(2)(L.Cropping1D(1)(L.ZeroPadding1D(2)(x)))
    return keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling1D()(x)))


@model
def variable_length() -> keras.Model:
    x = inputs = keras.Input((None, 3))
    x = L.Conv1D(6, 3, padding="same", activation="relu")(x)
    for dilation in (1, 2):
        y = L.Conv1D(6, 3, padding="same", dilation_rate=dilation, activation="gelu")(x)
        x = L.Add()([x, y])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(L.Conv1D(5, 1)(x))))


@model
def three_dimensional() -> keras.Model:
    x = inputs = keras.Input((6, 6, 6, 2))
    x = L.Conv3D(4, 3, padding="same", activation="relu")(x)
    x = L.MaxPooling3D(2, dtype="float32")(L.ZeroPadding3D(1)(x))
    x = L.UpSampling3D(2)(L.Conv3D(3, (1, 2, 3))(x))
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Cropping3D(1)(x))))


@model
def u_net() -> keras.Model:
    inputs = keras.Input((12, 12, 2))
    a = conv(inputs, 4, activation="relu")
    b = conv(L.MaxPooling2D()(a), 6, activation="relu")
    c = L.Conv2D(7, 3, activation="relu")(L.MaxPooling2D()(b))
    x = L.Conv2DTranspose(5, 3, strides=2, activation="relu")(c)
    x = L.Concatenate()([x, L.Cropping2D(((1, 4), (0, 5)))(L.ZeroPadding2D(1)(b))])
    x = L.UpSampling2D(2, interpolation="bilinear")(conv(x, 6))
    x = L.Concatenate()([L.Cropping2D(3)(a), x])
    return keras.Model(inputs, L.Conv2D(2, 1, activation="sigmoid")(conv(x, 4)))


@model
def transposed() -> keras.Model:
    x = inputs = keras.Input((5, 6, 2))
    x = L.Conv2DTranspose(6, (3, 2), strides=(2, 3), padding="same")(x)
    x = L.Conv2DTranspose(5, 3, strides=2, output_padding=1)(_bn_relu(x))
    return keras.Model(inputs, head(conv(x, 4)))


@model
def squeeze_excite() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = conv(x, 8)
    s = L.Reshape((1, 1, 8))(L.GlobalAveragePooling2D()(x))
    s = L.Conv2D(8, 1, activation="sigmoid")(L.Conv2D(3, 1, activation="relu")(s))
    x = L.Multiply()([x, s])
    s = L.Dense(8, "hard_sigmoid")(L.Dense(4, "relu")(L.GlobalAveragePooling2D(keepdims=True)(x)))
    x = L.Multiply()([s, x])
    gate = L.Dense(8, "sigmoid")(L.GlobalMaxPooling2D()(x))
    return keras.Model(inputs, head(conv(L.Multiply()([x, gate]), 5)))


@model
def spatial_gate() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = conv(x, 6)
    x = L.Multiply()([x, conv(x, 1, activation="sigmoid")])
    return keras.Model(inputs, head(conv(x, 4)))


@model
def grouped() -> keras.Model:
    x = inputs = keras.Input((6, 6, 4))
    x = conv(x, 12)
    x = conv(_bn_relu(x), 8, groups=4)
    x = conv(_bn_relu(x), 6, groups=2)
    return keras.Model(inputs, head(conv(x, 5)))


@model
def grouped_as_depthwise() -> keras.Model:
    x = inputs = keras.Input((6, 6, 2))
    x = conv(conv(x, 6), 12, groups=6)
    return keras.Model(inputs, head(conv(x, 5)))


@model
def grouped_on_input() -> keras.Model:
    inputs = keras.Input((6, 6, 4))
    return keras.Model(inputs, head(conv(conv(inputs, 8, groups=2, activation="relu"), 5)))


@model
def channel_shuffle() -> keras.Model:
    x = inputs = keras.Input((4, 4, 3))
    x = conv(conv(x, 12), 12, groups=3)
    x = L.Reshape((4, 4, 3, 4))(x)
    x = L.Reshape((4, 4, -1))(L.Permute((1, 2, 4, 3))(x))
    x = L.DepthwiseConv2D(3, padding="same")(x)
    return keras.Model(inputs, head(conv(x, 6, groups=3)))


@model
def shared_convolution() -> keras.Model:
    a, b = keras.Input((6, 6, 3)), keras.Input((6, 6, 3))
    first, second = L.Conv2D(6, 3, padding="same", name="first"), L.Conv2D(5, 3, name="second")
    x, y = second(L.ReLU()(first(a))), second(first(b))
    return keras.Model([a, b], head(L.Concatenate()([x, y])))


@model
def shared_on_different_widths() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    shared = L.Conv2D(4, 3, padding="same")
    x = L.Subtract()([shared(conv(inputs, 5)), shared(conv(inputs, 5, 1))])
    return keras.Model(inputs, head(x))


def _block(name: str, channels: int) -> keras.Model:
    inputs = keras.Input((6, 6, channels))
    x = L.Conv2D(7, 3, padding="same", activation="relu", name="inner")(inputs)
    return keras.Model(inputs, L.BatchNormalization(name="bn")(L.Conv2D(channels, 1, name="out")(x)), name=name)


@model
def nested() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = _block("block", 5)(conv(inputs, 5))
    return keras.Model(inputs, head(conv(x, 4)))


@model
def nested_as_output() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    return keras.Model(inputs, _block("block", 5)(conv(inputs, 5)))


@model
def nested_shared() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    block = _block("block", 5)
    x = block(conv(inputs, 5))
    x = L.Add()([x, block(x)])
    return keras.Model(inputs, [head(conv(x, 4)), block(x)])


@model
def nested_twice() -> keras.Model:
    inputs = keras.Input((6, 6, 5))
    outer = keras.Model(inputs, _block("deep", 5)(conv(inputs, 5)), name="outer")
    tail = keras.Sequential([L.Flatten(), L.Dense(4, "relu"), keras.Sequential([L.Dense(3)], name="last")], name="tail")
    inputs = keras.Input((6, 6, 3))
    return keras.Model(inputs, tail(outer(conv(inputs, 5))))


@model
def nested_at_two_sizes() -> keras.Model:
    inputs = keras.Input((None, None, 5))
    block = keras.Model(inputs, conv(L.ReLU()(conv(inputs, 6)), 3, 1), name="block")
    inputs = keras.Input((6, 6, 3))
    x = conv(inputs, 5)
    return keras.Model(inputs, [head(block(x)), L.Flatten()(block(L.MaxPooling2D(2)(x)))])


@model
def masked_and_concatenated() -> keras.Model:
    tokens, numbers = keras.Input((6,), dtype="int32"), keras.Input((6, 3))
    x = L.Concatenate()([L.Embedding(9, 5, mask_zero=True)(tokens), L.Dense(6, activation="relu")(numbers)])
    x = L.LSTM(5, return_sequences=True)(x)
    return keras.Model([tokens, numbers], L.Dense(2)(L.GlobalAveragePooling1D()(x)))


@model
def functional_in_sequential() -> keras.Model:
    return keras.Sequential([keras.Input((6, 6, 5)), _block("block", 5), L.Flatten(), L.Dense(4), L.ReLU(), L.Dense(2)])


@model
def nested_many_ports() -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((5,), name="b")
    x, y = L.Dense(6, "relu")(a), L.Dense(6, "relu")(b)
    inner = keras.Model({"b": b, "a": a}, {"y": y, "sum": L.Add()([x, y])}, name="ports")
    p, q = keras.Input((3,), name="p"), keras.Input((2,), name="q")
    out = inner({"a": L.Dense(4)(p), "b": L.Dense(5)(q)})
    x = L.Dense(2)(L.Concatenate()([out["sum"], out["y"]]))
    return keras.Model({"p": p, "q": q}, {"one": x, "two": L.Dense(3)(out["y"])})


@model
def siamese() -> keras.Model:
    tower = keras.Sequential(
        [keras.Input((6, 6, 2)), L.Conv2D(5, 3, activation="relu"), L.Flatten(), L.Dense(6)], name="tower"
    )
    a, b = keras.Input((6, 6, 2)), keras.Input((6, 6, 2))
    x = L.Subtract()([tower(a), tower(b)])
    return keras.Model([a, b], L.Dense(1, "sigmoid")(L.Multiply()([x, x])))


@model
def many_ports() -> keras.Model:
    image, table = keras.Input((6, 6, 2), name="image"), keras.Input((4,), name="table")
    x = L.GlobalAveragePooling2D()(conv(image, 6, activation="relu"))
    y = L.Dense(5, "relu")(table)
    z = L.Concatenate()([x, y])
    return keras.Model([image, table], [L.Dense(2)(L.Dense(7, "elu")(z)), L.Dense(3)(x)])


@model
def hidden_output() -> keras.Model:
    inputs = keras.Input((6, 6, 2))
    x = conv(inputs, 5)
    y = conv(L.ReLU()(x), 4)
    return keras.Model(inputs, [x, head(y)])


@model
def activations() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = L.PReLU(shared_axes=[1, 2])(conv(x, 6))
    x = L.PReLU()(conv(x, 5))
    x = L.LeakyReLU(negative_slope=0.1)(conv(x, 5, activation="swish"))
    x = L.ELU()(L.Activation("softplus")(conv(x, 4, activation="selu")))
    x = L.GaussianNoise(0.1)(L.SpatialDropout2D(0.1)(L.Identity()(x)))
    return keras.Model(inputs, head(conv(x, 4, activation=keras.activations.mish)))


@model
def softmax_inside() -> keras.Model:
    inputs = keras.Input((6, 6, 3))
    x = L.Softmax()(conv(inputs, 5))
    y = L.Softmax(axis=[1, 2])(conv(inputs, 6))
    z = conv(inputs, 4, activation="softmax")
    return keras.Model(inputs, head(L.Concatenate()([x, y, z])))


@model
def merges() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    a, b, c = (conv(x, 6, activation="relu") for _ in range(3))
    x = L.Maximum()([a, L.Minimum()([b, c]), L.Average()([a, b])])
    d = L.Dense(6)(L.GlobalAveragePooling2D(keepdims=True)(x))
    return keras.Model(inputs, head(L.Subtract()([L.Add()([x, d]), L.Multiply()([a, c])])))


@model
def merges_apart() -> keras.Model:
    x = inputs = keras.Input((5, 5, 3))
    merged = [merge()([conv(x, 4), conv(x, 4)]) for merge in (L.Maximum, L.Minimum, L.Average, L.Subtract)]
    return keras.Model(inputs, head(conv(L.Concatenate()(merged), 4)))


@model
def channels_first_norm() -> keras.Model:
    x = inputs = keras.Input((3, 6, 6))
    x = L.Permute((3, 1, 2))(conv(L.Permute((2, 3, 1))(x), 5))
    x = L.PReLU(shared_axes=[2, 3])(L.BatchNormalization(axis=1)(x))
    x = L.Flatten(data_format="channels_first")(L.MaxPooling2D(2, data_format="channels_first")(x))
    return keras.Model(inputs, L.Dense(3)(x))


@model
def channels_first() -> keras.Model:
    options: dict[str, Any] = {"data_format": "channels_first"}
    x = inputs = keras.Input((3, 8, 8))
    x = L.BatchNormalization(axis=1)(L.Conv2D(5, 3, **options)(x))
    x = L.ZeroPadding2D(1, **options)(L.UpSampling2D(2, **options)(x))
    x = L.Conv2D(4, 3, strides=2, **options)(L.Concatenate(axis=1)([x, x]))
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D(**options)(x)))


@model
def reshapes() -> keras.Model:
    x = inputs = keras.Input((4, 4, 2))
    x = L.Flatten()(conv(x, 6))
    x = L.Reshape((4, 4, 6))(x)
    x = L.Reshape((16, -1))(conv(x, 5))
    x = L.Conv1D(4, 3)(x)
    x = L.Dense(6, "relu")(L.Reshape((-1,))(x))
    x = L.Conv1D(3, 2)(L.Reshape((2, 3))(x))
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))


@model
def reshape_mixing_space() -> keras.Model:
    x = inputs = keras.Input((4, 4, 2))
    x = L.Reshape((2, 4, 12))(conv(x, 6))
    return keras.Model(inputs, head(conv(x, 4)))


@model
def permuted() -> keras.Model:
    x = inputs = keras.Input((4, 5, 2))
    x = L.Permute((3, 1, 2))(conv(x, 6))
    return keras.Model(inputs, L.Dense(2)(L.Dense(5, "relu")(L.Flatten()(x))))


@model
def permuted_onto_space() -> keras.Model:
    x = inputs = keras.Input((4, 5, 2))
    x = L.Permute((3, 2, 1))(conv(x, 6))
    return keras.Model(inputs, head(conv(x, 4)))


@model
def repeated() -> keras.Model:
    x = inputs = keras.Input((5,))
    x = L.Conv1D(4, 2)(L.RepeatVector(3)(L.Dense(6, "relu")(x)))
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))


@model
def token_mixer() -> keras.Model:
    x = inputs = keras.Input((6, 4))
    x = L.Dense(7, "gelu")(x)
    y = L.Permute((2, 1))(x)
    y = L.Permute((2, 1))(L.Dense(6)(L.Dense(5, "relu")(y)))
    x = L.Add()([x, y])
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(L.Dense(4)(x))))


@model
def unknown_inside() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = conv(keras.ops.triu(conv(x, 5)), 6)
    return keras.Model(inputs, head(x))


@model
def odd_names() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3), name="in put")
    x = L.Conv2D(5, 3, name="k")(x)
    x = L.Conv2D(6, 3, name="kk", use_bias=False)(L.BatchNormalization(name="größe 1")(x))
    x = L.Conv2D(4, 1, name="conv2d_7")(x)
    x = L.Conv2D(4, 1, name="vars")(x)
    return keras.Model(inputs, head(x), name="layers")


@model
def mixed_precision() -> keras.Model:
    options: dict[str, Any] = {"dtype": "mixed_float16"}
    x = inputs = keras.Input((6, 6, 3))
    x = L.ReLU(**options)(L.BatchNormalization(**options)(L.Conv2D(6, 3, **options)(x)))
    return keras.Model(inputs, L.Dense(3, dtype="float32")(L.GlobalAveragePooling2D(**options)(x)))


@model
def normalized_inputs() -> keras.Model:
    x = inputs = keras.Input((5,))
    x = L.Normalization(mean=[0.1] * 5, variance=[2.0] * 5)(x)
    return keras.Model(inputs, L.Dense(2)(L.Rescaling(2.0, offset=1.0)(L.Dense(6, "relu")(x))))


import tests.operation_graphs  # noqa: E402
import tests.wide_graphs  # noqa: E402, F401  (the other parts of the zoo register themselves)

# Building all of them takes minutes: a third by default, the rest by `make test-rest`.
THINNED = thinned(ZOO, 3)
