"""One contract for every criterion, and the values of each."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from pruning import criteria
from pruning.contract.criteria import FPGM, L1, L2, BatchNormScale, Criterion, Lamp, MeanAbs, Random
from pruning.criteria import Evidence
from pruning.units import Axis
from tests.pruning.criteria import invented
from tests.pruning.hand import Network

MEMBERS = get_args(get_args(Criterion)[0])
NORMALIZATIONS = ["none", "mean", "max", "standard", "sum", "lamp"]


def every():
    for member in (member for member in MEMBERS if member.of_units):
        name = get_args(member.model_fields["name"].annotation)[0]
        if member is Random:
            yield member(name=name)
            continue
        for aggregation in ("mean", "max", "none"):
            for normalization in NORMALIZATIONS[:2] if member.needs_samples else NORMALIZATIONS:
                yield member(name=name, aggregation=aggregation, normalization=normalization)


EVERY = list(every())
COMPARABLE = [one for one in EVERY if not isinstance(one, Random)]
MAGNITUDES = [one for one in COMPARABLE if not one.needs_samples]
OF_WEIGHTS = [one for one in EVERY if one.of_weights]


def named(one) -> str:
    return "-".join(str(value) for value in one.model_dump().values())


def residual() -> Network:
    """a and c are summed (5 units, scaled by two normalisations), b (4 units) has one, d (6 units) has none."""
    network = Network(seed=3)
    a = network.norm("a_norm", network.conv("a", 3, 5))
    b = network.norm("b_norm", network.conv("b", a, 4))
    network.norm("c_norm", network.conv("c", b, a))
    return network.head(network.conv("d", a, 6, window=2))


def test_every_member_of_the_union_has_one_implementation_for_each_structure():
    assert set(criteria.CHANNEL) == {member for member in MEMBERS if member.of_units}
    assert set(criteria.BLOCK) == {member for member in MEMBERS if member.of_blocks}
    assert set(criteria.WEIGHT) == {member for member in MEMBERS if member.of_weights}


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", EVERY, ids=named)
def test_scores_are_finite_aligned_and_deterministic(criterion):
    network = residual()
    units, seen = network.units(), invented.evidence(network)
    scores = criteria.score(criterion, units, seen, seed=7)
    sizes = {group.id: len(group.units) for group in units.groups if group.barrier is None}
    assert set(scores) == set(sizes) - ({"d"} if isinstance(criterion, BatchNormScale) else set())
    for group, found in scores.items():
        assert found.dtype == np.float64
        assert found.shape == (sizes[group],)
        assert np.isfinite(found).all()
        assert len(np.unique(found)) > 1
    again = criteria.score(criterion, units, seen, seed=7)
    assert all(np.array_equal(scores[group], again[group]) for group in scores)


@pytest.mark.parametrize("criterion", MAGNITUDES, ids=named)
def test_larger_weights_score_higher(criterion):
    network = residual()
    units = network.units()
    unit = 2
    before = criteria.score(criterion, units, Evidence(network.arrays))["a"]
    for path, axis in (("a/0", 2), ("c/0", 2), ("a_norm/0", 0), ("c_norm/0", 0)):
        np.moveaxis(network.arrays[path], axis, 0)[unit] *= 50
    after = criteria.score(criterion, units, Evidence(network.arrays))["a"]
    assert after.argmax() == unit
    assert after[unit] > before[unit] or criterion.normalization == "lamp"


@pytest.mark.parametrize("criterion", COMPARABLE, ids=named)
def test_permuted_units_have_permuted_scores(criterion):
    network = residual()
    units, order = network.units(), np.array([3, 0, 4, 2, 1])
    seen = invented.evidence(network)
    turned = invented.permuted(seen, units, units.widths["a"], order)
    before, after = (criteria.score(criterion, units, found) for found in (seen, turned))
    np.testing.assert_allclose(after["a"], before["a"][order], rtol=1e-6)
    for group in set(before) - {"a"}:
        np.testing.assert_allclose(after[group], before[group], rtol=1e-6)


@pytest.mark.parametrize("criterion", COMPARABLE, ids=named)
def test_a_dead_unit_scores_lowest(criterion):
    """No weight makes it, nothing scales it, it is zero on every sample, so no gradient reaches what reads it."""
    network, dead = residual(), 3
    units = network.units()
    seen = invented.evidence(network)
    for axis in units.axes:
        if not np.array_equal(axis.ids, units.widths["a"]):
            continue
        gradients = seen.gradients[axis.weight]
        gradients.products[axis.axis][:, dead] = 0
        if axis.role != "consumer":
            np.moveaxis(seen.weights[axis.weight], axis.axis, 0)[dead] = 0
            continue
        for array in (gradients.mean, gradients.square):
            np.moveaxis(array, axis.axis, 0)[dead] = 0
        inputs = seen.inputs[axis.weight]
        for values in (inputs.mean, inputs.variance, inputs.absolute, inputs.rank, inputs.nuclear):
            values[dead] = 0
        inputs.zeros[dead] = 1
        inputs.covariance[dead] = inputs.covariance[:, dead] = 0
    scores = criteria.score(criterion, units, seen)["a"]
    assert scores.argmin() == dead
    assert (np.delete(scores, dead) > scores[dead]).all()


@pytest.mark.parametrize("criterion", EVERY, ids=named)
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30])
def test_scores_stay_finite_on_extreme_weights(criterion, factor):
    network = residual()
    arrays = {path: array * np.float32(factor) for path, array in network.arrays.items()}
    seen = replace(invented.evidence(network), weights=arrays)
    for found in criteria.score(criterion, network.units(), seen).values():
        assert np.isfinite(found).all()
    if criterion.of_weights:
        for found in criteria.score_weights(criterion, seen.inputs, seen).values():
            assert np.isfinite(found).all()


@pytest.mark.parametrize("criterion", OF_WEIGHTS, ids=named)
def test_weight_scores_have_the_arrays_shape_and_zero_is_lowest(criterion):
    network = Network()
    network.conv("k", 4, 5, window=3)
    network.arrays["k/0"][0, 1, 2] = 0
    seen = invented.evidence(network)
    scores = criteria.score_weights(criterion, ["k/0"], seen, seed=3)["k/0"]
    assert scores.shape == (3, 4, 5)
    assert scores.dtype == np.float32
    assert scores.argmin() == np.ravel_multi_index((0, 1, 2), (3, 4, 5))
    assert np.array_equal(scores, criteria.score_weights(criterion, ["k/0"], seen, seed=3)["k/0"])
    if criterion in MAGNITUDES:
        assert np.array_equal(scores.ravel().argsort(), np.abs(network.arrays["k/0"]).ravel().argsort())


@pytest.mark.parametrize("criterion", [one for one in OF_WEIGHTS if one.needs_samples], ids=named)
def test_a_kernel_without_evidence_is_left_out(criterion):
    network = residual()
    assert criteria.score_weights(criterion, ["a/0"], Evidence(network.arrays)) == {}
    assert criteria.score(criterion, network.units(), Evidence(network.arrays)) == {}


# --- values ----------------------------------------------------------------------------------------------------------


def scored(criterion, group="a", **arrays):
    network = residual()
    for path, array in arrays.items():
        network.arrays[path.replace("_0", "/0").replace("norm/0", "_norm/0")] = np.asarray(array, np.float32)
    return criteria.score(criterion, network.units(), Evidence(network.arrays))[group].tolist()


def test_norms_of_the_producers_slices():
    d = np.zeros((2, 5, 6), np.float32)
    d[0, 0], d[1, 4] = [3, 0, 1, 1, 2, 0], [-4, 0, 1, -2, 2, 5]
    plain = {"normalization": "none"}
    assert scored(L1(name="l1", **plain), "d", d_0=d) == [7, 0, 2, 3, 4, 5]
    assert scored(L2(name="l2", **plain), "d", d_0=d) == pytest.approx([5, 0, 2**0.5, 5**0.5, 8**0.5, 5])
    assert scored(MeanAbs(name="mean_abs", **plain), "d", d_0=d) == pytest.approx([0.7, 0, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("mean", [3, 3, 3, 4, 4]), ("max", [5, 4, 3, 5, 6]), ("none", [1, 2, 3, 5, 2])]
)
def test_producers_of_a_coupled_unit_are_joined(aggregation, expected):
    a, c = np.zeros((1, 3, 5)), np.zeros((1, 4, 5))
    a[0, 0], c[0, 1] = [1, 2, 3, 5, 2], [5, 4, 3, 3, 6]
    criterion = L1(name="l1", aggregation=aggregation, normalization="none")
    assert scored(criterion, a_0=a, c_0=c) == expected


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("none", [1, 2, 3, 4, 0]),
        ("mean", [0.5, 1, 1.5, 2, 0]),
        ("max", [0.25, 0.5, 0.75, 1, 0]),
        ("sum", [0.1, 0.2, 0.3, 0.4, 0]),
        ("standard", [-1 / 2**0.5, 0, 1 / 2**0.5, 2**0.5, -(2**0.5)]),
        ("lamp", [1 / 30, 4 / 29, 9 / 25, 1, 0]),
    ],
)
def test_scores_are_normalised_within_the_group(normalization, expected):
    a = np.zeros((1, 3, 5))
    a[0, 0] = [1, 2, 3, 4, 0]
    criterion = L1(name="l1", aggregation="none", normalization=normalization)
    assert scored(criterion, a_0=a) == pytest.approx(expected)
    weights = criteria.score_weights(criterion, ["k"], Evidence({"k": a[0, 0]}))["k"]
    assert weights.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_group_of_zeros_scores_zero(normalization):
    criterion = L2(name="l2", aggregation="none", normalization=normalization)
    assert scored(criterion, a_0=np.zeros((1, 3, 5))) == [0] * 5


def test_lamp_of_equal_weights_still_ranks_them():
    seen = Evidence({"k": np.ones((2, 2), np.float32)})
    scores = criteria.score_weights(Lamp(name="lamp"), ["k"], seen)["k"]
    assert scores.ravel().tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])


def test_lamp_of_channels_ranks_their_norms():
    a = np.zeros((1, 3, 5))
    a[0, 0] = [1, 2, 3, 4, 0]
    found = scored(Lamp(name="lamp", aggregation="none"), a_0=a)
    assert found == pytest.approx([1 / 30, 4 / 29, 9 / 25, 1, 0])


def test_fpgm_sums_distances_to_the_other_units():
    d = np.zeros((2, 5, 6), np.float32)
    d[0, 0], d[1, 1] = [0, 3, 0, 3, 0, 0], [0, 0, 4, 4, 0, 0]
    found = scored(FPGM(name="fpgm", normalization="none"), "d", d_0=d)
    assert found == pytest.approx([12, 3 * 3 + 5 + 4, 3 * 4 + 5 + 3, 3 * 5 + 4 + 3, 12, 12])


def test_fpgm_of_a_unit_with_several_slices_compares_them_in_order():
    network = Network()
    ids = network.new(2)
    network.conv("grouped", 3, np.concatenate([ids, ids]))
    network.arrays["grouped/0"] = np.array([[[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 5]]], np.float32)
    units = network.head(ids).units()
    found = criteria.score(FPGM(name="fpgm", normalization="none"), units, Evidence(network.arrays))["grouped"]
    assert found == pytest.approx([27**0.5, 27**0.5])


def test_bn_scale_reads_gamma_alone():
    criterion = BatchNormScale(name="bn_scale", normalization="none")
    gammas = {"anorm_0": [-4, 1, 2, 3, 0], "cnorm_0": [2, 1, 0, 1, 0]}
    assert scored(criterion, **gammas) == [3, 1, 1, 2, 0]
    assert scored(criterion.model_copy(update={"aggregation": "max"}), **gammas) == [4, 1, 2, 3, 0]
    assert scored(criterion.model_copy(update={"aggregation": "none"}), **gammas) == [4, 1, 2, 3, 0]


def test_bn_scale_leaves_out_what_is_not_wholly_scaled():
    network = Network()
    ids = network.conv("a", 3, 4)
    network.norm("half", ids[:2])
    units = network.head(ids).units()
    assert criteria.score(BatchNormScale(name="bn_scale"), units, Evidence(network.arrays)) == {}


def test_random_scores_of_a_group_depend_on_seed_and_id_alone():
    network = residual()
    units = network.units()
    other = replace(units, groups=tuple(reversed(units.groups[1:])))
    criterion = Random(name="random")
    one, same, less = (
        criteria.score(criterion, u, Evidence({}), seed=s) for u, s in ((units, 1), (units, 2), (other, 1))
    )
    assert np.array_equal(one["b"], less["b"])
    assert not np.array_equal(one["b"], same["b"])


def test_a_unit_with_several_slices_is_scored_by_all_of_them():
    network = Network()
    ids = network.new(2)
    network.conv("grouped", 3, np.concatenate([ids, ids]))
    network.arrays["grouped/0"] = np.array([[[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 5]]], np.float32)
    units = network.head(ids).units()
    plain = {"normalization": "none"}
    assert criteria.score(L1(name="l1", **plain), units, Evidence(network.arrays))["grouped"].tolist() == [4, 11]
    assert criteria.score(MeanAbs(name="mean_abs", **plain), units, Evidence(network.arrays))[
        "grouped"
    ].tolist() == pytest.approx([4 / 6, 11 / 6])


def test_producer_axes_may_lie_anywhere():
    network = Network()
    ids = network.new(2)
    network.arrays["t/0"] = np.array([[[1, -1, 1], [2, 2, 2]]], np.float32)
    network.axes.append(Axis("t/0", 1, ids, "producer", "t"))
    units = network.head(ids).units()
    scores = criteria.score(L1(name="l1", normalization="none"), units, Evidence(network.arrays))
    assert scores["t"].tolist() == [3, 6]
