"""Networks on sequences and text: states, masks, directions, attention."""

from __future__ import annotations

import keras
from keras import layers as L
from keras import ops

from tests.pruning.keras.unseen.catalogue import architecture


@architecture()
def residual_network_of_any_length() -> keras.Model:
    inputs = x = keras.Input((None, 4))
    x = L.Conv1D(8, 5, padding="same", activation="relu")(x)
    for dilation in (1, 2, 4):
        y = L.Conv1D(8, 3, padding="causal", dilation_rate=dilation)(x)
        y = L.Conv1D(8, 1)(L.SpatialDropout1D(0.1)(L.ReLU()(L.BatchNormalization()(y))))
        x = L.Add()([x, y])
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(x)))


@architecture()
def stacked_recurrent() -> keras.Model:
    inputs = x = keras.Input((6, 3))
    x = L.LSTM(7, return_sequences=True)(x)
    x = L.GRU(6, return_sequences=True, reset_after=False)(x)
    x = L.SimpleRNN(5, return_sequences=True, activation="relu")(x)
    x = L.LSTM(6, unroll=False, go_backwards=True, recurrent_dropout=0.1)(x)
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def translator_with_states() -> keras.Model:
    source, target = keras.Input((5,), dtype="int32"), keras.Input((4,), dtype="int32")
    x = L.Embedding(11, 6, mask_zero=True)(source)
    encoded, h, c = L.LSTM(7, return_sequences=True, return_state=True)(x)
    y = L.Embedding(9, 5, mask_zero=True)(target)
    y, _, _ = L.LSTM(7, return_sequences=True, return_state=True)(y, initial_state=[h, c])
    context = L.Attention()([y, encoded])
    x = L.Concatenate()([y, context])
    return keras.Model([source, target], L.Dense(9, activation="softmax")(L.Dense(8, activation="relu")(x)))


@architecture()
def bidirectional_encoder_states_to_a_decoder() -> keras.Model:
    source, target = keras.Input((5, 3)), keras.Input((4, 2))
    _, fh, fc, bh, bc = L.Bidirectional(L.LSTM(4, return_state=True))(source)
    h, c = L.Concatenate()([fh, bh]), L.Concatenate()([fc, bc])
    x = L.LSTM(8, return_sequences=True)(target, initial_state=[h, c])
    return keras.Model([source, target], L.TimeDistributed(L.Dense(3))(x))


@architecture()
def gru_states_through_a_dense_bridge() -> keras.Model:
    source, target = keras.Input((5, 3)), keras.Input((4, 2))
    _, state = L.GRU(6, return_state=True)(source)
    bridge = L.Dense(5, activation="tanh")(state)
    x = L.GRU(5, return_sequences=True)(target, initial_state=bridge)
    return keras.Model([source, target], L.Dense(2)(x))


@architecture()
def video_with_three_conv_lstms() -> keras.Model:
    inputs = x = keras.Input((4, 8, 8, 1))
    x = L.ConvLSTM2D(5, 3, padding="same", return_sequences=True)(x)
    x = L.BatchNormalization()(x)
    x = L.ConvLSTM2D(4, 3, padding="same", return_sequences=True, dropout=0.1)(x)
    x = L.TimeDistributed(L.MaxPooling2D())(x)
    x = L.Bidirectional(L.ConvLSTM2D(3, 3, padding="same"))(x)
    return keras.Model(inputs, L.Conv2D(1, 3, activation="sigmoid")(x))


@architecture()
def conv_lstm_states_passed_on() -> keras.Model:
    inputs, later = keras.Input((3, 6, 6, 2)), keras.Input((2, 6, 6, 2))
    _, h, c = L.ConvLSTM2D(4, 3, padding="same", return_state=True)(inputs)
    x = L.ConvLSTM2D(4, 3, padding="same")(later, initial_state=[h, c])
    return keras.Model([inputs, later], L.Dense(2)(L.GlobalAveragePooling2D()(x)))


@architecture()
def sensor_with_conv_lstm_1d_and_masking() -> keras.Model:
    inputs = x = keras.Input((6, 3))
    x = L.Masking(mask_value=0.0)(x)
    x = L.Bidirectional(L.SimpleRNN(5, return_sequences=True), merge_mode="ave")(x)
    x = L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode="mul")(x)
    x = L.GRU(6)(x)
    return keras.Model(inputs, L.Dense(1, activation="sigmoid")(x))


@architecture()
def two_directions_apart() -> keras.Model:
    inputs = keras.Input((6, 3))
    forward, backward = L.Bidirectional(L.LSTM(5, return_sequences=True), merge_mode=None)(inputs)
    x = L.Concatenate()([L.Dense(4, activation="relu")(forward), L.Dense(3, activation="relu")(backward)])
    return keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling1D()(x)))


@architecture()
def different_directions() -> keras.Model:
    inputs = keras.Input((6, 3))
    back = L.LSTM(5, go_backwards=True, return_sequences=True, activation="relu")
    x = L.Bidirectional(L.LSTM(5, return_sequences=True), backward_layer=back)(inputs)
    return keras.Model(inputs, L.Dense(2)(L.Conv1D(4, 2, activation="relu")(x)[:, -1]))


@architecture()
def stacked_cells() -> keras.Model:
    inputs = x = keras.Input((5, 3))
    x = L.RNN([L.LSTMCell(6), L.LSTMCell(5)], return_sequences=True)(x)
    x = L.RNN(L.GRUCell(4))(x)
    return keras.Model(inputs, L.Dense(2)(x))


@architecture(quick=True)
def pre_norm_encoder() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    x = L.Embedding(13, 8)(inputs)
    for _ in range(2):
        y = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(2, 4, dropout=0.1)(y, y)])
        y = L.LayerNormalization()(x)
        y = L.Dense(8)(L.Dense(12, activation="gelu")(y))
        x = L.Add()([x, y])
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(x)))


@architecture()
def decoder_with_causal_and_cross_attention() -> keras.Model:
    memory, target = keras.Input((7, 5)), keras.Input((6, 4))
    m, x = L.Dense(8, activation="relu")(memory), L.Dense(6)(target)
    x = x + L.MultiHeadAttention(2, 3, value_dim=4)(x, x, use_causal_mask=True)
    x = x + L.MultiHeadAttention(3, 2)(x, m)
    x = x + L.Dense(6)(L.Dense(10, activation="relu")(x))
    return keras.Model([memory, target], L.Dense(4)(x))


@architecture()
def grouped_query_attention_with_swiglu() -> keras.Model:
    inputs = keras.Input((6, 8))
    x = L.Dense(8)(inputs)
    y = L.RMSNormalization()(x)
    x = x + L.GroupQueryAttention(4, 4, 2)(y, y)
    gate, value = L.Dense(12, activation="silu", use_bias=False)(x), L.Dense(12, use_bias=False)(x)
    x = x + L.Dense(8, use_bias=False)(gate * value)
    return keras.Model(inputs, L.Dense(2)(x[:, 0]))


@architecture()
def tied_embedding_language_model() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    table = L.ReversibleEmbedding(12, 6)
    x = table(inputs)
    x = L.LSTM(7, return_sequences=True)(x)
    x = L.Dense(6)(x)
    return keras.Model(inputs, table(x, reverse=True))


@architecture()
def untied_reversible_embedding() -> keras.Model:
    inputs = keras.Input((6,), dtype="int32")
    table = L.ReversibleEmbedding(12, 6, tie_weights=False)
    x = L.Conv1D(6, 3, padding="causal", activation="relu")(table(inputs))
    return keras.Model(inputs, table(x, reverse=True))


@architecture()
def additive_attention_pooling() -> keras.Model:
    inputs = keras.Input((7, 4))
    x = L.Bidirectional(L.GRU(5, return_sequences=True))(inputs)
    scores = L.Dense(1)(L.Dense(6, activation="tanh")(x))
    weights = L.Softmax(axis=1)(scores)
    x = L.Multiply()([x, weights])
    return keras.Model(inputs, L.Dense(2)(ops.sum(x, axis=1)))


@architecture()
def wave_net_gates() -> keras.Model:
    inputs = x = keras.Input((16, 2))
    x = L.Conv1D(6, 1)(x)
    skips = []
    for dilation in (1, 2, 4):
        a = L.Conv1D(8, 2, padding="causal", dilation_rate=dilation, activation="tanh")(x)
        b = L.Conv1D(8, 2, padding="causal", dilation_rate=dilation, activation="sigmoid")(x)
        z = L.Multiply()([a, b])
        skips.append(L.Conv1D(5, 1)(z))
        x = L.Add()([x, L.Conv1D(6, 1)(z)])
    return keras.Model(inputs, L.Conv1D(3, 1)(L.ReLU()(L.Add()(skips))))


@architecture()
def crnn_over_columns() -> keras.Model:
    inputs = x = keras.Input((8, 16, 1))
    x = L.Conv2D(5, 3, padding="same", activation="relu")(x)
    x = L.MaxPooling2D((2, 2))(x)
    x = L.Permute((2, 1, 3))(x)
    x = L.Reshape((8, 4 * 5))(x)
    x = L.Bidirectional(L.LSTM(6, return_sequences=True))(x)
    return keras.Model(inputs, L.Dense(7, activation="softmax")(x))


@architecture()
def crnn_with_time_distributed_flatten() -> keras.Model:
    inputs = x = keras.Input((8, 12, 1))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = L.TimeDistributed(L.Flatten())(x)
    x = L.TimeDistributed(L.Dense(8, activation="relu"))(x)
    x = L.GRU(5)(x)
    return keras.Model(inputs, L.Dense(2)(x))


@architecture(quick=True)
def speech_of_any_length() -> keras.Model:
    inputs = keras.Input((None, 16))
    x = L.Reshape((-1, 16, 1))(inputs)
    for strides in ((2, 2), (1, 2)):
        x = L.Conv2D(8, (5, 3), strides=strides, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Reshape((-1, x.shape[-2] * x.shape[-1]))(x)
    x = L.Bidirectional(L.GRU(7, return_sequences=True))(x)
    return keras.Model(inputs, L.Dense(6, activation="softmax")(L.ReLU()(L.Dense(14)(x))))


@architecture()
def listener_that_halves_its_steps() -> keras.Model:
    inputs = x = keras.Input((None, 5))
    for units in (6, 8):
        x = L.Bidirectional(L.LSTM(units, return_sequences=True))(x)
        x = L.Reshape((-1, 4 * units))(x)
    return keras.Model(inputs, L.Dense(4)(L.GRU(9)(x)))


@architecture()
def long_and_short_term_with_skips() -> keras.Model:
    inputs = x = keras.Input((20, 5))
    x = L.Conv1D(10, 5, padding="causal", activation="relu")(x)
    skips = ops.reshape(ops.transpose(L.Reshape((5, 4, 10))(x), (0, 2, 1, 3)), (-1, 5, 10))
    skips = ops.reshape(L.GRU(6)(skips), (-1, 4 * 6))
    return keras.Model(inputs, L.Dense(5)(L.Concatenate()([L.GRU(8)(x), skips])))


@architecture()
def forecaster_that_keeps_its_states() -> keras.Model:
    inputs = keras.Input(batch_shape=(4, 9, 5))
    x = L.Conv1D(10, 3, padding="causal", activation="relu")(inputs)
    x = L.Bidirectional(L.LSTM(6, stateful=True, return_sequences=True))(x)
    cells = L.StackedRNNCells([L.GRUCell(8), L.LSTMCell(7)])
    x = L.RNN(cells, stateful=True, return_sequences=True)(x)
    x = L.GRU(6, stateful=True)(L.Dense(9, activation="relu")(x))
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def audio_whose_channels_become_steps() -> keras.Model:
    inputs = keras.Input((16, 1))
    x = L.Conv1D(12, 5, padding="same", activation="relu")(inputs)
    x = L.Conv1D(16, 3, padding="same", activation="relu")(x)
    x = L.Conv1D(10, 3, padding="same", activation="relu")(L.Reshape((32, 8))(x))
    return keras.Model(inputs, L.Conv1D(1, 3, padding="same")(x))


@architecture()
def audio_of_any_length_whose_channels_become_steps() -> keras.Model:
    inputs = keras.Input((None, 1))
    x = L.Conv1D(12, 5, padding="same", activation="relu")(inputs)
    x = L.Conv1D(12, 3, padding="same", activation="relu")(x)
    x = L.Conv1D(10, 3, padding="same", activation="relu")(L.Reshape((-1, 6))(x))
    return keras.Model(inputs, L.Conv1D(1, 3, padding="same")(x))
