"""Constraints on widths."""

from __future__ import annotations

import numpy as np
import pytest

from pruning.contract.spec import Constraints
from pruning.limits import Limits


@pytest.mark.parametrize(
    ("said", "wanted", "allowed"),
    [
        ({}, [3, 10], [3, 9]),
        ({"min_units": 4}, [9, 9], [6, 6]),
        ({"min_units": 99}, [9, 9], [0, 0]),
        ({"max_ratio": 0.5}, [9, 2], [5, 2]),
        ({"round_to": 4}, [1, 2], [0, 2]),
        ({"round_to": 4}, [3, 9], [2, 6]),
        ({"round_to": 16}, [9, 9], [0, 0]),
        ({"round_to": 4, "min_units": 5}, [9, 9], [2, 2]),
    ],
)
def test_what_may_go_of_ten_units(said, wanted, allowed):
    limits = Limits.of(np.array([10, 10]), Constraints(**said))
    assert limits.allowed(np.array(wanted)).tolist() == allowed


def test_max_ratio_is_counted_in_decimals():
    assert Limits.of(np.array([50, 100]), Constraints(max_ratio=0.58)).removable.tolist() == [29, 58]


def test_many_states_at_once():
    limits = Limits.of(np.array([8, 6]), Constraints(round_to=2))
    assert limits.allowed(np.array([[3, 1], [8, 6]])).tolist() == [[2, 0], [6, 4]]
