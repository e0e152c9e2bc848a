"""Odd names, odd structures: ports, sharing, nesting, precision, what nobody thinks of."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops

from tests.pruning.keras.unseen.catalogue import architecture


@architecture(quick=True)
def odd_names() -> keras.Model:
    inputs = x = keras.Input((8, 8, 2), name="input image")
    x = L.Conv2D(6, 3, padding="same", name="k")(x)
    x = L.BatchNormalization(name="k k")(x)
    x = L.ReLU(name="größe")(x)
    y = L.Conv2D(6, 3, padding="same", name="kk")(x)
    x = L.Add(name="层 + 1")([x, y])
    x = L.Conv2D(5, 3, name="vars")(x)
    x = L.Conv2D(4, 1, name="layers", activation="relu")(x)
    x = L.Flatten(name="0")(x)
    x = L.Dense(7, name="dense_1 ", activation="relu")(x)
    return keras.Model(inputs, L.Dense(2, name="config")(x), name="model [*]")


@architecture()
def names_that_look_like_patterns() -> keras.Model:
    inputs = x = keras.Input((6,), name="*")
    x = L.Dense(8, name="[ab]", activation="relu")(x)
    x = L.Dense(7, name="a?", activation="relu")(x)
    x = L.Dense(6, name="a", activation="relu")(x)
    return keras.Model(inputs, L.Dense(2, name="a#2")(x))


@architecture()
def slashes_in_nested_names() -> keras.Model:
    inner_input = keras.Input((6,), name="inner")
    inner = keras.Model(inner_input, L.Dense(5, name="dense", activation="relu")(inner_input), name="dense")
    inputs = keras.Input((4,), name="inner")
    x = inner(L.Dense(6, name="dense_1", activation="relu")(inputs))
    return keras.Model(inputs, L.Dense(2, name="out")(x), name="dense")


@architecture()
def siamese_with_shared_tower_and_distance() -> keras.Model:
    image = keras.Input((8, 8, 1))
    x = L.Conv2D(6, 3, activation="relu")(image)
    x = L.Conv2D(5, 3, activation="relu")(L.BatchNormalization()(x))
    tower = keras.Model(image, L.Dense(8, activation="tanh")(L.Flatten()(x)), name="tower")
    a, b = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    distance = ops.abs(tower(a) - tower(b))
    return keras.Model([a, b], L.Dense(1, activation="sigmoid")(distance))


@architecture()
def inputs_and_outputs_as_dictionaries() -> keras.Model:
    inputs = {"picture": keras.Input((6, 6, 1), name="picture"), "age": keras.Input((3,), name="age")}
    x = L.Flatten()(L.Conv2D(5, 3, activation="relu")(inputs["picture"]))
    y = L.Dense(6, activation="relu")(inputs["age"])
    z = L.Dense(8, activation="relu")(L.Concatenate()([x, y]))
    return keras.Model(inputs, {"class": L.Dense(3, activation="softmax")(z), "size": L.Dense(1)(y), "hidden": z})


@architecture()
def one_layer_called_five_times() -> keras.Model:
    inputs = x = keras.Input((8, 6))
    x = L.Dense(7)(x)
    step = L.Dense(7, activation="relu", name="step")
    norm = L.BatchNormalization(name="norm")
    for _ in range(5):
        x = x + norm(step(x))
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def mixed_precision_residual() -> keras.Model:
    policy: Any = {"dtype": "mixed_float16"}
    inputs = x = keras.Input((8, 8, 3))
    x = L.Conv2D(6, 3, padding="same", activation="relu", **policy)(x)
    y = L.BatchNormalization(**policy)(L.Conv2D(6, 3, padding="same", **policy)(x))
    x = L.Add(**policy)([x, y])
    return keras.Model(inputs, L.Dense(3, dtype="float32")(L.GlobalAveragePooling2D(**policy)(x)))


@architecture()
def bfloat16_dense() -> keras.Model:
    policy: Any = {"dtype": "mixed_bfloat16"}
    inputs = x = keras.Input((6,))
    x = L.Dense(10, activation="relu", **policy)(x)
    x = L.Dense(8, activation="relu", **policy)(x)
    return keras.Model(inputs, L.Dense(2, dtype="float32")(x))


@architecture()
def nested_three_deep() -> keras.Model:
    def block(width: int, out: int, name: str) -> keras.Model:
        i = keras.Input((width,))
        return keras.Model(i, L.Dense(out, activation="relu")(L.Dense(6, activation="relu")(i)), name=name)

    middle_input = keras.Input((5,))
    middle = keras.Model(middle_input, block(7, 4, "low")(L.Dense(7, activation="relu")(middle_input)), name="middle")
    seq = keras.Sequential([keras.Input((8,)), L.Dense(5, activation="relu"), middle, L.Dense(3)], name="top")
    inputs = keras.Input((4,))
    return keras.Model(inputs, seq(L.Dense(8, activation="relu")(inputs)))


@architecture()
def the_same_block_thrice() -> keras.Model:
    i = keras.Input((6, 6, 4))
    y = L.Conv2D(7, 3, padding="same", activation="relu")(i)
    block = keras.Model(i, L.Add()([i, L.Conv2D(4, 3, padding="same")(y)]), name="block")
    inputs = x = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, padding="same")(x)
    for _ in range(3):
        x = block(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(x)))


@architecture()
def parametric_activations() -> keras.Model:
    inputs = x = keras.Input((8, 8, 2))
    x = L.PReLU()(L.Conv2D(5, 3)(x))
    x = L.PReLU(shared_axes=[1, 2])(L.Conv2D(6, 3)(x))
    x = L.LeakyReLU(negative_slope=0.3)(L.Dense(7)(x))
    x = L.ReLU(max_value=6.0, negative_slope=0.1, threshold=0.0)(L.Dense(6)(x))
    x = L.ELU(alpha=0.5)(L.Dense(5)(L.Flatten()(x)))
    x = L.Dense(6, activation=L.LeakyReLU())(x)
    return keras.Model(inputs, L.Dense(2)(L.PReLU()(L.Dense(6)(x))))


@architecture()
def reused_width_in_concatenations() -> keras.Model:
    inputs = keras.Input((6,))
    x = L.Dense(6, activation="relu")(inputs)
    y = L.Concatenate()([x, inputs, x])
    z = L.Dense(18, activation="relu")(y)
    y = L.Add()([y, z])
    return keras.Model(inputs, L.Dense(2)(L.Dense(5, activation="relu")(y)))


@architecture()
def highway_and_broadcast_gates() -> keras.Model:
    inputs = x = keras.Input((7,))
    x = L.Dense(9, activation="relu")(x)
    gate = L.Dense(9, activation="sigmoid")(x)
    h = L.Dense(9, activation="relu")(x)
    x = h * gate + x * (1.0 - gate)
    scalar = L.Dense(1, activation="sigmoid")(x)
    return keras.Model(inputs, L.Dense(2)(x * scalar))


@architecture()
def repeated_and_embedded_categories() -> keras.Model:
    number, category = keras.Input((4,)), keras.Input((3,), dtype="int32")
    x = L.RepeatVector(3)(L.Dense(6, activation="relu")(number))
    y = L.Embedding(10, 5, embeddings_constraint="non_neg")(category)
    z = L.Conv1D(7, 2, activation="relu")(L.Concatenate()([x, y]))
    one_hot = L.CategoryEncoding(num_tokens=10, output_mode="multi_hot")(category)
    w = L.Dense(4, activation="relu")(one_hot)
    return keras.Model([number, category], L.Dense(2)(L.Concatenate()([L.Flatten()(z), w])))


@architecture()
def hidden_layer_is_an_output_twice() -> keras.Model:
    inputs = x = keras.Input((8, 8, 1))
    x = L.Conv2D(5, 3, activation="relu")(x)
    y = L.Conv2D(6, 3, activation="relu")(x)
    z = L.Dense(4)(L.Flatten()(y))
    return keras.Model(inputs, [z, x, z])


@architecture()
def widths_of_one() -> keras.Model:
    inputs = x = keras.Input((8, 1))
    x = L.Conv1D(1, 3, activation="relu")(x)
    x = L.Conv1D(4, 3, activation="relu")(x)
    x = L.Dense(1, activation="relu")(L.Flatten()(x))
    return keras.Model(inputs, L.Dense(2)(L.Dense(3, activation="relu")(x)))


@architecture()
def no_batch_normalisation_scale() -> keras.Model:
    inputs = x = keras.Input((6, 6, 3))
    x = L.BatchNormalization()(x)
    x = L.BatchNormalization(scale=False)(L.Conv2D(6, 3, use_bias=False)(x))
    x = L.BatchNormalization(center=False)(L.Conv2D(5, 3, use_bias=False, activation="relu")(x))
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))


@architecture()
def built_by_calling_it() -> keras.Model:
    layers = [L.Conv1D(6, 3, activation="relu"), L.GlobalMaxPooling1D(), L.Dense(5, "relu"), L.Dense(2)]
    model = keras.Sequential(layers)
    model.build((None, 9, 3))
    return model


@architecture()
def adaptive_pooling_and_crops() -> keras.Model:
    inputs = x = keras.Input((12, 12, 2))
    x = L.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = L.CenterCrop(8, 8)(x)
    x = L.AdaptiveAveragePooling2D(4)(x)
    x = L.Conv2D(5, 3, activation="relu")(L.ZeroPadding2D((1, 2))(x))
    x = L.AdaptiveMaxPooling2D((2, 2))(x)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))


@architecture()
def initial_values_as_arrays() -> keras.Model:
    inputs = keras.Input((5,), dtype="int32")
    table = np.linspace(-1, 1, 54, dtype="float32").reshape(9, 6)
    x = L.Embedding(9, 6, embeddings_initializer=keras.initializers.Constant(table))(inputs)
    x = L.Dropout(0.5, noise_shape=(None, 1, 6))(x)
    x = L.GlobalAveragePooling1D()(x)
    x = L.Dense(5, activation="relu", bias_initializer=keras.initializers.Constant([1.0, 2.0, 3.0, 4.0, 5.0]))(x)
    return keras.Model(inputs, L.Dense(2)(x))


@architecture()
def low_rank_adapted() -> keras.Model:
    inputs = keras.Input((6,))
    first = L.Dense(9, activation="relu")
    model = keras.Model(inputs, L.Dense(2)(L.Dense(8, activation="relu")(first(inputs))))
    first.enable_lora(2)
    first.lora_kernel_b.assign(np.ones((2, 9), "float32"))
    return model


@architecture()
def quantized_in_the_middle() -> keras.Model:
    inputs = keras.Input((6,))
    middle = L.Dense(9, activation="relu")
    x = middle(L.Dense(8, activation="relu")(inputs))
    x = L.Dense(7, activation="relu")(x)
    model = keras.Model(inputs, L.Dense(2)(L.Dense(6, activation="relu")(x)))
    middle.quantize("int8")
    return model


@architecture()
def interleaved_and_subtracted_mean_of_the_batch() -> keras.Model:
    inputs = keras.Input((6,))
    a, b = L.Dense(5, activation="relu")(inputs), L.Dense(5, activation="relu")(inputs)
    x = ops.reshape(ops.stack([a, b], axis=-1), (-1, 10))
    x = x - ops.mean(x, axis=0, keepdims=True)
    return keras.Model(inputs, L.Dense(2)(L.Dense(7, activation="relu")(x)))
