"""Single weights of kernels, which become zero under masks and stay zero; no array gets smaller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pruning import archive as archives
from pruning import criteria, masks, measures
from pruning.archive import Archive
from pruning.case import Case, Decision
from pruning.contract.plan import Plan
from pruning.contract.result import LayerReport, MeasureSet, Removed, Warning
from pruning.contract.spec import Pruning, Spec
from pruning.criteria import Evidence


def score(case: Case, spec: Spec, evidence: Evidence) -> dict[str, Any]:
    return criteria.score_weights(spec.pruning.criterion, masks.prunable(case.units), evidence, spec.seed)


def select(case: Case, scores: dict[str, Any], pruning: Pruning) -> Plan:
    return masks.select(case.units, case.archive.arrays, scores, pruning)


def decision(case: Case, plan: Plan, scores: dict[str, Any], pruning: Pruning) -> Decision:
    reasons = masks.kept_because(case.units, scores, pruning)
    return Decision(plan, measures.NONE, masks.of_plan(plan, case.units), reasons)


def cut(case: Case, chosen: Decision) -> Case:
    arrays = masks.apply(case.archive.arrays, chosen.masks)
    return replace(case, archive=archives.replace_arrays(case.archive, arrays))


def keep_map(case: Case, chosen: Decision) -> None:
    return None


def removed(case: Case, chosen: Decision) -> Removed:
    return measures.removed_by(case.units, chosen.masks)


def layers(case: Case, chosen: Decision, left: Archive) -> list[LayerReport]:
    rows = measures.layers(case.units, left.arrays, kept_because={})
    return [row.model_copy(update={"kept_because": chosen.reasons.get(row.name)}) for row in rows]


def foreseen(case: Case, chosen: Decision, before: MeasureSet, after: MeasureSet) -> list[Warning]:
    detail = (
        "unstructured zeros do not speed up this CPU: dense kernels compute them all the same. "
        "They shrink the file only when it is compressed; structure channel makes the model faster"
    )
    return [Warning(code="no_speed_up", detail=detail)]
