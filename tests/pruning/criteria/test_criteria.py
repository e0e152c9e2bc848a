"""One contract for every criterion, and the values of each."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from pruning import criteria
from pruning.contract.criteria import L1, L2, BatchNormScale, Criterion, MeanAbs, Random
from pruning.units import Axis
from tests.pruning.hand import Network

MEMBERS = get_args(get_args(Criterion)[0])
NORMALIZATIONS = ["none", "mean", "max", "standard", "sum", "lamp"]


def every():
    for member in MEMBERS:
        name = get_args(member.model_fields["name"].annotation)[0]
        if member is Random:
            yield member(name=name)
            continue
        for aggregation in ("mean", "max", "none"):
            for normalization in NORMALIZATIONS:
                yield member(name=name, aggregation=aggregation, normalization=normalization)


EVERY = list(every())
MAGNITUDES = [one for one in EVERY if not isinstance(one, Random)]
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
    assert set(criteria.CHANNEL) == set(MEMBERS)
    assert set(criteria.WEIGHT) == {member for member in MEMBERS if member.of_weights}


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", EVERY, ids=named)
def test_scores_are_finite_aligned_and_deterministic(criterion):
    network = residual()
    units = network.units()
    scores = criteria.score(criterion, units, network.arrays, seed=7)
    sizes = {group.id: len(group.units) for group in units.groups if group.barrier is None}
    assert set(scores) == set(sizes) - ({"d"} if isinstance(criterion, BatchNormScale) else set())
    for group, found in scores.items():
        assert found.dtype == np.float64
        assert found.shape == (sizes[group],)
        assert np.isfinite(found).all()
        assert len(np.unique(found)) > 1
    again = criteria.score(criterion, units, network.arrays, seed=7)
    assert all(np.array_equal(scores[group], again[group]) for group in scores)


@pytest.mark.parametrize("criterion", MAGNITUDES, ids=named)
def test_larger_weights_score_higher(criterion):
    network = residual()
    units = network.units()
    unit = 2
    before = criteria.score(criterion, units, network.arrays)["a"]
    for path, axis in (("a/0", 2), ("c/0", 2), ("a_norm/0", 0), ("c_norm/0", 0)):
        np.moveaxis(network.arrays[path], axis, 0)[unit] *= 50
    after = criteria.score(criterion, units, network.arrays)["a"]
    assert after.argmax() == unit
    assert after[unit] > before[unit] or criterion.normalization == "lamp"


@pytest.mark.parametrize("criterion", MAGNITUDES, ids=named)
def test_permuted_units_have_permuted_scores(criterion):
    network = residual()
    units = network.units()
    order = np.array([3, 0, 4, 2, 1])
    permuted = {
        path: np.take(array, order, axis=axis.axis) if axis is not None else array
        for path, array in network.arrays.items()
        for axis in [
            next((a for a in units.axes if a.weight == path and np.array_equal(a.ids, units.widths["a"])), None)
        ]
    }
    before, after = (criteria.score(criterion, units, arrays) for arrays in (network.arrays, permuted))
    np.testing.assert_allclose(after["a"], before["a"][order], rtol=1e-6)


@pytest.mark.parametrize("criterion", EVERY, ids=named)
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1e30])
def test_scores_stay_finite_on_extreme_weights(criterion, factor):
    network = residual()
    arrays = {path: array * np.float32(factor) for path, array in network.arrays.items()}
    for found in criteria.score(criterion, network.units(), arrays).values():
        assert np.isfinite(found).all()
    if not isinstance(criterion, BatchNormScale):
        for found in criteria.score_weights(criterion, arrays).values():
            assert np.isfinite(found).all()


@pytest.mark.parametrize("criterion", OF_WEIGHTS, ids=named)
def test_weight_scores_have_the_arrays_shape_and_zero_is_lowest(criterion):
    kernels = {"k": np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)}
    kernels["k"][0, 1, 2] = 0
    scores = criteria.score_weights(criterion, kernels, seed=3)["k"]
    assert scores.shape == (3, 4, 5)
    assert scores.dtype == np.float32
    assert scores.argmin() == np.ravel_multi_index((0, 1, 2), (3, 4, 5))
    assert np.array_equal(scores, criteria.score_weights(criterion, kernels, seed=3)["k"])
    if not isinstance(criterion, Random):
        assert np.array_equal(scores.ravel().argsort(), np.abs(kernels["k"]).ravel().argsort())


# --- values ----------------------------------------------------------------------------------------------------------


def scored(criterion, group="a", **arrays):
    network = residual()
    for path, array in arrays.items():
        network.arrays[path.replace("_0", "/0").replace("norm/0", "_norm/0")] = np.asarray(array, np.float32)
    return criteria.score(criterion, network.units(), network.arrays)[group].tolist()


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
    weights = criteria.score_weights(criterion, {"k": a[0, 0]})["k"]
    assert weights.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_group_of_zeros_scores_zero(normalization):
    criterion = L2(name="l2", aggregation="none", normalization=normalization)
    assert scored(criterion, a_0=np.zeros((1, 3, 5))) == [0] * 5


def test_lamp_of_equal_weights_still_ranks_them():
    scores = criteria.score_weights(L1(name="l1", normalization="lamp"), {"k": np.ones((2, 2), np.float32)})["k"]
    assert scores.ravel().tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])


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
    assert criteria.score(BatchNormScale(name="bn_scale"), units, network.arrays) == {}


def test_random_scores_of_a_group_depend_on_seed_and_id_alone():
    network = residual()
    units = network.units()
    other = replace(units, groups=tuple(reversed(units.groups[1:])))
    criterion = Random(name="random")
    one, same, less = (criteria.score(criterion, u, {}, seed=s) for u, s in ((units, 1), (units, 2), (other, 1)))
    assert np.array_equal(one["b"], less["b"])
    assert not np.array_equal(one["b"], same["b"])


def test_a_unit_with_several_slices_is_scored_by_all_of_them():
    network = Network()
    ids = network.new(2)
    network.conv("grouped", 3, np.concatenate([ids, ids]))
    network.arrays["grouped/0"] = np.array([[[1, 2, 3, 4], [0, 0, 0, 0], [0, 0, 0, 5]]], np.float32)
    units = network.head(ids).units()
    plain = {"normalization": "none"}
    assert criteria.score(L1(name="l1", **plain), units, network.arrays)["grouped"].tolist() == [4, 11]
    assert criteria.score(MeanAbs(name="mean_abs", **plain), units, network.arrays)[
        "grouped"
    ].tolist() == pytest.approx([4 / 6, 11 / 6])


def test_producer_axes_may_lie_anywhere():
    network = Network()
    ids = network.new(2)
    network.arrays["t/0"] = np.array([[[1, -1, 1], [2, 2, 2]]], np.float32)
    network.axes.append(Axis("t/0", 1, ids, "producer", "t"))
    units = network.head(ids).units()
    scores = criteria.score(L1(name="l1", normalization="none"), units, network.arrays)
    assert scores["t"].tolist() == [3, 6]
