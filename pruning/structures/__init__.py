"""What is removed, one module per kind of thing: scores, choice, cut, and what is said of it.

To add a structure: a module with the functions of `Kind`, its line in `_KINDS`, its name in `contract.plan.Structure`.
"""

from __future__ import annotations

from typing import Any, Protocol

from pruning.archive import Archive
from pruning.case import Case, Decision
from pruning.contract.plan import KeepMap, Plan, Structure
from pruning.contract.result import LayerReport, MeasureSet, Removed, Warning
from pruning.contract.spec import Pruning, Spec
from pruning.criteria import Evidence
from pruning.structures import blocks, units, weights

__all__ = ["Kind", "of"]


class Kind(Protocol):
    """What each module here offers."""

    def score(self, case: Case, spec: Spec, evidence: Evidence) -> dict[str, Any]:
        """Scores by id of what competes, higher is kept; what the criterion has no evidence for is left out."""

    def select(self, case: Case, scores: dict[str, Any], pruning: Pruning) -> Plan:
        """The plan that meets the target. Raises `Infeasible`, `NothingToPrune` and what rules of `layers` raise."""

    def decision(self, case: Case, plan: Plan, scores: dict[str, Any], pruning: Pruning) -> Decision:
        """A plan with what it means for this model. Raises `ContradictorySpec` for a plan of another model."""

    def cut(self, case: Case, chosen: Decision) -> Case:
        """The model without what goes, checked. Raises `ContradictorySpec`, `VerificationFailed`."""

    def keep_map(self, case: Case, chosen: Decision) -> KeepMap | None:
        """Which indices of the original each array keeps; None where no array gets smaller: the plan says all."""

    def removed(self, case: Case, chosen: Decision) -> Removed:
        """Shares of size, compute and storage that went."""

    def layers(self, case: Case, chosen: Decision, left: Archive) -> list[LayerReport]:
        """One row per layer of the original; `left`: the model that is delivered."""

    def foreseen(self, case: Case, chosen: Decision, before: MeasureSet, after: MeasureSet) -> list[Warning]:
        """What decision and figures tell of the gain before anything runs."""


_KINDS: dict[Structure, Kind] = {"channel": units, "head": units, "weight": weights, "layer": blocks}


def of(structure: Structure) -> Kind:
    """What a structure removes, and how."""
    return _KINDS[structure]
