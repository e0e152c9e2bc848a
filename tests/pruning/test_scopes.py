"""The order in which units go, and shares in decimals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.scopes import Order, classes, order, pooled_ranks, relative_ranks, share, shares


@pytest.mark.parametrize(
    ("value", "count", "half_up", "floor"),
    [(0.5, 5, 3, 2), (0.29, 50, 15, 14), (0.15, 10, 2, 1), (0.3, 10, 3, 3), (0.01, 10, 0, 0), (0.7, 10, 7, 7)],
)
def test_shares_are_rounded_in_decimals(value, count, half_up, floor):
    assert (share(value, count), share(value, count, "floor")) == (half_up, floor)
    assert shares(value, np.array([count, 2 * count])).tolist() == [half_up, share(value, 2 * count)]


def test_global_order_goes_by_score_over_all_buckets():
    found = order([np.array([1.0, 4.0]), np.array([2.0, 3.0, 5.0])], np.zeros(2, int))
    assert [found.counts(n).tolist() for n in range(6)] == [[0, 0], [1, 0], [1, 1], [1, 2], [2, 2], [2, 3]]


def test_layer_order_takes_the_same_share_of_every_bucket():
    found = order([np.arange(4.0), np.arange(100.0, 108.0)], np.arange(2))
    for ratio in (0.1, 0.25, 0.3, 0.5, 0.9):
        wanted = shares(ratio, np.array([4, 8]))
        assert found.counts(int(wanted.sum())).tolist() == wanted.tolist()


def test_ties_strip_no_bucket():
    found = Order([np.ones(10), np.ones(20), np.array([0.0, 2.0])])
    assert found.counts(1).tolist() == [0, 0, 1]
    assert found.counts(16).tolist() == [5, 10, 1]
    assert found.counts(31).tolist() == [10, 20, 1]


def test_last_names_the_key_that_went_last():
    found = Order([np.array([1.0, 4.0]), np.array([2.0])])
    assert found.last(np.array([2, 0])).tolist() == [4.0, -np.inf]


buckets = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=8), min_size=1, max_size=5)


@settings(deadline=None)
@given(buckets)
def test_counts_grow_by_one_and_never_pass_a_lower_key(scores):
    keys = [np.sort(np.array(bucket, dtype=float)) for bucket in scores]
    found = Order(keys)
    states = [found.counts(n) for n in range(found.total + 1)]
    for n, state in enumerate(states):
        assert state.sum() == n
        gone = [key[:count] for key, count in zip(keys, state, strict=True)]
        left = [key[count:] for key, count in zip(keys, state, strict=True)]
        assert max(np.concatenate(gone), default=-1) <= min(np.concatenate(left), default=99)
    for before, after in itertools.pairwise(states):
        assert ((after - before) >= 0).all()


@settings(deadline=None)
@given(st.integers(1, 40), st.sampled_from([0.05, 0.1, 0.25, 0.29, 0.5, 0.75, 0.9]))
def test_relative_ranks_reach_a_share_when_it_rounds_half_up(size, value):
    assert (relative_ranks(size) <= value + 1e-12).sum() == share(value, size)


def test_every_class_loses_the_same_share_by_score():
    keys = [np.array([1.0, 2.0]), np.array([30.0, 40.0]), np.array([0.5, 3.0])]
    found = order(keys, np.array([0, 1, 0]))
    # The first class goes 0.5 | 1, 2, 3 of buckets 2, 0, 0, 2; the second one alongside it.
    states = [[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1], [2, 1, 1], [2, 2, 1], [2, 2, 2]]
    assert [found.counts(n).tolist() for n in range(7)] == states


def test_pooled_ranks_spread_ties():
    (a, b) = pooled_ranks([np.array([1.0, 1.0, 5.0]), np.array([1.0, 1.0, 1.0, 1.0, 1.0])])
    assert a.tolist() == [3 / 16, 11 / 16, 15 / 16]
    assert b.tolist() == [1 / 16, 5 / 16, 7 / 16, 9 / 16, 13 / 16]


def test_classes_of_scopes():
    kinds = ["x", "y", "x"]
    assert classes("global", kinds).tolist() == [0, 0, 0]
    assert classes("layer", kinds).tolist() == [0, 1, 2]
    assert classes("isomorphic", kinds).tolist() == [0, 1, 0]
