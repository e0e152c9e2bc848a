from __future__ import annotations

import keras
import numpy as np

from pruning.keras import live, report
from pruning.keras.evaluate import outputs_of
from pruning.keras.private import mask_of


def test_half_precision_is_seen_inside_wrappers_and_nested_models() -> None:
    half = keras.layers.LSTM(3, dtype="mixed_float16")
    wrapped = keras.Sequential([keras.Input((4, 2)), keras.layers.Bidirectional(half)])
    outer = keras.Sequential([keras.Input((4, 2)), wrapped, keras.layers.Dense(1, name="mixed_float16")])
    assert live.computes_in(outer, {"float16"})
    assert not live.computes_in(outer, {"bfloat16"})
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, name="mixed_float16")])
    assert not live.computes_in(plain, {"float16"})


def test_masks_survive_the_cast_from_half_precision() -> None:
    tokens = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(5, 3, mask_zero=True)(tokens)
    model = keras.Model(tokens, keras.layers.Dense(2, dtype="mixed_float16")(embedded))
    (output,) = outputs_of(model, [np.array([[1, 2, 0, 0]])], training=True)
    assert output.dtype == "float32"
    np.testing.assert_array_equal(mask_of(output), [[True, True, False, False]])


def test_frozen_weights_are_those_of_layers_that_the_upload_froze() -> None:
    inputs = keras.Input((8,))
    scaled = keras.layers.Normalization(mean=0.0, variance=1.0)(inputs)
    seeded = keras.layers.Dense(4, name="seed_layer")(keras.layers.Dropout(0.1)(scaled))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.BatchNormalization()(seeded)))
    assert report.frozen(model) == []
    model.get_layer("seed_layer").trainable = False
    (warning,) = report.frozen(model)
    assert warning.detail.startswith("36 weights")
    assert "the other 23." in warning.detail
