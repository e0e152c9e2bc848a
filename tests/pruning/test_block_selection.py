"""The choice of whole blocks under `max_ratio`: one that takes others along counts with them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from pruning.block_selection import select
from pruning.case import Case
from pruning.contract.errors import NothingToPrune
from pruning.contract.plan import Plan
from pruning.contract.spec import Pruning
from pruning.planning import study
from pruning.targets import Infeasible
from tests import block_models, equivalence

# `add` is the worst, and takes along `branch_relu` and `inner_gate`.
SCORES = {"add": 0.0, "inner_gate": 1.0, "outer_gate": 2.0, "branch_relu": 3.0}
BUDGET = {"type": "budget", "measure": "macs", "at_most": 1}


@cache
def gates() -> Case:
    return study(equivalence.archived(block_models.build("gates")))


def chosen(target: dict[str, Any], max_ratio: float, scores: dict[str, float] = SCORES) -> Plan:
    constraints = {"max_ratio": max_ratio}
    pruning = Pruning.model_validate({"structure": "layer", "target": target, "constraints": constraints})
    return select(gates().units, gates().blocks, scores, pruning)


@pytest.mark.parametrize(
    ("max_ratio", "gone"),
    [
        (0.25, ["inner_gate"]),
        (0.5, ["inner_gate", "outer_gate"]),
        (0.75, ["branch_relu", "inner_gate", "add"]),
    ],
)
def test_a_block_that_counts_too_much_is_passed_over(max_ratio: float, gone: list[str]) -> None:
    for target in ({"type": "threshold", "value": 9.0}, {"type": "ratio", "value": max_ratio}):
        assert chosen(target, max_ratio).layers == gone
    with pytest.raises(Infeasible) as caught:
        chosen(BUDGET, max_ratio)
    assert caught.value.plan.layers == gone


@pytest.mark.parametrize(
    ("max_ratio", "scores", "sentence"),
    [
        (0.2, SCORES, r"max_ratio 0\.2 lets 0 of 4 blocks go, and one counts 1 .* max_ratio of 0\.25 or more"),
        (0.5, {"add": 0.0}, r"max_ratio 0\.5 lets 2 of 4 blocks go, and one counts 3 .* max_ratio of 0\.75 or more"),
    ],
)
def test_where_no_block_may_go_the_sentence_is_of_blocks(
    max_ratio: float, scores: dict[str, float], sentence: str
) -> None:
    for target in (BUDGET, {"type": "ratio", "value": 0.9}, {"type": "threshold", "value": 9.0}):
        with pytest.raises(NothingToPrune, match=sentence):
            chosen(target, max_ratio, scores)
    enough = float(sentence.rpartition("max_ratio of ")[2].split()[0].replace("\\", ""))
    assert chosen({"type": "threshold", "value": 9.0}, enough, scores).layers
