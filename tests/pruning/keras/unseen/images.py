"""Networks on images, volumes and video frames, as people write them."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers as L
from keras import ops

from tests.pruning.keras.unseen.catalogue import architecture


def _conv(x: Any, filters: int, size: int = 3, **options: Any) -> Any:
    return L.Conv2D(filters, size, **{"padding": "same", **options})(x)


@architecture()
def u_net_with_three_levels() -> keras.Model:
    inputs = x = keras.Input((20, 20, 3))
    skips = []
    for filters in (5, 7):
        x = L.ReLU()(L.BatchNormalization()(_conv(x, filters, padding="valid")))
        x = _conv(x, filters, activation="relu")
        skips.append(x)
        x = L.MaxPooling2D()(x)
    x = _conv(x, 9, activation="relu", dilation_rate=2)
    for filters in (7, 5):
        x = L.Conv2DTranspose(filters, 2, strides=2, activation="relu")(x)
        skip = skips.pop()
        crop = [(skip.shape[axis] - x.shape[axis]) for axis in (1, 2)]
        skip = L.Cropping2D(tuple((c // 2, c - c // 2) for c in crop))(skip)
        x = _conv(L.Concatenate()([skip, x]), filters, activation="relu")
    return keras.Model(inputs, _conv(x, 2, 1, activation="sigmoid"))


@architecture()
def volume_segmentation() -> keras.Model:
    inputs = keras.Input((8, 8, 8, 1))
    a = L.Conv3D(6, 3, padding="same", activation="relu")(inputs)
    b = L.Conv3D(8, 3, strides=2, padding="same")(a)
    b = L.PReLU(shared_axes=[1, 2, 3])(L.BatchNormalization()(b))
    c = L.Conv3DTranspose(6, 3, strides=2, padding="same", activation="relu")(b)
    x = L.Add()([a, c])
    return keras.Model(inputs, L.Conv3D(2, 1, activation="softmax")(L.SpatialDropout3D(0.1)(x)))


@architecture()
def residual_with_squeeze_and_hard_coded_reshape() -> keras.Model:
    inputs = x = keras.Input((12, 12, 3))
    x = _conv(x, 8, use_bias=False)
    for filters, strides in ((8, 1), (12, 2)):
        y = L.Activation("relu")(L.BatchNormalization(momentum=0.9)(x))
        y = _conv(y, filters, strides=strides)
        y = _conv(L.LeakyReLU()(L.BatchNormalization()(y)), filters)
        gate = L.Reshape((1, 1, filters))(L.GlobalAveragePooling2D()(y))
        gate = L.Dense(4, activation="relu", use_bias=False)(gate)
        gate = L.Dense(filters, activation="sigmoid", use_bias=False)(gate)
        y = L.multiply([y, gate])
        x = x if strides == 1 else _conv(x, filters, 1, strides=strides)
        x = L.add([x, y])
    return keras.Model(inputs, L.Dense(4)(L.Flatten()(L.AveragePooling2D(2)(x))))


@architecture()
def grouped_bottlenecks() -> keras.Model:
    inputs = x = keras.Input((10, 10, 3))
    x = _conv(x, 12)
    y = _conv(L.ReLU()(x), 8, 1)
    y = _conv(L.ReLU()(y), 8, groups=4)
    y = _conv(L.ReLU()(y), 12, 1)
    x = L.ReLU()(L.Add()([x, y]))
    x = _conv(x, 12, groups=12, activation="relu")
    return keras.Model(inputs, L.Dense(3)(L.GlobalMaxPooling2D()(x)))


@architecture()
def channel_split_and_shuffle() -> keras.Model:
    inputs = x = keras.Input((8, 8, 3))
    x = _conv(x, 12, activation="relu")
    left, right = x[..., :6], x[..., 6:]
    right = L.DepthwiseConv2D(3, padding="same", use_bias=False)(_conv(right, 6, 1, activation="relu"))
    right = _conv(right, 6, 1, activation="relu")
    x = L.Concatenate()([left, right])
    x = L.Reshape((8, 8, 2, 6))(x)
    x = L.Permute((1, 2, 4, 3))(x)
    x = L.Reshape((8, 8, 12))(x)
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(_conv(x, 5, activation="relu"))))


@architecture()
def depth_multipliers() -> keras.Model:
    inputs = x = keras.Input((9, 9, 2))
    x = L.DepthwiseConv2D(3, depth_multiplier=3, activation="relu")(x)
    x = _conv(x, 6, activation="relu")
    x = L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", dilation_rate=2)(x)
    x = L.SeparableConv2D(7, 3, depth_multiplier=2, activation="relu")(x)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))


@architecture(zero=False)
def autoencoder_of_dense_and_transposed() -> keras.Model:
    inputs = x = keras.Input((8, 8, 1))
    x = _conv(x, 6, strides=2, activation="elu")
    x = L.Flatten()(x)
    x = L.Dense(10, activation="sigmoid", name="code")(x)
    x = L.Dense(4 * 4 * 5, activation="softplus")(x)
    x = L.Reshape((4, 4, 5))(x)
    x = L.Conv2DTranspose(6, 3, strides=2, padding="same", activation="selu")(x)
    return keras.Model(inputs, L.Conv2D(1, 3, padding="same", activation="sigmoid")(x))


@architecture()
def channels_first_residual() -> keras.Model:
    first = {"data_format": "channels_first"}
    inputs = x = keras.Input((3, 8, 8))
    x = L.Conv2D(6, 3, padding="same", activation="relu", **first)(x)
    y = L.Conv2D(6, 3, padding="same", **first)(L.BatchNormalization(axis=1)(x))
    x = L.Add()([x, y])
    x = L.Conv2DTranspose(4, 3, strides=2, activation="relu", **first)(x)
    x = L.AveragePooling2D(2, **first)(L.DepthwiseConv2D(3, **first)(x))
    return keras.Model(inputs, L.Dense(3)(L.Flatten(**first)(x)))


@architecture(zero=False)
def patches_mixed_over_tokens() -> keras.Model:
    inputs = x = keras.Input((8, 8, 3))
    x = L.Conv2D(10, 4, strides=4)(x)
    x = L.Reshape((4, 10))(x)
    y = L.Permute((2, 1))(x)
    y = L.Dense(4, use_bias=False)(L.Dense(6, activation="gelu")(y))
    x = L.Add()([x, L.Permute((2, 1))(y)])
    x = L.Add()([x, L.Dense(10)(L.Dense(14, activation="gelu")(x))])
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(x)))


@architecture()
def dense_net_with_transition() -> keras.Model:
    inputs = x = keras.Input((10, 10, 2))
    x = _conv(x, 6)
    for _ in range(2):
        for _ in range(2):
            y = _conv(L.ReLU()(L.BatchNormalization()(x)), 8, 1, use_bias=False)
            y = _conv(L.ReLU()(L.BatchNormalization()(y)), 4, use_bias=False)
            x = L.Concatenate()([x, y])
        x = L.AveragePooling2D(2)(_conv(L.ReLU()(L.BatchNormalization()(x)), x.shape[-1] // 2, 1))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(L.GlobalAveragePooling2D()(x)))


@architecture()
def inverted_residuals_with_hard_swish() -> keras.Model:
    inputs = x = keras.Input((16, 16, 3))
    x = L.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = L.Activation("hard_silu")(L.BatchNormalization()(_conv(x, 6, strides=2, use_bias=False)))
    y = L.ReLU(6.0)(L.BatchNormalization()(_conv(x, 18, 1, use_bias=False)))
    y = L.ZeroPadding2D(1)(y)
    y = L.DepthwiseConv2D(3, use_bias=False)(y)
    y = L.ReLU(6.0)(L.BatchNormalization()(y))
    y = L.BatchNormalization()(_conv(y, 6, 1, use_bias=False))
    x = L.Add()([x, y])
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    gate = L.Conv2D(6, 1, activation="hard_sigmoid")(L.Conv2D(3, 1, activation="relu")(gate))
    x = L.Multiply()([x, gate])
    return keras.Model(inputs, L.Dense(4)(L.Flatten()(L.GlobalAveragePooling2D(keepdims=True)(x))))


@architecture()
def feature_pyramid_with_many_heads() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    c2 = _conv(inputs, 6, strides=2, activation="relu")
    c3 = _conv(c2, 8, strides=2, activation="relu")
    c4 = _conv(c3, 10, strides=2, activation="relu")
    p4 = _conv(c4, 7, 1)
    p3 = L.Add()([L.UpSampling2D(2)(p4), _conv(c3, 7, 1)])
    p2 = L.Add()([L.UpSampling2D(2, interpolation="bilinear")(p3), _conv(c2, 7, 1)])
    tower = L.Conv2D(8, 3, padding="same", activation="relu", name="tower")
    boxes = L.Conv2D(4, 3, padding="same", name="boxes")
    classes = L.Conv2D(3, 3, padding="same", name="classes")
    found = [tower(level) for level in (p2, p3, p4)]
    flat = [L.Reshape((-1, 4))(boxes(x)) for x in found]
    return keras.Model(inputs, [L.Concatenate(axis=1)(flat), *[classes(x) for x in found]])


@architecture()
def image_with_preprocessing_and_augmentation() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((14, 12, 3)),
            L.Resizing(12, 12),
            L.RandomFlip("horizontal"),
            L.RandomTranslation(0.1, 0.1),
            L.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 0.5]),
            L.Conv2D(6, 3, activation="relu"),
            L.GaussianNoise(0.1),
            L.MaxPooling2D(),
            L.Conv2D(8, 3, activation="relu"),
            L.Dropout(0.3),
            L.GlobalAveragePooling2D(),
            L.Dense(3, activation="softmax"),
        ]
    )


@architecture()
def layer_and_group_normalisation_inside() -> keras.Model:
    inputs = x = keras.Input((8, 8, 3))
    x = L.GroupNormalization(groups=2)(_conv(x, 6))
    x = _conv(L.ReLU()(x), 8)
    x = L.LayerNormalization()(x)
    x = _conv(x, 8, activation="relu")
    x = L.GroupNormalization(groups=-1)(x)
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(_conv(x, 5))))


@architecture()
def sub_pixel_super_resolution() -> keras.Model:
    inputs = x = keras.Input((6, 6, 1))
    x = _conv(x, 8, activation="relu")
    x = L.Add()([x, _conv(_conv(x, 10, activation="relu"), 8)])
    x = _conv(x, 4)
    x = ops.reshape(x, (-1, 6, 6, 2, 2))
    x = ops.transpose(x, (0, 1, 3, 2, 4))
    return keras.Model(inputs, ops.reshape(x, (-1, 12, 12, 1)))


@architecture()
def spectral_generator() -> keras.Model:
    inputs = x = keras.Input((7,))
    x = L.SpectralNormalization(L.Dense(3 * 3 * 6))(x)
    x = L.LeakyReLU()(L.Reshape((3, 3, 6))(x))
    x = L.SpectralNormalization(L.Conv2DTranspose(8, 4, strides=2, padding="same"))(x)
    x = L.LeakyReLU()(x)
    return keras.Model(inputs, L.SpectralNormalization(L.Conv2D(1, 3, padding="same", activation="tanh"))(x))


@architecture(zero=False)
def mixture_of_experts_by_hand() -> keras.Model:
    inputs = keras.Input((10,))
    gates = L.Dense(3, activation="softmax")(inputs)
    experts = [L.Dense(6, activation="relu")(L.Dense(8, activation="sigmoid")(inputs)) for _ in range(3)]
    x = ops.stack(experts, axis=1)
    x = L.Dot(axes=(1, 1))([gates, x])
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def frames_through_a_shared_tower() -> keras.Model:
    tower = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(5, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), L.Dense(6, "relu")]
    )
    inputs = keras.Input((4, 8, 8, 1))
    x = L.TimeDistributed(tower)(inputs)
    x = L.Bidirectional(L.GRU(5))(x)
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def channels_first_as_wide_as_images() -> keras.Model:
    first = {"data_format": "channels_first"}
    inputs = x = keras.Input((2, 8, 8))
    x = L.Conv2D(8, 3, padding="same", activation="relu", **first)(x)
    x = L.Conv2D(13, 3, padding="same", activation="relu", **first)(x)
    x = L.Conv2D(10, 3, **first)(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D(**first)(x)))
