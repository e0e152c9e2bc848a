"""Good surgery passes; every planted bug is caught, wherever it is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pruning import archive as archives
from pruning import surgery
from pruning.archive import Archive
from pruning.case import Case
from pruning.contract.errors import VerificationFailed
from pruning.keras import heads, live, probe, verify
from tests.pruning.keras import small

Array = Any


def removed(case: Case) -> Array:
    """The first, third and fifth unit of every group that may be pruned."""
    return np.concatenate([group.units[[0, 2, 4]] for group in case.units.groups if group.barrier is None])


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return small.case(small.residual(), tmp_path)


def both(case: Case, cut: Archive, gone: Array) -> None:
    probe = [small.images(4)[0]]
    verify.structure(case, gone, [probe])
    verify.delivered(case, cut, gone, [probe])


def test_good_surgery_passes_with_power(case: Case) -> None:
    gone = removed(case)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    probe = [small.images(8)[0]]
    structure = verify.structure(case, gone, [probe])
    assert structure.relative_difference <= 1e-12
    assert structure.has_power
    values = verify.delivered(case, cut, gone, [probe])
    assert values.relative_difference <= 1e-5
    assert values.has_power


ENDINGS = [keras.layers.Softmax(), keras.ops.softmax, keras.ops.sigmoid]


@pytest.mark.parametrize("ending", ENDINGS, ids=["layer", "softmax", "sigmoid"])
def test_values_are_compared_before_an_activation_that_ends_the_model(ending: Any, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    logits = keras.layers.Dense(3)(keras.layers.Dense(6, activation="relu")(inputs))
    case = small.case(keras.Model(inputs, ending(logits)), tmp_path)
    plain = live.build(heads.linear(case.archive.config, case.graph), case.archive.arrays)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    hidden = np.maximum(x @ case.archive.arrays["layers/dense/vars/0"], 0)
    expected = hidden @ case.archive.arrays["layers/dense_1/vars/0"]
    np.testing.assert_allclose(verify.outputs(plain, [x])[0], expected, rtol=1e-5, atol=1e-6)


BUGS: dict[str, Callable[[Array, int], Array]] = {
    "shifted": lambda array, axis: np.roll(array, 1, axis),
    "reversed": lambda array, axis: np.flip(array, axis),
    "swapped": lambda array, axis: np.take(array, [1, 0, *range(2, array.shape[axis])], axis),
    "doubled": lambda array, axis: np.take(array, [0, 0, *range(2, array.shape[axis])], axis),
    "zeroed": lambda array, axis: (
        array * (np.arange(array.shape[axis]) > 0).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    ),
}
PLACES = [
    ("layers/conv2d/vars/0", 3),
    ("layers/conv2d_1/vars/0", 2),
    ("layers/conv2d_1/vars/0", 3),
    ("layers/conv2d_1/vars/1", 0),
    ("layers/conv2d_2/vars/0", 2),
    ("layers/conv2d_2/vars/0", 3),
    ("layers/conv2d_2/vars/1", 0),
    ("layers/batch_normalization/vars/0", 0),
    ("layers/batch_normalization/vars/1", 0),
    ("layers/batch_normalization/vars/2", 0),
    ("layers/batch_normalization_1/vars/3", 0),
    ("layers/dense/vars/0", 0),
]


@pytest.mark.parametrize(("place", "bug"), list(enumerate([*BUGS, *BUGS, *BUGS][: len(PLACES)])))
def test_a_wrong_index_in_the_surgery_is_caught_by_structure(
    case: Case, monkeypatch: pytest.MonkeyPatch, place: int, bug: str
) -> None:
    """The weights are untrained - biases all zero, scales all one - and hide nothing, because they are redrawn."""
    path, axis = PLACES[place]
    gone = removed(case)
    right = surgery.apply

    def wrong(archive: Archive, *rest: Any) -> Archive:
        cut = right(archive, *rest)
        return archives.replace_arrays(cut, {path: BUGS[bug](cut.arrays[path], axis)})

    monkeypatch.setattr(surgery, "apply", wrong)
    with pytest.raises(VerificationFailed, match="structure"):
        verify.structure(case, gone, [[small.images(4)[0]]])


@pytest.mark.parametrize("bug", BUGS)
def test_a_wrong_array_in_the_delivered_model_is_caught_by_values(case: Case, bug: str) -> None:
    gone = removed(case)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    path = "layers/conv2d_2/vars/0"
    broken = archives.replace_arrays(cut, {path: BUGS[bug](cut.arrays[path], 2)})
    with pytest.raises(VerificationFailed, match="values"):
        both(case, broken, gone)


def test_a_missing_or_misshapen_array_fails(case: Case) -> None:
    gone = removed(case)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    path = "layers/dense/vars/0"
    short = archives.replace_arrays(cut, {path: cut.arrays[path][1:]})
    with pytest.raises(VerificationFailed, match=path):
        verify.delivered(case, short, gone, [[small.images(2)[0]]])


def test_a_small_difference_before_the_softmax_is_not_squeezed_away(case: Case) -> None:
    gone = removed(case)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    bias = cut.arrays["layers/dense/vars/1"]
    moved = archives.replace_arrays(cut, {"layers/dense/vars/1": bias + 1.0})  # softmax does not see this
    with pytest.raises(VerificationFailed, match="values"):
        verify.delivered(case, moved, gone, [[small.images(2)[0]]])


def test_dead_units_prove_nothing_by_values_but_structure_still_does(tmp_path: Path) -> None:
    model = small.residual()
    kernel = model.get_layer("last").kernel
    kernel.assign(kernel.numpy() * (np.arange(12) > 2))
    case = small.case(model, tmp_path)
    gone = next(group.units[:2] for group in case.units.groups if group.id == "last")
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    probe = [small.images(4)[0]]
    assert not verify.delivered(case, cut, gone, [probe]).has_power
    assert verify.structure(case, gone, [probe]).has_power


def test_the_written_file_against_memory(tmp_path: Path) -> None:
    model, other = small.residual(), small.residual(seed=1)
    probes = [[small.images(4)[0]]]
    assert verify.reloaded(model, small.residual(), probes).relative_difference == 0
    with pytest.raises(VerificationFailed, match="loaded again"):
        verify.reloaded(model, other, probes)


def test_masks_hold_and_nothing_else_changes(case: Case) -> None:
    path = "layers/dense/vars/0"
    mask = np.ones(case.archive.arrays[path].shape, bool)
    mask[0] = False
    array = np.where(mask, case.archive.arrays[path], 0)
    assert verify.zeros_held({path: array}, {path: mask})
    verify.unchanged({path: case.archive.arrays[path]}, {path: array}, {path: mask})
    with pytest.raises(VerificationFailed, match="masked and not zero"):
        verify.zeros_held({path: array + 1}, {path: mask})
    with pytest.raises(VerificationFailed, match="no mask covers"):
        verify.unchanged({path: case.archive.arrays[path]}, {path: array * 2}, {path: mask})


def test_not_finite_outputs_are_no_proof(case: Case) -> None:
    gone = removed(case)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    probe = [np.full((2, 8, 8, 2), np.inf, np.float32)]
    with pytest.raises(VerificationFailed, match="not finite"):
        verify.delivered(case, cut, gone, [probe])


def test_float64_reaches_every_layer_and_policy(case: Case) -> None:
    config = live.computing_in(case.archive.config, "float64")
    model = live.build(config, case.archive.arrays)
    assert {layer.compute_dtype for layer in model.layers[1:]} == {"float64"}
    assert model.inputs[0].dtype == "float64"
    assert "float32" not in str(config["config"]["layers"])


def test_a_probe_without_power_is_followed_by_one_that_has_it(case: Case) -> None:
    gone = removed(case)
    nothing, images = [np.zeros((4, 8, 8, 2), np.float32)], [small.images(4)[0]]
    overflowing = [np.full((4, 8, 8, 2), np.inf, np.float32)]
    assert verify.structure(case, gone, [overflowing, images]).has_power
    with pytest.raises(VerificationFailed, match="not finite on any"):
        verify.structure(case, gone, [overflowing])
    assert verify.structure(case, gone, [nothing, images]).has_power


@pytest.mark.parametrize(
    "layers",
    [
        *(
            [keras.layers.Conv3D(4, 3, padding="same"), pool, keras.layers.Conv3D(3, 2)]
            for pool in (
                keras.layers.MaxPooling3D(2),
                keras.layers.AveragePooling3D(2),
                keras.layers.AdaptiveMaxPooling3D(4),
                keras.layers.AdaptiveAveragePooling3D(4),
            )
        ),
        [keras.layers.Conv3D(4, 3, activation="exponential"), keras.layers.Conv3D(3, 2)],
    ],
    ids=["maxima", "averages", "adaptive maxima", "adaptive averages", "overflows at 255"],
)
def test_models_at_the_edge_of_what_tensorflow_computes_are_proven(layers: list[Any], tmp_path: Path) -> None:
    case = small.case(keras.Sequential([keras.Input((8, 8, 8, 1)), *layers, keras.layers.Flatten()]), tmp_path)
    gone = next(group.units[:2] for group in case.units.groups if group.barrier is None)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    probes = probe.probes(live.build(case.archive.config, case.archive.arrays), case.vocabularies, None)
    structure = verify.structure(case, gone, probes)
    assert structure.relative_difference <= structure.tolerance
    assert structure.has_power
    assert verify.delivered(case, cut, gone, probes).has_power


def test_a_mistake_that_shows_in_a_batch_of_one_alone_is_caught(tmp_path: Path) -> None:
    inputs = keras.Input((4, 8))
    x = keras.layers.Dense(8, use_bias=False)(inputs)
    y = keras.layers.Dense(1, use_bias=False)(inputs)
    case = small.case(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Add()([x, y]))), tmp_path)
    # As many units as steps are never left otherwise: Keras would add `y` along the units for one sample.
    gone = next(group.units[:4] for group in case.units.groups if group.barrier is None)
    probes = probe.probes(live.build(case.archive.config, case.archive.arrays), case.vocabularies, None)
    with pytest.raises(VerificationFailed, match="structure, one sample: the outputs differ"):
        verify.structure(case, gone, probes)


@pytest.mark.parametrize(
    "mix",
    [
        lambda x: (x - keras.ops.mean(x, 0, keepdims=True)) / keras.ops.std(x, 0, keepdims=True),
        lambda x: keras.ops.reshape(keras.ops.reshape(x, (2, 6)), (2, 6)),
    ],
    ids=["not finite", "of another batch"],
)
def test_models_that_take_no_batch_of_one_are_proven_on_others(mix: Any, tmp_path: Path) -> None:
    inputs = keras.Input((6,), batch_size=2)
    x = keras.layers.Dense(8, activation="relu")(mix(inputs))
    case = small.case(keras.Model(inputs, keras.layers.Dense(2)(x)), tmp_path)
    gone = next(group.units[:4] for group in case.units.groups if group.barrier is None)
    batch = [np.random.default_rng(0).normal(size=(2, 6))]
    assert verify.structure(case, gone, [batch]).has_power


def test_a_model_that_keras_cannot_run_fails_with_its_words(tmp_path: Path) -> None:
    inputs = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
    # The mask has an axis less than the scores: Keras finds out when it computes.
    scores = keras.layers.Softmax(axis=1)(keras.layers.Dense(1)(x))
    case = small.case(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Multiply()([x, scores]))), tmp_path)
    whole = live.build(case.archive.config, case.archive.arrays)
    with pytest.raises(
        VerificationFailed, match=r"cannot be run here: ValueError: .*Softmax.call\(\)\. The `mask` must be"
    ):
        verify.outputs(whole, [np.ones((2, 5), np.int32)])


def test_recurrent_kernels_are_redrawn_small_and_hide_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As large as others, rectified states and their rounding grew for 64 steps, and sound surgery was refused."""
    inputs = keras.Input((5, 4))
    x = keras.layers.LSTM(12, activation="relu", name="first")(inputs)
    case = small.case(keras.Model(inputs, keras.layers.Dense(3)(x)), tmp_path)
    kernel, recurrent = (f"layers/lstm/cell/vars/{index}" for index in range(2))
    drawn = verify.redraw(case.archive.arrays, case.units, 0)
    assert 0.5 < np.std(drawn[kernel]) * np.sqrt(4 / 2) < 2
    assert 0.05 < np.std(drawn[recurrent]) * np.sqrt(12 / 2) < 0.2
    sequences = np.random.default_rng(0).uniform(0, 1, (3, 5, 4)).astype(np.float32)
    gone, right = removed(case), surgery.apply
    assert verify.structure(case, gone, [[sequences]]).relative_difference <= 1e-12

    def wrong(archive: Archive, *rest: Any) -> Archive:
        cut = right(archive, *rest)
        return archives.replace_arrays(cut, {recurrent: np.roll(cut.arrays[recurrent], 1, axis=0)})

    monkeypatch.setattr(surgery, "apply", wrong)
    with pytest.raises(VerificationFailed, match="structure"):
        verify.structure(case, gone, [[sequences]])


def test_weights_are_redrawn_smaller_where_exponentials_in_a_row_overflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The couplings of a normalising flow.
    left, right = keras.ops.split(inputs := keras.Input((8,)), 2, axis=-1)
    for _ in range(4):
        hidden = keras.layers.Dense(12, "relu")(left)
        scale, shift = keras.layers.Dense(4)(hidden), keras.layers.Dense(4)(hidden)
        left, right = right * keras.ops.exp(scale) + shift, left
    case = small.case(keras.Model(inputs, [left, right]), tmp_path)
    gone = np.concatenate([group.units[::3] for group in case.units.groups if group.barrier is None])
    assert len(gone)
    probes = probe.probes(live.build(case.archive.config, case.archive.arrays), case.vocabularies, None)
    found = verify.structure(case, gone, probes)
    assert found.relative_difference <= 1e-12
    assert found.has_power
    monkeypatch.setattr(verify, "_STRENGTHS", (1.0,))
    with pytest.raises(VerificationFailed, match="not finite on any probe"):
        verify.structure(case, gone, probes)


def test_what_the_sums_before_it_round_away_is_compared_in_double_precision(
    tmp_path: Path,
) -> None:
    # The normalisation takes away a sum of 3000 hundreds, and enlarges what is left of it and of its rounding.
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    hundreds = keras.layers.Dense(3000, "relu", bias_initializer=keras.initializers.Constant(100.0))(inputs)
    sums = keras.layers.Dense(4, kernel_initializer="random_normal")
    model = keras.Model(inputs, keras.layers.LayerNormalization()(sums(hundreds)))
    sums.kernel.assign(1 + sums.kernel / 50)
    case = small.case(model, tmp_path)
    (gone,) = (group.units[::3] for group in case.units.groups if group.barrier is None)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    probe = [np.random.default_rng(0).uniform(0, 1, (8, 8)).astype(np.float32)]
    assert verify.delivered(case, cut, gone, [probe]).relative_difference <= 1e-9
    kernel = next(path for path in cut.arrays if path.startswith("layers/dense_1/vars/0"))
    wrong = archives.replace_arrays(cut, {kernel: np.roll(cut.arrays[kernel], 1, axis=0)})
    with pytest.raises(VerificationFailed, match="values: the outputs differ"):
        verify.delivered(case, wrong, gone, [probe])


def test_outputs_that_rounding_alone_moves_are_compared_on_the_first_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 4))
    layer = keras.layers.SimpleRNN(64, return_sequences=True)
    model = keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))
    kernel, recurrent_kernel, bias = layer.get_weights()
    layer.set_weights([kernel, 3 * recurrent_kernel, bias])
    case = small.case(model, tmp_path)
    (gone,) = (group.units[::3] for group in case.units.groups if group.barrier is None)
    cut = surgery.apply(case.archive, case.graph, case.units, gone)
    recurrent = "layers/simple_rnn/cell/vars/1"
    # Stands for the order of sums, which depends on the machine.
    cut = archives.replace_arrays(cut, {recurrent: np.nextafter(cut.arrays[recurrent], np.float32(9))})
    probe = [np.random.default_rng(0).uniform(0, 1, (3, 64, 4)).astype(np.float32)]
    assert verify.delivered(case, cut, gone, [probe]).relative_difference <= 1e-5
    wrong = archives.replace_arrays(cut, {recurrent: np.roll(cut.arrays[recurrent], 1, axis=0)})
    with pytest.raises(VerificationFailed, match="values: the outputs differ"):
        verify.delivered(case, wrong, gone, [probe])
    monkeypatch.setattr(verify, "_rounds", lambda *_: False)
    with pytest.raises(VerificationFailed, match="values: the outputs differ"):
        verify.delivered(case, cut, gone, [probe])
