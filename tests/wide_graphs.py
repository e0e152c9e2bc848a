"""The part of the zoo beyond images and tables: sequences, attention, `keras.ops`, wrappers."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers as L
from keras import ops

from tests.graphs import conv as _conv
from tests.graphs import head as _head
from tests.graphs import model as _model


def _pooled(x: Any, classes: int = 2) -> Any:
    return L.Dense(classes)(L.GlobalAveragePooling1D()(x))


@_model
def recurrent() -> keras.Model:
    x = inputs = keras.Input((5, 3))
    x = L.LSTM(6, return_sequences=True)(x)
    x = L.GRU(5, return_sequences=True)(x)
    x = L.GRU(4, return_sequences=True, reset_after=False, use_bias=False)(x)
    x = L.SimpleRNN(5)(x)
    return keras.Model(inputs, L.Dense(2)(x))


@_model
def bidirectional() -> keras.Model:
    x = inputs = keras.Input((5, 3))
    x = L.Bidirectional(L.LSTM(4, return_sequences=True))(x)
    x = L.Bidirectional(L.GRU(5, return_sequences=True), merge_mode="sum")(x)
    return keras.Model(inputs, L.Dense(2)(L.Bidirectional(L.SimpleRNN(3))(x)))


@_model
def encoder_decoder() -> keras.Model:
    source, target = keras.Input((5, 3)), keras.Input((4, 2))
    _, h, c = L.LSTM(6, return_state=True)(source)
    x, _, _ = L.LSTM(6, return_sequences=True, return_state=True)(target, initial_state=[h, c])
    return keras.Model([source, target], L.Dense(3, "softmax")(x))


@_model
def text() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    x = L.Embedding(7, 5, mask_zero=True)(inputs)
    return keras.Model(inputs, L.Dense(2)(L.LSTM(4)(L.SpatialDropout1D(0.2)(x))))


@_model
def masked_text() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    x = L.BatchNormalization()(L.Embedding(7, 5, mask_zero=True)(inputs))
    x = L.Bidirectional(L.LSTM(4, return_sequences=True))(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 3)(x, x))))


@_model
def text_convolution() -> keras.Model:
    inputs = keras.Input((None,), dtype="int32")
    x = L.Conv1D(6, 3, activation="relu")(L.Embedding(7, 5)(inputs))
    return keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling1D()(x)))


@_model
def video() -> keras.Model:
    x = inputs = keras.Input((3, 6, 6, 2))
    x = L.ConvLSTM2D(4, 3, padding="same", return_sequences=True)(x)
    x = L.TimeDistributed(L.BatchNormalization())(x)
    x = L.ConvLSTM2D(3, 2, strides=2)(x)
    return keras.Model(inputs, _head(x))


@_model
def video_channels_first() -> keras.Model:
    x = inputs = keras.Input((3, 2, 5, 5))
    x = L.ConvLSTM2D(4, 3, data_format="channels_first", return_sequences=True)(x)
    x = L.ConvLSTM2D(3, 2, strides=2, data_format="channels_first")(x)
    return keras.Model(inputs, L.Dense(2)(L.Flatten(data_format="channels_first")(x)))


@_model
def time_distributed() -> keras.Model:
    x = inputs = keras.Input((3, 8, 8, 2))
    x = L.TimeDistributed(L.Conv2D(5, 3, activation="relu"))(x)
    x = L.TimeDistributed(
        keras.Sequential([keras.Input((6, 6, 5)), L.Conv2D(4, 3, name="inner"), L.ReLU(), L.Flatten()]), name="frames"
    )(x)
    x = L.LSTM(4)(L.TimeDistributed(L.Dense(6))(x))
    return keras.Model(inputs, L.Dense(2)(x))


@_model
def spectral() -> keras.Model:
    x = inputs = keras.Input((6, 6, 2))
    x = L.SpectralNormalization(L.Conv2D(6, 3, activation="relu"))(x)
    x = L.SpectralNormalization(L.Dense(5))(L.Flatten()(x))
    return keras.Model(inputs, L.Dense(2)(x))


@_model
def transformer() -> keras.Model:
    x = inputs = keras.Input((5, 4))
    x = L.Dense(6)(x)
    y = L.MultiHeadAttention(2, 3, value_dim=4)(x, x)
    x = L.LayerNormalization()(L.Add()([x, y]))
    y = L.Dense(6)(L.Dense(9, "gelu")(x))
    return keras.Model(inputs, _pooled(L.LayerNormalization()(L.Add()([x, y]))))


@_model
def cross_attention() -> keras.Model:
    a, b = keras.Input((5, 4)), keras.Input((3, 2))
    x, y = L.Dense(6)(a), L.Dense(7)(b)
    z = L.MultiHeadAttention(2, 3, output_shape=8)(x, y)
    z = L.GroupQueryAttention(4, 4, 2)(z, L.Dense(8)(y), L.Dense(8)(y))
    return keras.Model([a, b], _pooled(z))


@_model
def attention_options() -> keras.Model:
    a, b = keras.Input((4, 3)), keras.Input((3, 2))
    x, y = L.Dense(6)(a), L.Dense(5)(b)
    x, scores = L.MultiHeadAttention(4, 3, dropout=0.1, use_bias=False)(x, x, return_attention_scores=True)
    crossing = L.MultiHeadAttention(3, 4, use_gate=True, output_shape=(2, 5))
    z, crossed = crossing(x, y, use_causal_mask=True, return_attention_scores=True)
    z = L.Dense(4)(L.Reshape((4, 10))(z))
    heads, more = L.Dense(3)(L.Permute((2, 3, 1))(scores)), L.Dense(3)(ops.moveaxis(crossed, 1, -1))
    return keras.Model([a, b], [_pooled(z), L.Dense(2)(L.Flatten()(heads)), _head(more)])


@_model
def attention_on_images() -> keras.Model:
    x = inputs = keras.Input((3, 4, 2))
    x = _conv(x, 5)
    x = L.MultiHeadAttention(3, 4)(x, x)
    y = L.MultiHeadAttention(2, 3, value_dim=5, attention_axes=2)(x, _conv(inputs, 6))
    return keras.Model(inputs, _head(_conv(L.Add()([x, y]), 4)))


@_model
def masked_heads() -> keras.Model:
    a, mask = keras.Input((4, 3)), keras.Input((3, 4, 4))
    x = L.Dense(6)(a)
    x = L.MultiHeadAttention(3, 4)(x, x, attention_mask=mask > 0)
    x = L.MultiHeadAttention(2, 3)(x, x, attention_mask=ops.max(mask, axis=1) > 0)
    return keras.Model([a, mask], _pooled(L.Dense(4)(x)))


@_model
def grouped_queries() -> keras.Model:
    x = inputs = keras.Input((5, 4))
    x = L.Dense(6)(x)
    shared = L.GroupQueryAttention(3, 6, 3)
    x = shared(x, shared(x, x))
    x = L.GroupQueryAttention(4, 3, 1, use_gate=True, use_bias=False)(x, x, use_causal_mask=True)
    return keras.Model(inputs, _pooled(L.Dense(5)(L.GroupQueryAttention(2, 4, 2)(x, x))))


@_model
def plain_attention() -> keras.Model:
    a, b = keras.Input((5, 4)), keras.Input((3, 2))
    q, k, v = L.Dense(6)(a), L.Dense(6)(b), L.Dense(7)(b)
    x = L.Concatenate()([L.Attention()([q, v, k]), L.AdditiveAttention()([q, k])])
    x = L.Concatenate()([x, L.AdditiveAttention(use_scale=False)([L.Dense(5)(a), L.Dense(5, "sigmoid")(b)])])
    x = L.Concatenate()([x, L.Attention(use_scale=True, score_mode="concat")([L.Dense(4)(a), v, L.Dense(4)(b)])])
    scores = L.Softmax()(L.Dot(axes=2)([q, k]))
    x = L.Concatenate()([x, L.Dot(axes=(2, 1))([scores, L.Dense(5)(b)])])
    return keras.Model([a, b], _pooled(x))


@_model
def einsum() -> keras.Model:
    x = inputs = keras.Input((5, 4))
    x = L.EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d", activation="relu")(x)
    x = L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de")(x)
    x = L.EinsumDense("abde,def->abf", output_shape=(None, 7))(x)
    x = L.EinsumDense("...x,xy->...y", output_shape=5, bias_axes="y")(x)
    x = L.EinsumDense("abc,c->abc", output_shape=(None, 5))(x)
    return keras.Model(inputs, _pooled(x))


@_model
def group_normalization() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = L.GroupNormalization(groups=-1)(_conv(x, 6))
    x = L.GroupNormalization(groups=4)(_conv(x, 8))
    x = L.GroupNormalization(groups=5, scale=False)(_conv(x, 5))
    x = L.Dense(6, "relu")(L.GroupNormalization(groups=3)(L.Add()([_conv(x, 6), _conv(x, 6, 1)])))
    x = L.RMSNormalization()(_conv(x, 4))
    return keras.Model(inputs, _head(_conv(L.LayerNormalization(axis=[1, 2])(_conv(x, 5)), 4)))


@_model
def normalizations() -> keras.Model:
    x = inputs = keras.Input((4, 5, 3))
    x = L.LayerNormalization()(_conv(x, 6))
    x = L.Add()([x, L.RMSNormalization()(_conv(x, 6))])
    x = L.GroupNormalization(groups=2)(_conv(x, 8))
    x = L.UnitNormalization()(_conv(x, 5))
    y = L.LayerNormalization(axis=[1, 2, 3], scale=False)(_conv(x, 4))
    y = L.GroupNormalization(groups=1, center=False)(_conv(y, 5))
    y = L.LayerNormalization()(L.Flatten()(_conv(y, 3)))
    return keras.Model(inputs, [_head(_conv(x, 4)), L.Dense(2)(y)])


@_model
def cosine() -> keras.Model:
    a, b = keras.Input((4,)), keras.Input((5,))
    shared = L.UnitNormalization()
    x, y = shared(L.Dense(6, "relu")(a)), shared(L.Dense(6, "sigmoid")(b))
    outputs = [L.Dot(axes=1)([x, y]), L.Dot(axes=-1, normalize=True)([L.Dense(5)(a), L.Dense(5, "sigmoid")(b)])]
    product = ops.sum(L.Dense(7, "sigmoid")(a) * L.Dense(7)(b), axis=-1, keepdims=True)
    return keras.Model([a, b], L.Dense(2)(L.Concatenate()([*outputs, product])))


@_model
def reductions() -> keras.Model:
    """Global response normalisation (ConvNeXt V2), attention over space by mean and maximum (CBAM), norms."""
    x = inputs = keras.Input((5, 5, 3))
    x = _conv(x, 6, activation="relu")
    norm = ops.norm(x, ord=2, axis=(1, 2), keepdims=True)
    scale, offset = (ops.convert_to_tensor([0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) * k for k in (1.0, -0.5))
    x = x * (norm / (ops.mean(norm, axis=-1, keepdims=True) + 1e-6)) * scale + offset + x
    x = _conv(x, 5)
    seen = [reduce(x, axis=-1, keepdims=True) for reduce in (ops.mean, ops.max, ops.min, ops.std)]
    x = x * _conv(L.Concatenate()(seen), 1, activation="sigmoid")
    y = ops.normalize(_conv(x, 4, activation="softplus"), axis=-1, order=1)
    z = _conv(x, 7, activation="relu")
    z = z / (ops.norm(z, axis=-1, keepdims=True) + 0.1) / (ops.norm(z, ord=1, axis=-1, keepdims=True) + 0.1)
    return keras.Model(inputs, _head(L.Concatenate()([_conv(y, 3), _conv(z, 3)])))


@_model
def layer_scale() -> keras.Model:
    from keras.src.applications.convnext import LayerScale
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    x = inputs = keras.Input((6, 6, 3))
    x = _conv(x, 5)
    y = LayerScale(0.5, 5)(_conv(_conv(x, 7, activation="gelu"), 5))
    x = L.Add()([x, y])
    return keras.Model(inputs, _head(CustomScaleLayer(0.3)([x, _conv(x, 5)])))


@_model
def operators() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = ops.relu(_conv(x, 6)) * 2.0 + 1.0
    y = ops.sigmoid(_conv(x, 6)) - x / 3.0
    x = ops.maximum(x, y) ** 2
    x = ops.where(x > 0.1, ops.tanh(x), -x)
    gate = ops.mean(x, axis=(1, 2), keepdims=True)
    return keras.Model(inputs, L.Dense(2)(ops.max(_conv(ops.flip(x * gate, -1), 5), axis=[1, 2])))


@_model
def slices() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = _conv(x, 8)
    a, b = x[..., :3], x[:, 1:-1, ::2, 3:]
    x = ops.concatenate([ops.pad(_conv(b, 4), [[0, 0], [1, 1], [1, 2], [0, 0]]), a], axis=-1)
    p, q = ops.split(_conv(x, 6), 2, axis=-1)
    r, s, t = ops.split(x, [2, 5], axis=-1)
    x = ops.concatenate([_conv(p, 4), q[..., ::-1], r, _conv(s, 3), t[..., -1:]], axis=-1)
    return keras.Model(inputs, _head(_conv(x, 4)))


@_model
def two_slices() -> keras.Model:
    inputs = keras.Input((5, 5, 3))
    x = _conv(inputs, 8)
    return keras.Model(inputs, _head(L.Concatenate()([_conv(x[..., :4], 3), _conv(x[..., 4:], 3)])))


@_model
def constants() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = _conv(x, 4) * ops.convert_to_tensor([1.0, 2.0, 3.0, 4.0])
    x = _conv(x, 7) + ops.convert_to_tensor([[0.1], [0.2], [0.3], [0.4], [0.5], [0.6]])
    x = ops.clip(_conv(x, 5), -1.0, 1.0)
    return keras.Model(inputs, _head(_conv(x, 4)))


@_model
def reshaping_operations() -> keras.Model:
    x = inputs = keras.Input((4, 6, 3))
    x = ops.reshape(_conv(x, 6), (-1, 24, 6))
    x = ops.squeeze(ops.expand_dims(ops.transpose(x, (0, 2, 1)), 1), 1)
    x = ops.swapaxes(x, 1, 2)
    x = L.Dense(6)(x)
    x = ops.reshape(ops.moveaxis(ops.reshape(x, (-1, 4, 6, 6)), 3, 1), (-1, 6, 24))
    x = ops.transpose(x, (0, 2, 1))
    x = ops.stack([x, ops.flip(x, 1)], axis=2)
    x = ops.repeat(ops.tile(x, (1, 1, 1, 2)), 2, axis=-1)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Dense(4)(x))))


@_model
def attention_by_hand() -> keras.Model:
    x = inputs = keras.Input((5, 4))
    q, k, v = L.Dense(6)(x), L.Dense(6)(x), L.Dense(8)(x)
    scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 2.4)
    return keras.Model(inputs, _pooled(L.Dense(5)(ops.matmul(scores, v))))


@_model
def heads_by_hand() -> keras.Model:
    x = inputs = keras.Input((5, 4))
    q, k, v = (L.EinsumDense("abc,cde->abde", (None, 3, width), bias_axes="de")(x) for width in (4, 4, 5))
    scores = ops.softmax(ops.einsum("bqhd,bkhd->bhqk", q, k) / 2.0)
    x = L.EinsumDense("abde,def->abf", (None, 6))(ops.einsum("bhqk,bkhd->bqhd", scores, v))
    return keras.Model(inputs, _pooled(x))


@_model
def scaled_dot_product() -> keras.Model:
    """Heads of a Dense by reshapes, of an EinsumDense with a bias and a constant mask per head, several to one key."""
    x = inputs = keras.Input((4, 5))
    q, k, v = (ops.reshape(L.Dense(12)(x), (-1, 4, 3, 4)) for _ in range(3))
    x = L.Dense(6, "relu")(ops.reshape(ops.dot_product_attention(q, k, v, is_causal=True), (-1, 4, 12)))
    q, k, v = (L.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="de")(x) for _ in range(3))
    bias = ops.transpose(L.Dense(3)(ops.expand_dims(x, 2) - ops.expand_dims(x, 1)), (0, 3, 1, 2))
    mask = ops.convert_to_tensor([[[0.0, 1.0, 0.0, 1.0]], [[0.0] * 4], [[0.5] * 4]])
    x = ops.dot_product_attention(q, k, v, bias=bias) + ops.dot_product_attention(k, q, v, bias=mask, scale=0.3)
    x = L.EinsumDense("abde,def->abf", (None, 6))(x)
    q = L.EinsumDense("abc,cde->abde", (None, 4, 6))(x)
    k, v = (L.EinsumDense("abc,cde->abde", (None, 2, 6))(inputs) for _ in range(2))
    return keras.Model(inputs, _pooled(L.EinsumDense("abde,def->abf", (None, 5))(ops.dot_product_attention(q, k, v))))


@_model
def shuffle_units() -> keras.Model:
    x = inputs = keras.Input((4, 4, 3))
    x = _conv(x, 8)
    for _ in range(2):
        a, b = ops.split(x, 2, axis=-1)
        b = L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(_conv(b, 4, 1, activation="relu")))
        x = ops.concatenate([a, _conv(b, 4, 1)], axis=-1)
        x = ops.reshape(x, (-1, 4, 4, 2, 4))
        x = ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 4, 4, 8))
    return keras.Model(inputs, _head(_conv(x, 5)))


@_model
def preprocessing() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((10, 12, 3)),
            L.RandomFlip(),
            L.RandomRotation(0.1),
            L.Resizing(8, 8),
            L.CenterCrop(6, 6),
            L.Rescaling(1 / 255),
            L.RandomContrast(0.1),
            L.Conv2D(5, 3),
            L.GlobalMaxPooling2D(),
            L.Dense(2),
        ]
    )


@_model
def cells_and_states() -> keras.Model:
    source, target = keras.Input((5, 3)), keras.Input((4, 2))
    x = L.RNN([L.LSTMCell(5), L.GRUCell(4)], return_sequences=True)(source)
    _, fh, fc, bh, bc = L.Bidirectional(L.LSTM(4, return_state=True))(
        L.RNN(L.SimpleRNNCell(4), return_sequences=True)(x)
    )
    states = [L.Concatenate()([fh, bh]), L.Concatenate()([fc, bc])]
    return keras.Model([source, target], _pooled(L.LSTM(8, return_sequences=True)(target, initial_state=states)))


@_model
def tied_table() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    table = L.ReversibleEmbedding(6, 5)
    x = L.Conv1D(5, 2, padding="causal", activation="tanh")(table(inputs))
    own = L.ReversibleEmbedding(7, 4, tie_weights=False)
    y = L.Dense(4, "relu")(own(inputs))
    return keras.Model(inputs, [table(x, reverse=True), own(y, reverse=True)])


@_model
def table_alone() -> keras.Model:
    """Nothing but a table and its reverse makes and reads these units."""
    inputs = keras.Input((5,), dtype="int32")
    table = L.ReversibleEmbedding(6, 8)
    return keras.Model(inputs, table(table(inputs), reverse=True))


@_model
def sub_pixels() -> keras.Model:
    """Pixel shuffle (ESPCN) and its inverse, with functions of each element."""
    x = inputs = keras.Input((4, 4, 3))
    x = ops.depth_to_space(_conv(x, 20), 2)
    x = ops.space_to_depth(ops.log2(1.5 + ops.fabs(_conv(x, 6))), 4)
    return keras.Model(inputs, _head(ops.hypot(_conv(x, 5), _conv(x, 5))))


@_model
def more_operations() -> keras.Model:
    x = inputs = keras.Input((6, 6, 3))
    x = L.AdaptiveMaxPooling2D(3)(L.AdaptiveAveragePooling2D((4, 5))(_conv(x, 6)))
    x = L.Rescaling([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], offset=0.5)(x) * ops.convert_to_tensor([[0.1], [0.2], [0.3]])
    x = ops.convert_to_tensor([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]) * x
    x = ops.glu(_conv(x, 8, 1))
    y = ops.einsum("bhwc,bhwd->bcd", inputs[:, :3, :3], _conv(x, 5, 1))
    z = L.Dense(4)(ops.take(x, 1, axis=1))
    return keras.Model(inputs, [L.Dense(2)(y), L.Dense(2)(ops.take(z, [0, 2, 2], axis=1))])


@_model
def hub_blocks() -> keras.Model:
    from keras_hub import layers as hub

    inputs = keras.Input((6,), dtype="int32")
    x = hub.TokenAndPositionEmbedding(7, 8, 5)(inputs)
    x = hub.TransformerEncoder(9, 2, activation="gelu")(L.Dense(4, "relu")(x))
    x = hub.TransformerDecoder(7, 2, normalize_first=True)(x, L.Dense(6)(x))
    y = L.Dense(5)(x)
    return keras.Model(inputs, _pooled(L.Concatenate()([y, hub.PositionEmbedding(6)(y)])))


@_model
def hub_patches() -> keras.Model:
    from keras_hub.src.models.vit.vit_layers import ViTPatchingAndEmbedding

    from pruning.keras import hub

    inputs = keras.Input((8, 8, 3))
    x = ViTPatchingAndEmbedding((8, 8), (4, 4), 6)(_conv(inputs, 5))
    return hub.plain(keras.Model(inputs, _pooled(L.Dense(5, "relu")(x))))
