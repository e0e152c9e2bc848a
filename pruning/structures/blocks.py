"""Whole layers and blocks, which go together with their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pruning import archive as archives
from pruning import block_selection, criteria, measures, rewiring
from pruning.archive import Archive
from pruning.blocks import Block
from pruning.case import Case, Decision
from pruning.contract.plan import KeepMap, Plan
from pruning.contract.result import LayerReport, MeasureSet, Removed, Warning
from pruning.contract.spec import Pruning, Spec
from pruning.criteria import Evidence

_LITTLE = 0.05


def score(case: Case, spec: Spec, evidence: Evidence) -> dict[str, Any]:
    return criteria.score_blocks(spec.pruning.criterion, case.units, case.blocks, evidence, spec.seed)


def select(case: Case, scores: dict[str, Any], pruning: Pruning) -> Plan:
    def bytes_without(gone: Sequence[Block]) -> int:
        return archives.size_bytes(rewiring.apply(case.archive, case.blocks, gone))

    return block_selection.select(case.units, case.blocks, scores, pruning, bytes_without)


def decision(case: Case, plan: Plan, scores: dict[str, Any], pruning: Pruning) -> Decision:
    why = block_selection.kept_because(case.units, case.blocks, scores, pruning)
    return Decision(plan, measures.NONE, {}, why, case.blocks.named(plan.layers))


def cut(case: Case, chosen: Decision) -> Case:
    left = rewiring.apply(case.archive, case.blocks, chosen.blocks)
    return Case(left, *rewiring.check(left, case.units, case.blocks, chosen.blocks))


def keep_map(case: Case, chosen: Decision) -> KeepMap:
    return rewiring.keep_map(case.archive, rewiring.apply(case.archive, case.blocks, chosen.blocks))


def removed(case: Case, chosen: Decision) -> Removed:
    return measures.removed_with(case.units, case.blocks.lost(chosen.blocks))


def layers(case: Case, chosen: Decision, left: Archive) -> list[LayerReport]:
    macs = case.blocks.macs(case.units, chosen.blocks)
    arrays = rewiring.at_first_paths(case.archive, left)
    return measures.layers_left(case.units, arrays, case.blocks.lost(chosen.blocks), macs, chosen.reasons)


def foreseen(case: Case, chosen: Decision, before: MeasureSet, after: MeasureSet) -> list[Warning]:
    found = measures.hardly_moved(before, after)
    fell = 1 - after.macs / before.macs if before.macs else 0.0
    if chosen.blocks and not found and fell < _LITTLE:
        detail = (
            f"the {len(chosen.blocks)} of {len(case.blocks.found)} blocks that went hold {fell:.1%} of the MACs: the "
            "rest lies in blocks that score higher, or in layers that lie in none (`kept_because` of each says why)"
        )
        found.append(Warning(code="macs_hardly_moved", detail=detail))
    return found
