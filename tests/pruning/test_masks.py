"""Masks of single weights: selection to the count, budgets on non-zeros, and masks as text."""

from __future__ import annotations

from math import floor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pruning import criteria, masks, measures
from pruning.contract.errors import ContradictorySpec, LayerNotFound, NothingToPrune
from pruning.contract.plan import MaskPlan, Plan
from pruning.contract.spec import Pruning
from pruning.targets import Infeasible
from tests.pruning.hand import Network, chain
from tests.pruning.test_selection import budget, ratio, scopes, threshold


def spec(target, **other) -> Pruning:
    return Pruning.model_validate({"structure": "weight", "target": target, **other})


def select(network, pruning, **scores) -> tuple[Plan, dict[str, np.ndarray]]:
    """The plan and the arrays that it leaves."""
    units = network.units()
    seen = criteria.Evidence(network.arrays)
    found = criteria.score_weights(pruning.criterion, masks.prunable(units), seen, seed=1) | scores
    plan = masks.select(units, network.arrays, found, pruning)
    return plan, masks.apply(network.arrays, masks.decode(plan))


def zeros(arrays) -> dict[str, int]:
    return {path: int((array == 0).sum()) for path, array in arrays.items() if path.endswith("/0")}


def test_kernels_are_prunable_and_vectors_are_not():
    network = chain(4, 6)
    network.norm("norm", network.new(2))
    assert masks.prunable(network.units()) == ["conv0/0", "conv1/0", "head/0"]


def test_why_the_weights_of_a_layer_stay():
    network = chain(4, 6, 5)
    network.norm("norm", network.new(2))
    units = network.units()
    scores = {path: np.ones(units.sizes[path]) for path in masks.prunable(units) if path != "conv2/0"}
    pruning = spec(ratio(0.5), criterion={"name": "wanda"}, layers={"conv0": {"skip": True}, "conv1": {"ratio": 0.5}})
    assert masks.kept_because(units, scores, pruning) == {
        "conv0": "skipped by `layers`",
        "conv2": "criterion wanda finds nothing to score it by",
        "norm": "it has no kernel: tables, normalisation and biases stay",
    }
    replayed = spec({"type": "plan", "plan": {"structure": "weight"}})
    assert set(masks.kept_because(units, {}, replayed)) == {"norm"}


def test_the_lowest_go_and_the_rest_is_as_it_was():
    network = chain(2)
    network.arrays["conv0/0"] = np.array([[[1, -2], [3, -4], [5, -6]]], np.float32)
    network.arrays["head/0"] = np.array([[[-7, 0.5, 9], [2.5, 10, 11]]], np.float32)
    plain = {"name": "l1", "normalization": "none"}
    _, arrays = select(network, spec(ratio(0.33), criterion=plain))  # 3.96 of 12
    assert arrays["conv0/0"].tolist() == [[[0, 0], [3, -4], [5, -6]]]
    assert arrays["head/0"].tolist() == [[[-7, 0, 9], [0, 10, 11]]]
    assert arrays["conv0/1"] is network.arrays["conv0/1"]
    _, arrays = select(network, spec(ratio(0.5), criterion=plain, scope="layer"))
    assert arrays["conv0/0"].tolist() == [[[0, 0], [0, -4], [5, -6]]]
    assert arrays["head/0"].tolist() == [[[0, 0, 9], [0, 10, 11]]]


def test_zeros_go_first_under_any_criterion():
    network = chain(20, 20)
    network.arrays["conv1/0"][0, :5] = 0
    for how in ({"name": "random"}, {"name": "l2"}, {"name": "l1", "normalization": "standard"}):
        _, arrays = select(network, spec(ratio(0.5), criterion=how, scope="layer"))
        assert zeros(arrays) == {"conv0/0": 30, "conv1/0": 200, "head/0": 30}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_equal_scores_are_cut_at_the_exact_count(scope):
    network = chain(10, 10)
    for path in network.arrays:
        network.arrays[path] = np.ones_like(network.arrays[path])
    first, arrays = select(network, spec(ratio(0.4), scope=scope))
    assert zeros(arrays) == {"conv0/0": 12, "conv1/0": 40, "head/0": 12}
    assert select(network, spec(ratio(0.4), scope=scope))[0] == first


@pytest.mark.parametrize(
    ("constraints", "kept"),
    [({"min_units": 20}, [12, 20, 18]), ({"max_ratio": 0.5}, [6, 12, 9]), ({"round_to": 5}, [5, 5, 5])],
)
def test_constraints_hold_for_each_kernel(constraints, kept):
    network = chain(4, 6)  # kernels of 12, 24, 18 weights
    with pytest.raises(Infeasible) as caught:
        select(network, spec(ratio(0.999), constraints=constraints))
    left = {**network.arrays, **masks.apply(network.arrays, masks.decode(caught.value.plan))}
    assert [int((left[path] != 0).sum()) for path in ("conv0/0", "conv1/0", "head/0")] == kept
    assert caught.value.floor == pytest.approx(1 - sum(kept) / 54)


def test_rules_of_layers():
    network = chain(4, 6)
    layers = {"conv0": {"skip": True}, "he*": {"ratio": 0.5}}
    _, arrays = select(network, spec(ratio(0.25), layers=layers))
    assert zeros(arrays) == {"conv0/0": 0, "conv1/0": 6, "head/0": 9}
    _, arrays = select(network, spec({"type": "manual"}, layers={"conv*": {"ratio": 0.25}}))
    assert zeros(arrays) == {"conv0/0": 3, "conv1/0": 6, "head/0": 0}


@pytest.mark.parametrize(
    ("layers", "error", "text"),
    [
        ({"norm": {"ratio": 0.5}}, NothingToPrune, "no layer with a kernel"),
        ({"nome": {"ratio": 0.5}}, LayerNotFound, "there are norm"),
        ({"conv0": {"ratio": 0.9}}, ContradictorySpec, "takes 10 of the 12 weights of 'conv0'"),
        ({"*": {"skip": True}}, NothingToPrune, "nothing competes"),
    ],
)
def test_rules_that_cannot_hold(layers, error, text):
    network = chain(4, 6)
    network.norm("norm", network.new(2))
    with pytest.raises(error, match=text):
        select(network, spec(ratio(0.5), layers=layers, constraints={"min_units": 3}))


def test_no_kernels_at_all():
    network = Network()
    network.norm("norm", network.new(2))
    with pytest.raises(NothingToPrune, match="has a kernel"):
        select(network, spec(ratio(0.5)))


@pytest.mark.parametrize(
    ("value", "scope", "expected"),
    [
        (2.6, "global", [2, 2]),
        ("median", "global", [4, 2]),
        ("median", "layer", [3, 3]),
        ({"quantile": 0.1}, "global", [1, 1]),
    ],
)
def test_thresholds(value, scope, expected):
    network = chain(2)
    network.arrays["conv0/0"] = np.array([[[1, -2], [3, -4], [5, -6]]], np.float32)
    network.arrays["head/0"] = np.array([[[-7, 0.5, 9], [2.5, 4.5, 11]]], np.float32)
    how = {"name": "l2", "normalization": "none"}
    _, arrays = select(network, spec(threshold(value), scope=scope, criterion=how))
    assert list(zeros(arrays).values()) == expected


# --- budgets ---------------------------------------------------------------------------------------------------------

FIGURE = {"parameters": "nonzero_parameters", "macs": "nonzero_macs", "size_bytes": "sparse_bytes"}


@pytest.mark.parametrize("measure", list(FIGURE))
@pytest.mark.parametrize("how", ["l2", "random"])
def test_a_budget_counts_what_is_not_zero(measure, how):
    network = chain(30, 20, positions=7)
    network.arrays["conv0/1"][:7] = 0
    network.arrays["conv1/0"][0, 3] = 0
    units = network.units()
    layers = {"conv0": {"ratio": 0.1}}
    before = measures.figures(units, network.arrays)[FIGURE[measure]]
    pruning = spec(budget(measure, at_most_ratio=0.6), layers=layers, criterion={"name": how})
    plan, arrays = select(network, pruning)
    after = measures.figures(units, arrays)[FIGURE[measure]]
    assert 0.6 * before - 8 < after <= 0.6 * before
    assert {mask.weight for mask in plan.masks} == {"conv0/0", "conv1/0", "head/0"}


def test_a_budget_that_is_met_gives_no_masks():
    assert select(chain(4, 6), spec(budget("parameters", at_most=67)))[0].masks == []


def test_an_infeasible_budget_brings_its_floor():
    with pytest.raises(Infeasible) as caught:
        select(chain(4, 6), spec(budget("parameters", at_most=10)))
    assert caught.value.floor == 4 + 6 + 3 + 3  # the biases, and one weight of each kernel
    assert [mask.kept for mask in caught.value.plan.masks] == [1, 1, 1]


# --- properties, text ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.sampled_from([0.1, 0.29, 0.5, 0.75]),
    scopes,
    st.sampled_from(["l1", "random"]),
    st.sampled_from([1, 3]),
)
def test_sparsity_is_exact_and_constraints_hold(widths, value, scope, how, round_to):
    network = chain(*widths)
    sizes = [array.size for path, array in network.arrays.items() if path.endswith("/0")]
    try:
        _, arrays = select(
            network, spec(ratio(value), scope=scope, criterion={"name": how}, constraints={"round_to": round_to})
        )
    except (Infeasible, NothingToPrune):
        assume(False)
    found = list(zeros(arrays).values())
    wanted = [min(floor(value * size + 0.5 + 1e-9), size - 1) for size in sizes]
    rounded = min(floor(value * sum(sizes) + 0.5 + 1e-9), sum(sizes) - len(sizes))
    total = sum(wanted) if scope == "layer" else rounded
    assert sum(found) == total if round_to == 1 else sum(found) <= total
    assert all(lost == 0 or (size - lost) % round_to == 0 for size, lost in zip(sizes, found, strict=True))


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_masks_survive_the_way_through_text(bits):
    mask = np.array(bits).reshape(1, -1)
    plan = Plan.model_validate_json(masks.encode({"k": mask}).model_dump_json())
    assert plan.masks[0].kept == mask.sum()
    assert np.array_equal(masks.decode(plan)["k"], mask)


def test_a_damaged_mask_is_refused():
    good = masks.encode({"k": np.ones((3, 3), bool)}).masks[0].model_dump()
    longer = masks.encode({"k": np.ones(300, bool)}).masks[0].mask
    for wrong in ({"kept": 8}, {"shape": [4, 9]}, {"mask": longer}, {"mask": "AAAA"}, {"mask": "x"}):
        with pytest.raises(ContradictorySpec, match="mask of 'k' is damaged"):
            masks.decode(Plan(structure="weight", masks=[MaskPlan(**{**good, **wrong})]))


def test_a_mask_of_another_model_is_refused():
    with pytest.raises(ContradictorySpec, match=r"a mask of shape \(3,\) came for 'k', which has shape \(2,\)"):
        masks.apply({"k": np.ones(2)}, {"k": np.ones(3, bool)})
    with pytest.raises(ContradictorySpec, match="shape None"):
        masks.apply({}, {"k": np.ones(3, bool)})
