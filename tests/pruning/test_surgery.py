from __future__ import annotations

import copy
import json
import os
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from keras import layers as L

from pruning import archive as archives
from pruning import surgery
from pruning.contract.errors import ContradictorySpec, VerificationFailed
from pruning.graph import Op
from pruning.rules.trace import NormalizedAxes
from tests import equivalence, graphs, planted, random_graphs, random_sequences, random_videos
from tests.thinned import thinned

TOLERANCE = 1e-9
# How many random graphs of each kind the long test draws.
EXAMPLES = int(os.environ.get("RANDOM_GRAPHS", "75"))


@pytest.mark.parametrize("name", graphs.THINNED)
def test_pruned_equals_masked(name: str) -> None:
    found, power = equivalence.zoo(name).differences()
    # MaxPool3D computes in float32.
    assert found < (1e-6 if name == "three_dimensional" else TOLERANCE)
    assert power > 1e-4


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("kind", [random_graphs, random_sequences, random_videos])
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_random_graphs(kind: Any, data: st.DataObject) -> None:
    prove(kind, data)


@pytest.mark.slow
@pytest.mark.timeout(60 + 20 * EXAMPLES)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize("kind", [random_graphs, random_sequences, random_videos])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    # The same graphs every time, unless one asks for more of them.
    derandomize="RANDOM_GRAPHS" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_many_random_graphs(kind: Any, data: st.DataObject) -> None:
    prove(kind, data)


def prove(kind: Any, data: st.DataObject) -> None:
    with equivalence.double():
        model = kind.model(data.draw)
    normalized_axes: NormalizedAxes = data.draw(st.sampled_from(["keep", "prune"]))
    found, _ = equivalence.Proof(equivalence.archived(model), model).differences(normalized_axes=normalized_axes)
    assert found < TOLERANCE


@pytest.mark.timeout(
    1200
)  # whichever comes first in a process builds the whole zoo, which takes a minute on quiet cores
@pytest.mark.parametrize("name", thinned(planted.PLANTED, 4))
def test_planted_bug_is_caught(name: str) -> None:
    class_name = name.split(":")[0]
    # Small models first: most bugs are caught there.
    models = sorted((key for key in graphs.ZOO if class_name in _classes(key)), key=lambda key: len(_ops(key)))
    assert models, f"no model of the zoo has a {class_name}"
    normalized_axes: NormalizedAxes = "prune" if name in planted.UNDER_PRUNE else "keep"
    assert any(_catches(model, planted.PLANTED[name], normalized_axes) for model in models)


def _ops(name: str) -> tuple[Op, ...]:
    return equivalence.zoo(name).graph.ops


def _classes(name: str) -> set[str]:
    return {op.class_name for op in _ops(name)}


def _catches(model: str, plant: planted.Plant, normalized_axes: NormalizedAxes) -> bool:
    proof = equivalence.zoo(model)
    clean = _misread(proof.archive, normalized_axes)
    with plant():
        try:
            found, _ = proof.differences(normalized_axes=normalized_axes)
            misread = _misread(proof.archive, normalized_axes)
        # What does not fit is refused by the surgery or, at the latest, by Keras when it loads the model.
        except (VerificationFailed, ContradictorySpec, ValueError, UserWarning, tf.errors.InvalidArgumentError):
            return True
    return found > TOLERANCE or misread - clean != set()


def _misread(archive: archives.Archive, normalized_axes: NormalizedAxes) -> set[tuple[str, str]]:
    """Where rules contradict the file: (layer, code)."""
    barriers = equivalence.traced(archive, normalized_axes)[1].barriers
    return {(barrier.layer, barrier.code) for barrier in barriers if barrier.code in ("shape_mismatch", "misread")}


@pytest.mark.parametrize("name", ["residual", "concatenate_into_flatten", "depth_multiplier"])
@pytest.mark.parametrize("share", [0.01, 0.99])
def test_from_one_unit_to_all_but_one(name: str, share: float) -> None:
    proof = equivalence.zoo(name)
    found, _ = proof.differences(equivalence.some_units(proof.units, 1, share))
    assert found < TOLERANCE


def test_nothing_removed_changes_nothing_but_what_is_dropped() -> None:
    proof = equivalence.zoo("residual")
    same = surgery.apply(proof.archive, proof.graph, proof.units, [])
    assert same.arrays.keys() == proof.archive.arrays.keys()
    for path, array in same.arrays.items():
        np.testing.assert_array_equal(array, proof.archive.arrays[path])
    assert "build_config" not in json.dumps(same.config)


def test_what_is_kept_is_the_original_to_the_bit() -> None:
    proof = equivalence.zoo("residual")
    group = proof.units.groups[0]
    pruned = surgery.apply(proof.archive, proof.graph, proof.units, group.units[[1, 4]])
    keep = [0, 2, 3, 5]
    before, after = proof.archive.arrays, pruned.arrays
    np.testing.assert_array_equal(after["layers/conv2d/vars/0"], before["layers/conv2d/vars/0"][..., keep])
    np.testing.assert_array_equal(after["layers/conv2d_1/vars/0"], before["layers/conv2d_1/vars/0"][:, :, keep])
    np.testing.assert_array_equal(
        after["layers/batch_normalization/vars/3"], before["layers/batch_normalization/vars/3"][keep]
    )


def test_a_group_may_not_be_emptied() -> None:
    proof = equivalence.zoo("residual")
    with pytest.raises(ContradictorySpec, match="at least one"):
        surgery.apply(proof.archive, proof.graph, proof.units, proof.units.groups[1].units)


def test_units_behind_a_barrier_may_not_go() -> None:
    proof = equivalence.zoo("residual")
    (group,) = [group for group in proof.units.groups if group.id == "dense"]
    with pytest.raises(ContradictorySpec, match="softmax"):
        surgery.apply(proof.archive, proof.graph, proof.units, group.units[:1])


@pytest.mark.parametrize("removed", [[-1], [10**6]])
def test_unknown_unit_ids_are_refused(removed: list[int]) -> None:
    proof = equivalence.zoo("residual")
    with pytest.raises(ContradictorySpec, match="unit ids"):
        surgery.apply(proof.archive, proof.graph, proof.units, removed)


def test_surgery_is_pure() -> None:
    proof = equivalence.zoo("nested")
    config = copy.deepcopy(proof.archive.config)
    arrays = {path: array.copy() for path, array in proof.archive.arrays.items()}
    removed = equivalence.some_units(proof.units)
    first = surgery.apply(proof.archive, proof.graph, proof.units, removed)
    surgery.mask(proof.archive.arrays, proof.units, removed)
    second = surgery.apply(proof.archive, proof.graph, proof.units, removed)
    assert proof.archive.config == config
    for path, array in arrays.items():
        np.testing.assert_array_equal(proof.archive.arrays[path], array)
    assert first.config == second.config
    for path, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[path])


def test_a_plan_and_its_units_are_one() -> None:
    units = equivalence.zoo("inception").units
    removed = np.sort(equivalence.some_units(units))
    plan = surgery.plan_of(removed, units)
    np.testing.assert_array_equal(surgery.removed_of(plan, units), removed)
    assert {group.id for group in plan.groups} == {group.id for group in units.groups if group.barrier is None}


@pytest.mark.parametrize("change", [{"id": "nobody"}, {"width": 99}])
def test_a_plan_of_another_model_is_refused(change: dict[str, Any]) -> None:
    units = equivalence.zoo("inception").units
    plan = surgery.plan_of([], units)
    other = plan.model_copy(update={"groups": [plan.groups[0].model_copy(update=change)]})
    with pytest.raises(ContradictorySpec):
        surgery.removed_of(other, units)


def test_a_pruned_model_is_pruned_again() -> None:
    proof = equivalence.zoo("mobile_net")
    once = surgery.apply(proof.archive, proof.graph, proof.units, equivalence.some_units(proof.units, 0, 0.3))
    again = equivalence.Proof(once)
    found, power = again.differences()
    assert found < TOLERANCE < power


def test_a_pruned_file_trains_on_and_stays_compiled(tmp_path: Path) -> None:
    model = graphs.build("squeeze_excite")
    model.compile("sgd", "mse", metrics=["mae"])
    archive = equivalence.archived(model)
    graph, units = equivalence.traced(archive)
    archives.write(tmp_path / "p.keras", surgery.apply(archive, graph, units, equivalence.some_units(units)))
    with warnings.catch_warnings():
        # Keras says that the optimizer starts anew.
        warnings.filterwarnings("ignore", message="Skipping variable loading for optimizer")
        pruned = keras.saving.load_model(tmp_path / "p.keras")
    before = [weight.numpy() for weight in pruned.trainable_weights]
    pruned.fit(np.ones((4, 6, 6, 3)), np.ones((4, 3)), verbose=0)
    assert any((a != b.numpy()).any() for a, b in zip(before, pruned.trainable_weights, strict=True))
    assert pruned.count_params() < model.count_params()


NORMALIZED = [
    *("normalizations", "cosine", "group_normalization", "transformer", "reductions"),
    *("normalizing_operations", "shares", "statistics"),
]


@pytest.mark.parametrize("name", NORMALIZED)
def test_pruned_equals_masked_where_normalised_axes_are_pruned(name: str) -> None:
    proof = equivalence.zoo(name)
    found, power = proof.differences(normalized_axes="prune")
    assert found < TOLERANCE
    assert power > 1e-4
    _, kept = equivalence.traced(proof.archive)
    assert "normalized_axis" in {barrier.code for barrier in kept.barriers}


ENCODED = {
    "counts": lambda: [keras.Input((4,), dtype="int64"), L.CategoryEncoding(5, output_mode="count")],
    "marks": lambda: [keras.Input((1,), dtype="int64"), L.IntegerLookup(vocabulary=[3, 4], output_mode="one_hot")],
    "words": lambda: [keras.Input((4,), dtype="string"), L.StringLookup(vocabulary=["a"], output_mode="multi_hot")],
    "bins": lambda: [keras.Input((4,)), L.Discretization([0.0, 1.0]), L.Embedding(3, 6), L.Flatten()],
    "hashes": lambda: [keras.Input((4,), dtype="string"), L.Hashing(7), L.Embedding(7, 6), L.Flatten()],
    "text": lambda: [
        keras.Input((1,), dtype="string"),
        L.TextVectorization(vocabulary=["a", "b"], output_sequence_length=5),
        L.Embedding(4, 6),
        L.LSTM(5),
    ],
    "augmented": lambda: [keras.Input((8, 8, 3)), L.RandAugment(), L.AutoContrast(), L.Conv2D(5, 3), L.Flatten()],
    "heard": lambda: [keras.Input((4000,)), L.MelSpectrogram(), L.Conv1D(5, 3), L.GlobalMaxPooling1D()],
}


@pytest.mark.parametrize("name", ENCODED)
def test_a_sequence_that_begins_with_what_has_no_units_is_cut_behind_it(name: str) -> None:
    archive = equivalence.archived(keras.Sequential([*ENCODED[name](), L.Dense(4, "relu"), L.Dense(2)]))
    graph, units = equivalence.traced(archive)
    removed = equivalence.some_units(units)
    pruned = surgery.apply(archive, graph, units, removed)
    _, left = surgery.check(pruned, units, removed)
    assert [len(group.units) for group in left.groups[:-1]] == [
        len(group.units) - np.isin(group.units, removed).sum() for group in units.groups[:-1]
    ]
    assert equivalence.loaded(pruned).count_params() == sum(
        array.size for array in pruned.arrays.values() if array.ndim
    )
