from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pruning import archive as archives
from pruning import planning
from pruning.keras import live, load, report
from pruning.keras.evaluate import outputs_of
from pruning.keras.normalize import normalize
from pruning.keras.private import mask_of
from tests import graphs


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


def test_a_model_built_from_data_normalizes_by_what_it_was_adapted_to(tmp_path: Path) -> None:
    normalized = keras.layers.Normalization()
    normalized.adapt(np.array([[1.0, 10.0], [3.0, 30.0]]))
    words = keras.layers.StringLookup()
    words.adapt(["b", "a", "b"])
    numbers, text = keras.Input((2,)), keras.Input((1,), dtype="string")
    normalize(keras.Model([numbers, text], [normalized(numbers), words(text)]), tmp_path / "adapted.keras")
    archive = planning.read(tmp_path / "adapted.keras")
    found = live.call(live.build(archive.config, archive.arrays), [np.array([[3.0, 10.0]]), np.array([["a"]])])
    np.testing.assert_allclose(found[0], [[1.0, -1.0]], rtol=1e-6)
    np.testing.assert_array_equal(found[1], [[2]])


@pytest.mark.parametrize("name", ["größe 1", "a b", "_under", "k", "a.b-c"])
def test_layers_of_any_name_run_in_a_graph(name: str, tmp_path: Path) -> None:
    inputs = keras.Input((3,))
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name=name)], name=f"{name} model")
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)), name=f"{name} too")
    path = tmp_path / "odd.keras"
    model.save(path)
    archive = planning.read(path)
    values = np.ones((2, 3), np.float32)
    for read in (live.build(archive.config, archive.arrays), load.load_delivered(path)):
        assert [layer.name for layer in read.layers] == [layer.name for layer in model.layers]
        np.testing.assert_allclose(tf.function(read)(values), model(values), rtol=1e-6)


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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if at % 8 else []) for at, name in enumerate(graphs.ZOO)]
)
def test_a_model_as_data_is_what_its_file_holds(name: str, tmp_path: Path) -> None:
    check_data_of(graphs.build(name), tmp_path)


def test_a_model_with_vocabulary_state_and_half_weights_as_data(tmp_path: Path) -> None:
    words = keras.Input((1,), dtype="string")
    lookup = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")
    x = keras.layers.Dense(3, dtype="bfloat16")(keras.layers.Dropout(0.5)(lookup(words)))
    model = keras.Model(words, keras.layers.Dense(2)(x))
    model.compile("adam", "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    check_data_of(model, tmp_path)


def check_data_of(model: keras.Model, folder: Path) -> None:
    model.save(folder / "m.keras")
    found, held = live.archive(model), archives.without_optimizer(archives.read(folder / "m.keras"))
    assert (found.config, found.assets, found.bfloat16) == (held.config, held.assets, held.bfloat16)
    assert list(found.names.items()) == list(held.names.items())
    assert list(found.arrays) == list(held.arrays)
    for path, array in held.arrays.items():
        np.testing.assert_array_equal(found.arrays[path], array, strict=True)
    assert found.metadata.keys() == held.metadata.keys()
