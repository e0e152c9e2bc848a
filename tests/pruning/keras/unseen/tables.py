"""Models that take rows of a table as they are: texts and numbers, with layers that were adapted to data."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L

from tests.pruning.keras.unseen.catalogue import architecture


@architecture(quick=True)
def adapted_to_a_table() -> keras.Model:
    rng = np.random.default_rng(0)
    numbers, code, city = keras.Input((3,)), keras.Input((1,), dtype="int64"), keras.Input((1,), dtype="string")
    normalized, bins = L.Normalization(), L.Discretization(num_bins=4, output_mode="one_hot")
    codes, cities = L.IntegerLookup(output_mode="one_hot"), L.StringLookup()
    normalized.adapt(rng.normal(5, 3, (20, 3)))
    bins.adapt(rng.uniform(0, 1, (50, 1)))
    codes.adapt(np.array([[1], [2], [5]]))
    cities.adapt([["Oslo"], ["Köln"], ["Rome"]])
    place = L.Flatten()(L.Embedding(4, 6)(cities(city)))
    x = L.Concatenate()([normalized(numbers), bins(numbers[:, :1]), codes(code), place])
    x = L.Dense(7, activation="relu")(L.Dense(9, activation="relu")(x))
    return keras.Model([numbers, code, city], L.Dense(1)(x))


@architecture()
def texts_to_labels() -> keras.Model:
    inputs = keras.Input((1,), dtype="string")
    words = L.TextVectorization(max_tokens=12, output_sequence_length=6)
    words.adapt(["a b c d", "e f g a b"])
    x = L.Bidirectional(L.LSTM(5))(L.Embedding(12, 8, mask_zero=True)(words(inputs)))
    return keras.Model(inputs, L.Dense(2)(L.Dense(9, activation="relu")(x)))


@architecture()
def texts_by_frequency_and_hashes() -> keras.Model:
    text, other = keras.Input((), dtype="string"), keras.Input((1,), dtype="string")
    words = L.TextVectorization(output_mode="tf_idf")
    words.adapt(["red green", "green blue", "blue blue sky"])
    hashed = L.CategoryEncoding(num_tokens=8, output_mode="one_hot")(L.Hashing(num_bins=8)(other))
    x = L.Dense(8, activation="relu")(L.Concatenate()([words(text), hashed]))
    return keras.Model([text, other], L.Dense(2)(L.Dense(6, activation="relu")(x)))
