"""Channels and heads: coupled units that are sliced out of every array and width that holds them."""

from __future__ import annotations

from typing import Any

from pruning import archive as archives
from pruning import avoided, criteria, measures, selection, surgery
from pruning.archive import Archive
from pruning.case import Case, Decision, Ids
from pruning.contract.plan import KeepMap, Plan
from pruning.contract.result import LayerReport, MeasureSet, Removed, Warning
from pruning.contract.spec import Pruning, Spec
from pruning.criteria import Evidence


def score(case: Case, spec: Spec, evidence: Evidence) -> dict[str, Any]:
    return criteria.score(spec.pruning.criterion, case.units, evidence, spec.seed)


def select(case: Case, scores: dict[str, Any], pruning: Pruning) -> Plan:
    def file_bytes(removed: Ids) -> int:
        return archives.size_bytes(surgery.sketch(case.archive, case.graph, case.units, removed))

    return selection.select(case.units, scores, pruning, file_bytes)


def decision(case: Case, plan: Plan, scores: dict[str, Any], pruning: Pruning) -> Decision:
    gone = surgery.removed_of(plan, case.units)
    avoided.refuse(case.units, gone)
    return Decision(plan, gone, {}, selection.kept_because(case.units, scores, pruning))


def cut(case: Case, chosen: Decision) -> Case:
    left = surgery.apply(case.archive, case.graph, case.units, chosen.removed)
    return Case(left, *surgery.check(left, case.units, chosen.removed))


def keep_map(case: Case, chosen: Decision) -> KeepMap:
    return surgery.keep_map(case.archive, case.units, chosen.removed)


def removed(case: Case, chosen: Decision) -> Removed:
    return measures.removed(case.units, chosen.removed)


def layers(case: Case, chosen: Decision, left: Archive) -> list[LayerReport]:
    return measures.layers(case.units, left.arrays, chosen.removed, chosen.reasons)


def foreseen(case: Case, chosen: Decision, before: MeasureSet, after: MeasureSet) -> list[Warning]:
    return [*measures.hardly_moved(before, after), *avoided.kept(case.units, chosen.removed)]
