"""Rules' notes on hand-made ids, without a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pruning.contract.errors import VerificationFailed
from pruning.graph import Op
from pruning.rules import RULES, layer, reshaping, rule_of
from pruning.rules.merge import broadcast, strung
from pruning.rules.trace import Trace
from pruning.rules.union import unite


def _op(class_name: str = "Dense", module: str = "keras.layers", **config: Any) -> Op:
    return Op("op", class_name, module, config, "layers/op", ("config", "layers", 0), (), {}, (), ())


@pytest.fixture
def trace() -> Trace:
    trace = Trace({"layers/op/vars/0": (4, 6), "layers/op/vars/1": (6,)})
    trace.op = _op()
    return trace


def _pinned(trace: Trace) -> set[int]:
    return {int(i) for ids, _ in trace.pins for i in ids if i >= 0}


def test_unite_joins_long_chains_to_their_smallest_member() -> None:
    labels = np.arange(2000)
    order = np.random.default_rng(0).permutation(1999)
    unite(labels, order, order + 1)
    assert (labels == 0).all()


def test_unite_agrees_with_one_by_one() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.integers(0, 300, (2, 200))
    labels = np.arange(300)
    unite(labels, first, second)
    parents = list(range(300))

    def root(i: int) -> int:
        while parents[i] != i:
            i = parents[i]
        return i

    for a, b in zip(first, second, strict=True):
        x, y = sorted((root(a), root(b)))
        parents[y] = x
    np.testing.assert_array_equal(labels, [root(i) for i in range(300)])


def test_ties_are_resolved_as_they_come(trace: Trace) -> None:
    a, b, c = trace.new(3), trace.new(3), trace.new(3)
    trace.tie(a, b)
    np.testing.assert_array_equal(trace.resolve(b), a)
    trace.tie(c, b)
    np.testing.assert_array_equal(trace.resolve(np.append(c, -1)), [*a, -1])


def test_a_tie_with_a_fixed_place_pins(trace: Trace) -> None:
    a = trace.new(3)
    trace.tie(a, np.array([-1, a[1], -1]))
    assert _pinned(trace) == {a[0], a[2]}


def test_ids_that_meet_a_size_are_pinned_and_sizes_must_agree(trace: Trace) -> None:
    a = trace.new(3)
    assert trace.meet(a, 3) == 3
    assert _pinned(trace) == set(a)
    with pytest.raises(VerificationFailed, match="sizes 3 and 4"):
        trace.meet(a, 4)


def test_a_shared_array_ties_the_units_of_its_calls(trace: Trace) -> None:
    a, b = trace.new(4), trace.new(4)
    trace.bind("layers/op/vars/0", 0, a, "consumer")
    trace.bind("layers/op/vars/0", 0, b, "consumer")
    np.testing.assert_array_equal(trace.resolve(b), a)
    assert len(trace.axes) == 1
    assert trace.produce("layers/op/vars/0", 1) is trace.produce("layers/op/vars/0", -1)


def test_arrays_must_be_there_and_fit(trace: Trace) -> None:
    with pytest.raises(VerificationFailed, match="lacks"):
        trace.bind("layers/op/vars/7", 0, 4, "consumer")
    with pytest.raises(VerificationFailed, match="5 units"):
        trace.bind("layers/op/vars/0", 0, trace.new(5), "consumer")
    with pytest.raises(VerificationFailed, match="needs"):
        trace.expect("layers/op/vars/0", [4, 5])


def test_costs_multiply_places_axes_and_the_rest_of_the_kernel(trace: Trace) -> None:
    a = trace.new(4)
    trace.repeats.append(3)
    trace.cost((5, None), (a, 6), "layers/op/vars/0", 9)
    (cost,) = trace.costs
    assert (cost.multiplier, cost.per_element) == (3 * 5 * 6 * 9, 15)
    assert cost.axes[0] is a


def test_broadcasting_spreads_ones_and_ties_the_rest(trace: Trace) -> None:
    a, b = trace.new(4), trace.new(4)
    value = broadcast([(None, 5, 1, a), (None, 1, 5, b), (None, 1, 1, 1)], trace)
    assert value[:3] == (None, 5, 5)
    np.testing.assert_array_equal(value[3], a)
    np.testing.assert_array_equal(trace.resolve(b), a)
    assert not trace.pins


def test_one_unit_spread_over_an_axis_is_pinned(trace: Trace) -> None:
    a, one = trace.new(4), trace.new(1)
    broadcast([(None, a), (None, one)], trace)
    assert _pinned(trace) == set(one)


def test_a_concatenation_keeps_order_and_marks_plain_places(trace: Trace) -> None:
    a, b = trace.new(2), trace.new(3)
    (ids,) = strung([(b,), (2,), (a,)], 0, trace)
    np.testing.assert_array_equal(ids, [2, 3, 4, -1, -1, 0, 1])


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 1, 4), (5, 4), (4,)])
def test_flatten_is_numpys_reshape_of_the_ids(trace: Trace, shape: tuple[int, ...]) -> None:
    a = trace.new(4)
    (flat,) = reshaping.reshape((*shape[:-1], a), [int(np.prod(shape))], trace)
    np.testing.assert_array_equal(flat, np.broadcast_to(a, shape).reshape(-1))
    back = reshaping.reshape((flat,), list(shape), trace)
    assert back[:-1] == shape[:-1]
    np.testing.assert_array_equal(back[-1], a)
    assert not trace.ties


def test_flatten_of_a_leading_unit_axis_repeats_each(trace: Trace) -> None:
    a = trace.new(3)
    (flat,) = reshaping.reshape((a, 2, 2), [12], trace)
    np.testing.assert_array_equal(flat, np.repeat(a, 4))


def test_a_split_ties_what_shares_a_place_on_the_longest_axis(trace: Trace) -> None:
    a = trace.new(12)
    value = reshaping.reshape((a,), [3, 4], trace)
    assert value[0] == 3
    np.testing.assert_array_equal(value[1], a[:4])
    np.testing.assert_array_equal(trace.resolve(a), np.tile(a[:4], 3))


def test_a_split_takes_the_axis_that_ties_made_already(trace: Trace) -> None:
    a = trace.new(12)
    table = a.reshape(6, 2)
    trace.tie(np.broadcast_to(table[:, :1], table.shape), table)
    value = reshaping.reshape((a,), [6, 2], trace)
    np.testing.assert_array_equal(value[0], table[:, 0])
    assert value[1] == 2
    ties = len(trace.ties)
    assert ties == 1 + 1
    np.testing.assert_array_equal(trace.resolve(a), np.repeat(a[::2], 2))


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_unit_axes_in_one_run_the_longer_passes(trace: Trace, turned: bool) -> None:
    a, b = trace.new(2), trace.new(3)
    (merged,) = reshaping.reshape((b, a) if turned else (a, b), [6], trace)
    np.testing.assert_array_equal(merged, np.repeat(b, 2) if turned else np.tile(b, 2))
    assert _pinned(trace) == {*a}
    assert trace.barriers[-1].code == "two_unit_axes"


def test_axes_apart_from_the_units_are_reshaped_for_free(trace: Trace) -> None:
    a = trace.new(4)
    value = reshaping.reshape((1000, 1000, a), [500, 2000, 4], trace)
    assert value[:2] == (500, 2000)
    assert value[2] is a


def test_unknown_sizes_keep_equal_ends_and_pin_the_rest(trace: Trace) -> None:
    a, b = trace.new(4), trace.new(6)
    value = reshaping.reshape((b, None, a), [None, 4], trace)
    assert value[0] is None
    assert value[1] is a
    assert _pinned(trace) == set(b)


def test_what_is_known_at_an_end_of_unknown_sizes_is_reshaped_by_itself(trace: Trace) -> None:
    a, b = trace.new(4), trace.new(6)
    merged = reshaping.reshape((None, 3, a), [None, 12], trace)
    stacked = reshaping.reshape((None, a), [None, 12], trace)
    turned = reshaping.reshape((b, None, 2), [3, 2, None], trace)
    split = reshaping.reshape((None, None, 2, a), [None, 2, 2, 2], trace)
    assert merged[0] is stacked[0] is turned[2] is split[0] is None
    np.testing.assert_array_equal(merged[1], np.tile(a, 3))
    np.testing.assert_array_equal(stacked[1], np.tile(a, 3))
    np.testing.assert_array_equal(turned[0], b[::2])
    np.testing.assert_array_equal(trace.resolve(b), np.repeat(b[::2], 2))
    assert turned[1] == split[1] == 2
    assert not trace.barriers


def test_what_shares_no_numbers_with_an_axis_beside_unknown_sizes_is_pinned(trace: Trace) -> None:
    a = trace.new(6)
    assert reshaping.reshape((None, a), [None, 4], trace) == (None, 4)
    assert _pinned(trace) == set(a)


@pytest.mark.parametrize("steps", [None, 5])
def test_channels_that_become_steps_go_with_those_of_the_other_steps(trace: Trace, steps: int | None) -> None:
    a = trace.new(6)
    value = reshaping.reshape((steps, a), [steps and 2 * steps, 3], trace)
    assert value[0] == (steps and 2 * steps)
    np.testing.assert_array_equal(value[1], a[:3])
    np.testing.assert_array_equal(trace.resolve(a), np.tile(a[:3], 2))
    assert not trace.barriers


def test_of_channels_that_become_steps_of_unknown_number_none_tells_a_step_apart(trace: Trace) -> None:
    a, b = trace.new(8), trace.new(2)
    value = reshaping.reshape((None, a, b), [None, 2], trace)
    assert value[0] is None
    np.testing.assert_array_equal(value[1], b)
    assert _pinned(trace) == set(a)
    assert trace.barriers[-1].code == "unknown_size"


def test_a_reshape_that_changes_the_number_of_elements_is_refused(trace: Trace) -> None:
    with pytest.raises(VerificationFailed, match="number of elements"):
        reshaping.reshape((trace.new(4),), [5], trace)


def test_rules_belong_to_classes_of_keras_alone() -> None:
    assert rule_of(_op("Dense")) is RULES["layers", "Dense"]
    assert rule_of(_op("Dense", "my_package")) is None
    assert rule_of(_op("Add", "keras.src.ops.numpy")) is not rule_of(_op("Add"))
    with pytest.raises(ValueError, match="two rules"):
        layer("Dense")(RULES["layers", "Dense"])
