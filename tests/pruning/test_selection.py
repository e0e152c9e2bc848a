"""Scores and a target become a plan: values of each target, constraints, rules, and properties on random networks."""

from __future__ import annotations

from dataclasses import replace
from math import floor

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pruning import criteria
from pruning.contract.criteria import L2
from pruning.contract.errors import ContradictorySpec, InfeasibleTarget, NothingToPrune
from pruning.contract.spec import Pruning
from pruning.rules.trace import Avoided
from pruning.selection import Infeasible, kept_because, select
from tests.pruning.hand import Network, chain, counted, removed_of


def spec(target, **other) -> Pruning:
    return Pruning.model_validate({"target": target, **other})


def ratio(value) -> dict:
    return {"type": "ratio", "value": value}


def budget(measure, **bound) -> dict:
    return {"type": "budget", "measure": measure, **bound}


def threshold(value) -> dict:
    return {"type": "threshold", "value": value}


def keeps(plan) -> dict[str, list[int]]:
    return {group.id: group.keep for group in plan.groups if len(group.keep) < group.width}


SCORES = {"conv0": np.array([4.0, 1.0, 3.0, 2.0]), "conv1": np.array([10.0, 0.5, 20.0, 30.0, 2.5, 40.0])}


# --- ratio -----------------------------------------------------------------------------------------------------------


def test_a_global_ratio_takes_the_lowest_of_all():
    plan = select(chain(4, 6).units(), SCORES, spec(ratio(0.4)))
    assert keeps(plan) == {"conv0": [0, 2], "conv1": [0, 2, 3, 5]}


def test_a_layer_ratio_takes_a_share_of_each_group():
    plan = select(chain(4, 6).units(), SCORES, spec(ratio(0.25), scope="layer"))
    assert keeps(plan) == {"conv0": [0, 2, 3], "conv1": [0, 2, 3, 5]}


@pytest.mark.parametrize(("share", "left"), [(0.2, 5), (0.4, 5), (0.5, 3)])
def test_a_width_that_is_to_be_avoided_keeps_one_more(share, left):
    units = chain(4, 6).units()
    units = replace(units, avoided=(Avoided("conv1", units.widths["conv1"], 4, "channels", "of the bias"),))
    plan = select(units, SCORES, spec(ratio(share), scope="layer"))
    assert len({group.id: group.keep for group in plan.groups}["conv1"]) == left


def test_a_group_always_keeps_one():
    plan = select(chain(4, 6).units(), SCORES, spec(ratio(0.6)))
    assert keeps(plan) == {"conv0": [0], "conv1": [2, 3, 5]}


def test_round_to_stays_below_the_ratio():
    plan = select(chain(4, 6).units(), SCORES, spec(ratio(0.6), constraints={"round_to": 2}))
    assert {name: len(keep) for name, keep in keeps(plan).items()} == {"conv0": 2, "conv1": 2}


def test_a_ratio_out_of_reach_brings_floor_and_nearest_plan():
    with pytest.raises(Infeasible) as caught:
        select(chain(4, 6).units(), SCORES, spec(ratio(0.8), constraints={"max_ratio": 0.5}))
    assert isinstance(caught.value, InfeasibleTarget)
    assert caught.value.floor == 0.5
    assert caught.value.body()["floor"] == 0.5
    assert keeps(caught.value.plan) == {"conv0": [0, 2], "conv1": [2, 3, 5]}


def test_a_layer_ratio_out_of_reach_in_one_group_is_infeasible():
    with pytest.raises(Infeasible) as caught:
        select(chain(4, 6).units(), SCORES, spec(ratio(0.5), scope="layer", constraints={"min_units": 3}))
    assert caught.value.floor == pytest.approx(0.4)
    assert {name: len(keep) for name, keep in keeps(caught.value.plan).items()} == {"conv0": 3, "conv1": 3}


def test_a_ratio_out_of_reach_by_rounding_alone_is_met_as_nearly_as_can_be():
    assert keeps(select(chain(4).units(), SCORES, spec(ratio(0.9), scope="layer"))) == {"conv0": [0]}


@pytest.mark.parametrize("constraints", [{"min_units": 6}, {"round_to": 8}, {"max_ratio": 0.1}])
@pytest.mark.parametrize("target", [ratio(0.5), threshold("median")])
def test_constraints_that_keep_everything(constraints, target):
    with pytest.raises(NothingToPrune, match=r"widths are \[4, 6\]"):
        select(chain(4, 6).units(), SCORES, spec(target, constraints=constraints))


# --- threshold, manual -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "scope", "kept"),
    [
        (2.5, "global", {"conv0": [0, 2], "conv1": [0, 2, 3, 4, 5]}),
        ("median", "global", {"conv0": [0], "conv1": [0, 2, 3, 5]}),
        ("median", "layer", {"conv0": [0, 2], "conv1": [2, 3, 5]}),
        ({"quantile": 0.2}, "global", {"conv0": [0, 2, 3], "conv1": [0, 2, 3, 4, 5]}),
        ({"quantile": 0.3}, "layer", {"conv0": [0, 2, 3], "conv1": [0, 2, 3, 5]}),
        (1e9, "global", {"conv0": [0], "conv1": [5]}),
        (-1.0, "global", {}),
    ],
)
def test_a_threshold_takes_what_scores_below(value, scope, kept):
    assert keeps(select(chain(4, 6).units(), SCORES, spec(threshold(value), scope=scope))) == kept


def test_manual_takes_what_layers_says_and_no_more():
    layers = {"conv0": {"ratio": 0.5}, "conv1": {"remove": [5, 0]}}
    plan = select(chain(4, 6).units(), SCORES, spec({"type": "manual"}, layers=layers))
    assert keeps(plan) == {"conv0": [0, 2], "conv1": [1, 2, 3, 4]}


def test_rules_bind_whatever_the_target_says():
    network = chain(4, 6, 4)
    scores = {**SCORES, "conv2": np.arange(4.0)}
    layers = {"conv0": {"skip": True}, "conv2": {"keep": [0, 3]}}
    plan = select(network.units(), scores, spec(ratio(0.5), layers=layers))
    assert keeps(plan) == {"conv1": [2, 3, 5], "conv2": [0, 3]}


def test_indices_are_exact_under_round_to_and_shares_are_rounded():
    layers = {"conv0": {"ratio": 0.25}, "conv1": {"remove": [3]}}
    plan = select(chain(4, 6).units(), SCORES, spec({"type": "manual"}, layers=layers, constraints={"round_to": 2}))
    assert keeps(plan) == {"conv1": [0, 1, 2, 4, 5]}


@pytest.mark.parametrize("rule", [{"remove": [0, 1]}, {"keep": [0]}, {"ratio": 0.5}])
def test_a_rule_against_a_constraint_contradicts(rule):
    with pytest.raises(ContradictorySpec, match="min_units and max_ratio keep 3"):
        select(chain(4).units(), SCORES, spec({"type": "manual"}, layers={"conv0": rule}, constraints={"min_units": 3}))


# --- what cannot be pruned -------------------------------------------------------------------------------------------


def test_no_prunable_group_names_the_barriers():
    with pytest.raises(NothingToPrune, match="'head': an output of the model"):
        select(Network().head(3).units(), {}, spec(ratio(0.5)))


@pytest.mark.parametrize("target", [ratio(0.5), threshold("median"), budget("macs", at_most_ratio=0.5)])
def test_nothing_competes(target):
    units = chain(4, 6).units()
    with pytest.raises(NothingToPrune, match="criterion l2 finds nothing in this model to score by"):
        select(units, {}, spec(target))
    with pytest.raises(NothingToPrune, match="nothing competes"):
        select(units, SCORES, spec(target, layers={"*": {"skip": True}}))


def test_groups_without_scores_stay_unless_named_by_index():
    units = chain(4, 6).units()
    scores = {"conv1": SCORES["conv1"]}
    plan = select(units, scores, spec(ratio(0.5), layers={"conv0": {"remove": [2]}}))
    assert keeps(plan) == {"conv0": [0, 1, 3], "conv1": [2, 3, 5]}
    with pytest.raises(NothingToPrune, match="needs scores"):
        select(units, scores, spec(ratio(0.5), layers={"conv0": {"ratio": 0.5}}))


def test_one_unit_is_a_reason_to_stay():
    reasons = kept_because(chain(4, 1).units(), {"conv0": SCORES["conv0"], "conv1": np.ones(1)}, spec(ratio(0.5)))
    assert reasons == {"conv1": "conv1: has one unit, which has to stay", "head": "head: an output of the model"}


def test_reasons_to_stay():
    pruning = spec(ratio(0.5), layers={"conv0": {"skip": True}, "conv1": {"ratio": 0.5}})
    reasons = kept_because(chain(4, 6, 5).units(), {"conv1": SCORES["conv1"]}, pruning)
    assert reasons == {
        "conv0": "skipped by `layers`",
        "conv2": "criterion l2 finds nothing to score it by",
        "head": "head: an output of the model",
    }


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_the_least_that_fits_is_removed():
    # With a = 4 and b = 6 units the MACs are 3a + ab + 3b = 54. In order go b (score 0.5), a (1), a (2), b (2.5):
    # 47, 39, 31, 26.
    units = chain(4, 6).units()
    assert counted(units, [])[0] == 54
    for at_most, kept, macs in (
        (47, {"conv1": [0, 2, 3, 4, 5]}, 47),
        (39, {"conv0": [0, 2, 3], "conv1": [0, 2, 3, 4, 5]}, 39),
        (46, {"conv0": [0, 2, 3]}, 45),  # with a gone, b fits again
        (38, {"conv0": [0, 2]}, 36),
    ):
        plan = select(units, SCORES, spec(budget("macs", at_most=at_most)))
        assert keeps(plan) == kept
        assert counted(units, removed_of(units, plan))[0] == macs


def test_room_left_by_a_costly_unit_is_given_back():
    # conv0 costs 300 a unit, conv1 little: cheap ones go first in vain, then one of conv0 makes room for them again.
    network = Network()
    first = network.conv("conv0", 3, 4, positions=100)
    network.conv("conv1", 3, 6)
    units = network.head(first).units()
    scores = {"conv0": np.array([9.0, 8.0, 7.0, 6.0]), "conv1": np.arange(6.0)}
    before = counted(units, [])[0]
    assert keeps(select(units, scores, spec(budget("macs", at_most=before - 20)))) == {"conv0": [0, 1, 2]}
    plan = select(units, scores, spec(budget("macs", at_most=before - 310)))
    assert keeps(plan) == {"conv0": [0, 1, 2], "conv1": [3, 4, 5]}


@pytest.mark.parametrize("measure", ["macs", "parameters", "size_bytes"])
def test_a_budget_that_is_met_already_removes_nothing(measure):
    units = chain(4, 6).units()
    constraints = {"min_units": 100}
    plan = select(units, SCORES, spec(budget(measure, at_most=1e9), constraints=constraints))
    assert keeps(plan) == {}


def test_an_infeasible_budget_brings_floor_and_nearest_plan():
    units = chain(4, 6).units()
    with pytest.raises(Infeasible, match=r"macs cannot fall below 21 .* at most 5 was asked") as caught:
        select(units, SCORES, spec(budget("macs", at_most=5), constraints={"max_ratio": 0.5}))
    assert caught.value.floor == 3 * 2 + 2 * 3 + 3 * 3
    assert keeps(caught.value.plan) == {"conv0": [0, 2], "conv1": [2, 3, 5]}


def test_rules_count_in_a_budget():
    units = chain(4, 6).units()
    pruning = spec(budget("macs", at_most=36), layers={"conv1": {"ratio": 0.5}})
    assert keeps(select(units, SCORES, pruning)) == {"conv1": [2, 3, 5]}
    pruning = spec(budget("macs", at_most=32), layers={"conv1": {"ratio": 0.5}})
    assert keeps(select(units, SCORES, pruning)) == {"conv0": [0, 2, 3], "conv1": [2, 3, 5]}


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("at_most_ratio", [0.35, 0.6, 0.61, 0.62, 0.9])
def test_bytes_of_the_file_are_held_exactly_and_with_the_least_removed(scope, at_most_ratio):
    """One unit more of any group, under scope `layer` the last one of the order, would exceed them."""
    units = chain(40, 60).units()
    scores = criteria.score(L2(name="l2"), units, criteria.Evidence(chain(40, 60).arrays))
    calls = []

    def file_bytes(gone):  # more than the arrays by a part that itself depends on what goes
        calls.append(len(gone))
        return 4 * counted(units, gone)[1] + 1000 - 7 * len(gone) + (13 if len(gone) % 3 else 0)

    original = file_bytes([])
    pruning = spec(budget("size_bytes", at_most_ratio=at_most_ratio), scope=scope)
    gone = removed_of(units, select(units, scores, pruning, file_bytes))
    assert len(calls) < 20
    assert file_bytes(gone) <= at_most_ratio * original
    ranked = {group.id: group.units[np.argsort(scores[group.id], kind="stable")] for group in units.groups[:2]}
    last = {id: max(np.flatnonzero(np.isin(ids, gone))) for id, ids in ranked.items() if np.isin(ids, gone).any()}
    if scope == "layer":
        latest = max(last, key=lambda id: (last[id] + 0.5) / len(ranked[id]))
        last = {latest: last[latest]}
    for id, place in last.items():
        assert file_bytes(np.setdiff1d(gone, ranked[id][place])) > at_most_ratio * original


def test_bytes_out_of_reach_name_the_files_floor():
    units = chain(4, 6).units()
    with pytest.raises(Infeasible) as caught:
        select(units, SCORES, spec(budget("size_bytes", at_most=1010)), lambda gone: 1000 + 4 * counted(units, gone)[1])
    assert caught.value.floor == 1000 + 4 * counted(units, removed_of(units, caught.value.plan))[1]


# --- widths that several groups share --------------------------------------------------------------------------------


def shared_width() -> Network:
    """sum = whole + concat(left, right): `whole` is 3 units of one group and 5 of another."""
    network = Network()
    left, right = network.conv("left", 3, 3), network.conv("right", 3, 5)
    network.conv("whole", 3, np.concatenate([left, right]))
    return network.head(np.concatenate([left, right]))


def test_round_to_holds_for_a_width_that_two_groups_share():
    units = shared_width().units()
    assert [(group.id, group.producers) for group in units.groups[:2]] == [
        ("left", ("left", "whole")),
        ("right", ("right", "whole")),
    ]
    scores = {"left": np.arange(3.0), "right": np.arange(5.0)}
    for value in (0.2, 0.4, 0.6):
        gone = removed_of(units, select(units, scores, spec(ratio(value), constraints={"round_to": 2})))
        for layer, before in (("left", 3), ("right", 5), ("whole", 8)):
            kept = int((~np.isin(units.widths[layer], gone)).sum())
            assert kept == before or kept % 2 == 0


# --- properties on random networks -----------------------------------------------------------------------------------


@st.composite
def networks(draw) -> Network:
    """Chains with sums, concatenations and sums of concatenations."""
    network = Network(draw(st.integers(0, 5)))
    alive = [network.conv("stem", 3, draw(st.integers(1, 9)), positions=draw(st.integers(1, 9)))]
    for index in range(draw(st.integers(1, 5))):
        entering = draw(st.sampled_from(alive))
        kind = draw(st.sampled_from(["new", "sum", "concatenate", "sum of concatenation"]))
        positions, window = draw(st.integers(1, 9)), draw(st.integers(1, 3))
        if kind == "new":
            leaving = draw(st.integers(1, 9))
        elif kind == "sum":
            leaving = draw(st.sampled_from(alive))
        else:
            both = np.concatenate([entering, draw(st.sampled_from(alive))])
            if len(np.unique(both)) < len(both) or kind == "concatenate":
                entering, leaving = both, draw(st.integers(1, 9))
            else:
                leaving = both
        alive.append(network.conv(f"conv{index}", entering, leaving, positions=positions, window=window))
    return network.head(alive[-1])


constraints = st.fixed_dictionaries(
    {
        "round_to": st.sampled_from([1, 1, 2, 3]),
        "min_units": st.integers(1, 3),
        "max_ratio": st.sampled_from([0.4, 0.8, 1.0]),
    }
)
scopes = st.sampled_from(["global", "layer", "isomorphic"])
criterion = st.sampled_from([{"name": "l1"}, {"name": "l2", "normalization": "none"}, {"name": "random"}])
targets = st.one_of(
    st.sampled_from([0.1, 0.29, 0.5, 0.8]).map(ratio),
    st.sampled_from(["median", 1.0, {"quantile": 0.3}]).map(threshold),
    st.builds(
        lambda measure, share: budget(measure, at_most_ratio=share),
        st.sampled_from(["macs", "parameters", "size_bytes"]),
        st.sampled_from([0.2, 0.5, 0.7, 0.95]),
    ),
)


def planned(network, pruning):
    """(units, scores, plan): the nearest plan where the target is out of reach; rejects where nothing may go."""
    units = network.units()
    scores = criteria.score(pruning.criterion, units, criteria.Evidence(network.arrays), seed=1)
    try:
        return units, scores, select(units, scores, pruning), True
    except Infeasible as error:
        return units, scores, error.plan, False
    except NothingToPrune:
        assume(False)
        raise


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(networks(), targets, scopes, criterion, constraints)
def test_every_plan_holds_its_constraints(network, target, scope, how, limits):
    units, scores, plan, _ = planned(network, spec(target, scope=scope, criterion=how, constraints=limits))
    gone = removed_of(units, plan)
    assert len(np.unique(gone)) == len(gone)
    assert not np.isin(gone, list(network.pinned)).any()
    for layer, ids in units.widths.items():
        before, kept = len(ids), int((~np.isin(ids, gone)).sum())
        assert kept >= min(limits["min_units"], before)
        assert kept >= before - floor(limits["max_ratio"] * before + 1e-9)
        if len(np.unique(ids)) == before:
            assert kept == before or kept % limits["round_to"] == 0, layer
    for group in units.groups:
        lost = np.isin(group.units, gone)
        if lost.any():
            assert scores[group.id][lost].max() <= scores[group.id][~lost].min()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(networks(), st.sampled_from([0.1, 0.29, 0.5]), scopes, criterion)
def test_a_ratio_is_met_exactly(network, value, scope, how):
    units, _, plan, reached = planned(network, spec(ratio(value), scope=scope, criterion=how))
    assume(reached)
    sizes = [len(group.units) for group in units.groups if group.barrier is None]
    wanted = min(floor(value * sum(sizes) + 0.5 + 1e-9), sum(sizes) - len(sizes))
    if scope == "layer":
        wanted = sum(min(floor(value * size + 0.5 + 1e-9), size - 1) for size in sizes)
    assert len(removed_of(units, plan)) == wanted


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(networks(), st.sampled_from(["macs", "parameters"]), st.sampled_from([0.3, 0.5, 0.8]), scopes, criterion)
def test_a_budget_fits_and_one_step_less_does_not(network, measure, share, scope, how):
    units, scores, plan, reached = planned(
        network, spec(budget(measure, at_most_ratio=share), scope=scope, criterion=how)
    )
    gone = removed_of(units, plan)

    def cost(ids):
        return counted(units, ids)[measure == "parameters"]

    limit = share * cost([])
    assert (cost(gone) <= limit + 1e-9) == reached
    if not reached:
        prunable = [group for group in units.groups if group.barrier is None]
        assert len(gone) == sum(len(group.units) - 1 for group in prunable)
        return
    put_back = []
    for group in units.groups:
        lost = np.flatnonzero(np.isin(group.units, gone))
        if len(lost):
            best = group.units[lost[np.argmax(scores[group.id][lost])]]
            put_back.append(cost(gone[gone != best]) > limit + 1e-9)
    assert all(put_back) if scope == "global" else any(put_back) or not len(gone)
