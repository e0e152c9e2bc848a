"""What the user's `layers` fixes: names and patterns, indices, conflicts, barriers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pruning.bindings import bind, matches
from pruning.contract.errors import ContradictorySpec, InvalidSpec, LayerNotFound, NothingToPrune, TargetOutOfRange
from pruning.contract.spec import LayerRule
from pruning.units import LayerEntry
from tests.pruning.hand import Network, chain


def rules(**said):
    return {name: LayerRule(**rule) for name, rule in said.items()}


def residual() -> Network:
    """a and c are summed, so their units are one group; b stands between; each has a normalisation."""
    network = Network()
    a = network.norm("a_norm", network.conv("a", 3, 6))
    b = network.norm("b_norm", network.conv("b", a, 4))
    network.norm("c_norm", network.conv("c", b, a))
    return network.head(a)


def test_a_name_beats_a_pattern_and_patterns_that_agree_stand():
    found = matches(
        ["c1", "c2", "d"], {"c*": LayerRule(ratio=0.5), "c2": LayerRule(skip=True), "?1": LayerRule(ratio=0.5)}
    )
    assert {name: (match.key, match.rule.skip) for name, match in found.items()} == {
        "c1": ("c*", False),
        "c2": ("c2", True),
    }


def test_a_name_that_looks_like_a_pattern_is_a_name():
    found = matches(["conv[0]", "conv0"], {"conv[0]": LayerRule(skip=True)})
    assert list(found) == ["conv[0]"]


def test_patterns_that_differ_contradict():
    with pytest.raises(ContradictorySpec, match="'c\\*' and '\\?1' both match 'c1'"):
        matches(["c1"], {"c*": LayerRule(ratio=0.5), "?1": LayerRule(ratio=0.25)})


def test_a_key_that_matches_nothing_is_refused_with_names_near_it():
    with pytest.raises(LayerNotFound, match=r"'cnv1' matches no layer of this model; there are conv1"):
        bind(chain(4, 4).units(), {"cnv1": LayerRule(skip=True)})


def test_skip_keeps_the_group_of_any_of_its_layers():
    units = residual().units()
    assert bind(units, rules(c={"skip": True})).skipped == {"a"}
    assert bind(units, rules(a_norm={"skip": True})).skipped == {"a"}
    assert bind(units, {"*_norm": LayerRule(skip=True)}).skipped == {"a", "b"}


def test_skip_protects_what_a_layer_makes_and_not_what_it_reads():
    binding = bind(residual().units(), rules(head={"skip": True}))
    assert not binding.skipped


def test_remove_and_keep_name_positions_on_the_width():
    units = residual().units()
    ids = units.widths["c"]
    assert bind(units, rules(c={"remove": [5, 0]})).removed["a"].tolist() == sorted(ids[[0, 5]].tolist())
    assert bind(units, rules(c={"keep": [1, 2]})).removed["a"].tolist() == ids[[0, 3, 4, 5]].tolist()


def test_removals_of_coupled_layers_add_up():
    units = residual().units()
    binding = bind(units, rules(a={"remove": [0]}, c={"remove": [1]}))
    assert binding.removed["a"].tolist() == units.widths["a"][[0, 1]].tolist()


def test_keeping_everything_decides_the_group_and_removes_nothing():
    binding = bind(residual().units(), rules(b={"keep": [0, 1, 2, 3]}))
    assert binding.removed["b"].tolist() == []
    assert "b" in binding


def test_a_pattern_binds_producers_and_not_what_only_passes():
    network = Network()
    stem = network.conv("stem", 3, 4)
    block = network.conv("block_conv", network.norm("block_norm", stem), 5)
    units = network.head(block).units()
    binding = bind(units, {"block_*": LayerRule(ratio=0.4)})
    assert binding.shares == {"block_conv": 0.4}


def test_an_exact_name_beats_a_pattern_on_a_coupled_layer():
    binding = bind(residual().units(), {"a": LayerRule(ratio=0.5), "c*": LayerRule(ratio=0.25)})
    assert binding.shares == {"a": 0.5}


@pytest.mark.parametrize(
    "said",
    [
        {"a": {"ratio": 0.5}, "c": {"ratio": 0.25}},
        {"a": {"ratio": 0.5}, "c": {"remove": [0]}},
        {"a": {"remove": [0]}, "c": {"keep": [0, 1]}},
        {"a": {"keep": [0, 1]}, "c": {"keep": [0, 2]}},
        {"a": {"skip": True}, "c": {"remove": [0]}},
        {"a": {"skip": True}, "c": {"ratio": 0.5}},
    ],
)
def test_rules_on_coupled_layers_that_cannot_both_hold(said):
    with pytest.raises(ContradictorySpec, match="group 'a' stand and fall together"):
        bind(residual().units(), rules(**said))


def test_no_name_on_another_layer_beats_skip():
    with pytest.raises(ContradictorySpec, match="skip for layer 'a'"):
        bind(residual().units(), {"a*": LayerRule(skip=True), "c": LayerRule(ratio=0.5)})


@pytest.mark.parametrize("rule", [{"remove": [0, 6]}, {"keep": [6]}])
def test_an_index_beyond_the_layer(rule):
    with pytest.raises(TargetOutOfRange, match="index 6, but layer 'c' has 6 units"):
        bind(residual().units(), rules(c=rule))


def test_an_index_of_a_layer_without_units():
    units = residual().units()
    units = replace(units, layers=(*units.layers, LayerEntry("sum", "Add", ())))
    with pytest.raises(TargetOutOfRange, match="layer 'sum' has no units of its own: name the layers that make them"):
        bind(units, rules(sum={"remove": [0]}))


@pytest.mark.parametrize("rule", [{"remove": [0]}, {"keep": [0]}, {"ratio": 0.3}])
def test_what_a_barrier_keeps_is_refused_with_its_reason(rule):
    with pytest.raises(NothingToPrune, match="layer 'head' keeps its units: an output of the model"):
        bind(residual().units(), rules(head=rule))


def test_a_pattern_passes_over_pinned_layers():
    units = residual().units()
    assert bind(units, {"*": LayerRule(ratio=0.5)}).shares == {"a": 0.5, "b": 0.5}
    assert bind(units, rules(head={"ratio": 0.0, "skip": True})).shares == {}


def test_skip_where_there_is_nothing_to_skip_is_refused():
    units = residual().units()
    units = replace(units, layers=(*units.layers, LayerEntry("sum", "Add", ())))
    with pytest.raises(InvalidSpec, match="'sum' has no units of its own to skip"):
        bind(units, rules(sum={"skip": True}))
    assert bind(units, {"[as]*": LayerRule(skip=True)}).skipped == {"a"}


def test_every_unit_of_a_layer_is_refused():
    with pytest.raises(ContradictorySpec, match="every unit of layer 'b' would be removed"):
        bind(residual().units(), rules(b={"remove": [0, 1, 2, 3]}))


def test_positions_without_a_unit_stay():
    network = Network()
    ids = network.new(3)
    network.conv("part", 3, np.array([-1, *ids]))
    units = network.head(ids).units()
    with pytest.raises(NothingToPrune, match="layer 'part' has no units that could be removed"):
        bind(units, rules(part={"remove": [0]}))
    assert bind(units, rules(part={"remove": [1]})).removed["part"].tolist() == [ids[0]]
