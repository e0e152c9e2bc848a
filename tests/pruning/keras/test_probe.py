from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from pruning.keras import probe
from tests.pruning.keras import small


def test_probes_stay_inside_the_vocabulary(tmp_path: Path) -> None:
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    extra = keras.Input((2,), name="extra")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(7, 3)(tokens))
    model = keras.Model([tokens, extra], keras.layers.Dense(1)(keras.layers.Concatenate()([pooled, extra])))
    vocabularies = small.case(model, tmp_path).vocabularies
    assert vocabularies == (7, None)
    probes = probe.probes(model, vocabularies, None)
    assert [found[1].max() > 1 for found in probes] == [False, True]
    for found in probes:
        assert found[0].dtype == np.int32
        assert set(np.unique(found[0])) <= set(range(7))


def test_tables_of_one_input_share_the_smallest_vocabulary_also_in_a_nested_model(tmp_path: Path) -> None:
    inner_tokens = keras.Input((4,), dtype="int32")
    inner = keras.Model(inner_tokens, keras.layers.Embedding(5, 2)(inner_tokens))
    tokens = keras.Input((4,), dtype="int32")
    joined = keras.layers.Concatenate()([inner(tokens), keras.layers.Embedding(9, 3)(tokens)])
    model = keras.Model(tokens, keras.layers.Flatten()(joined))
    assert small.case(model, tmp_path).vocabularies == (5,)
    assert len(probe.probes(model, (5,), None)) == 1


def test_tables_behind_slices_casts_and_time_name_the_inputs_that_they_read(tmp_path: Path) -> None:
    row, characters = keras.Input((3,)), keras.Input((2, 4), dtype="int32")
    first = keras.layers.Embedding(6, 2)(keras.ops.cast(row[:, 0], "int32"))
    second = keras.layers.Embedding(9, 3)(keras.layers.Reshape((2,))(row[:, 1:]))
    words = keras.layers.TimeDistributed(keras.layers.Embedding(7, 3))(characters)
    pooled = [keras.layers.Flatten()(found) for found in (first, second, words)]
    model = keras.Model([row, characters], keras.layers.Concatenate()(pooled))
    assert small.case(model, tmp_path).vocabularies == (6, 7)


def test_random_inputs_fit_the_model() -> None:
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    model = keras.Model(tokens, keras.layers.Embedding(5, 3)(tokens))
    (found,) = probe.random(model, [5], 2, 128)
    assert (found.shape, found.dtype, found.max() < 5) == ((2, 128), np.int32, True)
