from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

import pruning
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
    (found,) = probe.random(model, [5], 2, [(128,)])
    assert (found.shape, found.dtype, found.max() < 5) == ((2, 128), np.int32, True)


def _stacked(steps: int) -> keras.Model:
    """Puts so many steps of three numbers side by side."""
    inputs = keras.Input((None, 3))
    x = keras.layers.Dense(6, activation="relu")(keras.layers.Reshape((-1, 3 * steps))(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def _cropped(size: int) -> keras.Model:
    """Takes images of more than `size` pixels a side."""
    inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Cropping2D(((size - 2, 0), (0, size - 2)))(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def _halved(times: int) -> keras.Model:
    """Takes images of 2**`times` pixels a side and more; TensorFlow's pooling of nothing ends the process."""
    x = inputs = keras.Input((None, None, 2))
    for _ in range(times):
        x = keras.layers.MaxPooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def _positions(longest: int) -> keras.Model:
    """Adds one of so many positions to each step."""
    inputs = keras.Input((None, 3))
    places = keras.ops.cumsum(keras.ops.ones_like(inputs[:, :, 0], "int32"), axis=1) - 1
    return keras.Model(inputs, keras.layers.Dense(2)(inputs + keras.layers.Embedding(longest, 3)(places)))


@pytest.mark.parametrize(
    ("build", "by", "wanted", "found"),
    [
        (_stacked, 2, 64, 64),
        (_stacked, 3, 64, 63),
        (_stacked, 3, 128, 126),
        (_stacked, 25, 64, 50),
        (_cropped, 75, 64, 96),
        (_cropped, 75, 128, 128),
        (_cropped, 10**4, 64, 64),
        (_halved, 8, 64, 256),
        (_positions, 39, 128, 32),
    ],
)
def test_free_dimensions_get_a_size_that_the_model_takes(
    build: Callable[[int], keras.Model], by: int, wanted: int, found: int
) -> None:
    assert {*probe.shapes(build(by), [None], wanted)[0][:-1]} == {found}


def _table(places: int) -> keras.Model:
    """Adds a table of positions as a whole."""
    inputs = keras.Input((None, 3))
    table = keras.layers.Embedding(places, 8)(keras.ops.arange(places))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dense(8, activation="relu")(inputs) + table))


def _scales(*times: int) -> keras.Model:
    """Takes images, each so many times as large as what they are all brought to."""
    images = [keras.Input((None, None, 2), name=f"image_{place}") for place in range(len(times))]
    parts = [keras.layers.Conv2D(8, factor, factor, "same")(x) for x, factor in zip(images, times, strict=True)]
    return keras.Model(images, keras.layers.Dense(2)(keras.layers.ReLU()(keras.layers.Add()(parts))))


def _context(width: int) -> keras.Model:
    """Takes steps, and the same with those around them."""
    steps, around = keras.Input((None, 3), name="steps"), keras.Input((None, 3), name="around")
    parts = [keras.layers.Dense(8)(steps), keras.layers.Conv1D(8, width)(around)]
    return keras.Model([steps, around], keras.layers.Dense(2)(keras.layers.ReLU()(keras.layers.Add()(parts))))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (_table(41), [(41, 3)]),
        (_scales(1, 1), [(64, 64, 2), (64, 64, 2)]),
        (_scales(2, 1), [(64, 64, 2), (32, 32, 2)]),
        (_scales(1, 3), [(21, 21, 2), (63, 63, 2)]),
        (_scales(4, 1, 2), [(64, 64, 2), (16, 16, 2), (32, 32, 2)]),
        (_context(5), [(64, 3), (68, 3)]),
        (_context(42), [(64, 3), (64, 3)]),
    ],
)
def test_inputs_whose_free_dimensions_have_to_differ_get_shapes_that_go_together(
    model: keras.Model, found: list[tuple[int, ...]]
) -> None:
    assert probe.shapes(model, [None] * len(found), 64) == found


@pytest.mark.parametrize("model", [_table(41), _scales(2, 1), _scales(4, 1, 2), _context(5)])
def test_models_whose_free_dimensions_have_to_differ_are_pruned(tmp_path: Path, model: keras.Model) -> None:
    model.save(tmp_path / "model.keras")
    result = pruning.prune(tmp_path / "model.keras", {"pruning": {"target": {"type": "ratio", "value": 0.5}}})
    assert {layer.width_after for layer in result.layers if layer.width_before == 8} == {4}
    assert result.verification.delivered is not None
    assert result.verification.delivered.has_power
    assert result.measures.after.latency_ms


def test_where_only_the_samples_have_shapes_that_a_model_takes_its_latency_is_that_of_those(tmp_path: Path) -> None:
    _context(42).save(tmp_path / "model.keras")
    rng = np.random.default_rng(0)
    data = {"x_train__steps": rng.normal(size=(8, 5, 3)), "x_train__around": rng.normal(size=(8, 46, 3))}
    spec = {"pruning": {"target": {"type": "ratio", "value": 0.5}}, "recovery": []}
    result = pruning.prune(tmp_path / "model.keras", spec, data)
    assert result.measures.after.latency_ms


def test_models_that_take_multiples_of_three_steps_alone_are_pruned(tmp_path: Path) -> None:
    _stacked(3).save(tmp_path / "model.keras")
    result = pruning.prune(tmp_path / "model.keras", {"pruning": {"target": {"type": "ratio", "value": 0.5}}})
    assert [layer.width_after for layer in result.layers if layer.class_name == "Dense"] == [3, 2]
    assert result.verification.delivered is not None
    assert result.verification.delivered.has_power
    assert result.measures.after.latency_ms


def test_steps_of_steps_are_few() -> None:
    words = keras.Input((None, None, 3))
    sentences = keras.layers.TimeDistributed(keras.layers.GRU(4))(words)
    model = keras.Model(words, keras.layers.Dense(2)(keras.layers.GRU(3)(sentences)))
    assert [found[0].shape for found in probe.probes(model, [None], None)] == [(8, 8, 8, 3)] * 2


def test_volumes_are_not_tried_at_sizes_that_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = keras.Input((None, None, None, 1)), keras.Input((None, None, None, 1))
    model = keras.Model([left, right], keras.layers.Concatenate()([left, right]))
    tried: list[probe.Shapes] = []
    monkeypatch.setattr(probe, "_takes", lambda _model, _vocabularies, given: bool(tried.append(given)))
    assert probe.shapes(model, [None, None], 64) == [(64, 64, 64, 1)] * 2
    assert len(tried) > 20
    assert max(np.prod(shape) for given in tried for shape in given) <= 2**20
