"""From a `.keras` file and a spec to the decision and its predicted figures: no TensorFlow, nothing is run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pruning import archive as archives
from pruning import block_finder, block_selection, criteria, masks, measures, memory, rewiring, selection, surgery
from pruning import graph as graphs
from pruning import units as unit_finder
from pruning.archive import Archive
from pruning.blocks import Block, Blocks
from pruning.contract.errors import InvalidSpec
from pruning.contract.errors_from_validation import from_validation
from pruning.contract.plan import KeepMap, Plan
from pruning.contract.request import PruneRequest
from pruning.contract.result import LayerReport, MeasureReport, MeasureSet, Removed, Result, Warning
from pruning.contract.spec import PlanTarget, Pruning, Spec
from pruning.criteria import Evidence
from pruning.graph import Graph
from pruning.units import Units

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A model as the engine sees it: its archive (without optimizer state), graph and units."""

    archive: Archive
    graph: Graph
    units: Units

    @cached_property
    def blocks(self) -> Blocks:
        """What could go as a whole."""
        return block_finder.find(self.graph, self.units, self.archive.arrays)

    @property
    def vocabularies(self) -> tuple[int | None, ...]:
        """For each input of the model how many indices it takes; None for one that takes numbers."""
        return tuple(self.units.vocabularies.get(tensor) for tensor in self.graph.inputs)


@dataclass(frozen=True)
class Decision:
    """What goes: the plan, and as `removed` unit ids or, for weights, `masks` by array path (True stays).

    `blocks` go as a whole (layer). `reasons`: why groups stay, by group id; of structure layer why layers do, by name.
    """

    plan: Plan
    removed: Ids
    masks: Mapping[str, NDArray[np.bool_]]
    reasons: Mapping[str, str]
    blocks: tuple[Block, ...] = ()


def read(path: str | os.PathLike[str]) -> Archive:
    """A normalised `.keras` file, without optimizer state."""
    return archives.without_optimizer(archives.read(path))


def study(archive: Archive, pruning: Pruning | None = None) -> Case:
    """The graph and the units of an archive; for a job those of its structure may go, the others stay.

    Raises `UnreadableFile` where the arrays belong to other layers.
    """
    graph = graphs.build(archive.config)
    graphs.check_names(graph, archive.names)
    if pruning is None:
        return Case(archive, graph, unit_finder.find(graph, archive.arrays))
    units = unit_finder.find(graph, archive.arrays, pruning.constraints.normalized_axes)
    return Case(archive, graph, unit_finder.only(units, pruning.structure))


def spec_of(request: PruneRequest) -> Spec:
    """The request's spec, with the plan itself where its target names a file.

    Raises `InvalidSpec` for a file that holds no plan, `ContradictorySpec` for a plan of another structure.
    """
    spec, target = request.spec, request.spec.pruning.target
    if not isinstance(target, PlanTarget) or target.plan is not None:
        return spec
    if request.plan is None:
        raise InvalidSpec("target: artifact_id names a file of the service, which is not here: give the plan itself")
    try:
        given = PlanTarget(type="plan", plan=Plan.model_validate_json(Path(request.plan).read_bytes()))
        fields = {name: getattr(spec.pruning, name) for name in Pruning.model_fields}
        return spec.model_copy(update={"pruning": Pruning.model_validate({**fields, "target": given})})
    except ValidationError as error:
        raise from_validation(error) from error


def score(case: Case, spec: Spec, evidence: Evidence | None = None) -> dict[str, Any]:
    """Scores by group id or, for weights, by array path, for layer by block id, higher is kept.

    None where a plan has chosen. `evidence`: what the criterion's `needs` names; without it the weights alone.
    """
    pruning, seen = spec.pruning, evidence or Evidence(case.archive.arrays)
    if pruning.target.type == "plan":
        return {}
    if pruning.structure == "layer":
        return criteria.score_blocks(pruning.criterion, case.units, case.blocks, seen, spec.seed)
    if pruning.structure != "weight":
        return criteria.score(pruning.criterion, case.units, seen, spec.seed)
    return criteria.score_weights(pruning.criterion, masks.prunable(case.units), seen, spec.seed)


def decide(case: Case, scores: dict[str, Any], pruning: Pruning) -> Decision:
    """The plan that meets the target. Raises what the `select` of the structure and `decision` raise."""
    if isinstance(pruning.target, PlanTarget):
        assert pruning.target.plan is not None, "`spec_of` reads it"
        return decision(case, pruning.target.plan, scores, pruning)
    if pruning.structure == "weight":
        return decision(case, masks.select(case.units, case.archive.arrays, scores, pruning), scores, pruning)

    if pruning.structure == "layer":

        def bytes_without(gone: Sequence[Block]) -> int:
            return archives.size_bytes(rewiring.apply(case.archive, case.blocks, gone))

        plan = block_selection.select(case.units, case.blocks, scores, pruning, bytes_without)
        return decision(case, plan, scores, pruning)

    def file_bytes(removed: Ids) -> int:
        return archives.size_bytes(surgery.sketch(case.archive, case.graph, case.units, removed))

    return decision(case, selection.select(case.units, scores, pruning, file_bytes), scores, pruning)


def decision(case: Case, plan: Plan, scores: dict[str, Any], pruning: Pruning) -> Decision:
    """A plan with what it means for this model. Raises `ContradictorySpec` for a plan of another model."""
    if plan.structure == "weight":
        return Decision(plan, measures.NONE, masks.of_plan(plan, case.units), measures.barriers(case.units))
    if plan.structure == "layer":
        why = block_selection.kept_because(case.units, case.blocks, scores, pruning)
        return Decision(plan, measures.NONE, {}, why, case.blocks.named(plan.layers))
    reasons = selection.kept_because(case.units, scores, pruning)
    return Decision(plan, surgery.removed_of(plan, case.units), {}, reasons)


def cut(case: Case, chosen: Decision) -> Case:
    """The model without its removed units or blocks, or with its masked weights zero. Raises what surgery raises."""
    if chosen.plan.structure == "weight":
        arrays = masks.apply(case.archive.arrays, chosen.masks)
        return replace(case, archive=archives.replace_arrays(case.archive, arrays))
    if chosen.plan.structure == "layer":
        left = rewiring.apply(case.archive, case.blocks, chosen.blocks)
        return Case(left, *rewiring.check(left, case.units, case.blocks, chosen.blocks))
    left = surgery.apply(case.archive, case.graph, case.units, chosen.removed)
    return Case(left, *surgery.check(left, case.units, chosen.removed))


def keep_map(case: Case, chosen: Decision) -> KeepMap | None:
    """Which indices of the original each array keeps; None where no array gets smaller and the plan's masks say all."""
    if chosen.plan.structure == "weight":
        return None
    if chosen.plan.structure == "layer":
        return rewiring.keep_map(case.archive, rewiring.apply(case.archive, case.blocks, chosen.blocks))
    return surgery.keep_map(case.archive, case.units, chosen.removed)


def removed(case: Case, chosen: Decision) -> Removed:
    """Shares of size, compute and storage that went."""
    if chosen.plan.structure == "weight":
        return measures.removed_by(case.units, chosen.masks)
    if chosen.plan.structure == "layer":
        return measures.removed_with(case.units, case.blocks.lost(chosen.blocks))
    return measures.removed(case.units, chosen.removed)


def layers(case: Case, chosen: Decision, left: Archive) -> list[LayerReport]:
    """One row per layer of the original; `left`: the model that is delivered."""
    if chosen.plan.structure != "layer":
        return measures.layers(case.units, left.arrays, chosen.removed, chosen.reasons)
    macs = case.blocks.macs(case.units, chosen.blocks)
    arrays = rewiring.at_first_paths(case.archive, left)
    return measures.layers_left(case.units, arrays, case.blocks.lost(chosen.blocks), macs, chosen.reasons)


def figures(case: Case, size_bytes: int) -> MeasureSet:
    """All that graph and weights tell of a model's cost, with the size of its file in bytes."""
    known = measures.figures(case.units, case.archive.arrays)
    peak = memory.peak_bytes(case.graph, case.units)
    return MeasureSet(**known, size_bytes=size_bytes, peak_memory_bytes=peak)


def report(before: MeasureSet, after: MeasureSet, upload_bytes: int | None) -> MeasureReport:
    """Before, after and their ratios."""
    ratio = measures.ratio(before, after)
    return MeasureReport(before=before, after=after, ratio=ratio, upload_bytes=upload_bytes)


def dry_run(request: PruneRequest) -> Result:
    """`foretell` by a criterion that sees the weights alone: needs no TensorFlow."""
    spec = spec_of(request)
    case = study(read(request.model), spec.pruning)
    return foretell(case, request, spec, score(case, spec))


def foretell(case: Case, request: PruneRequest, spec: Spec, scores: dict[str, Any]) -> Result:
    """What the job would remove and what the delivered file would cost; makes no artifact. `spec`: the request's.

    Parameters, MACs and bytes are those of the later job to the digit; non-zeros are those before recovery.
    Raises `Infeasible` with its floor where the target is out of reach.
    """
    chosen = decide(case, scores, spec.pruning)
    left = cut(case, chosen)
    before = figures(case, Path(request.model).stat().st_size)
    after = figures(left, archives.size_bytes(left.archive))
    return Result(
        measures=report(before, after, request.upload_bytes),
        removed=removed(case, chosen),
        layers=layers(case, chosen, left.archive),
        warnings=foreseen(case, chosen, before, after),
        plan=chosen.plan,
    )


def foreseen(case: Case, chosen: Decision, before: MeasureSet, after: MeasureSet) -> list[Warning]:
    """What is clear before anything runs: zeros that speed nothing up, MACs that hardly move, sizes not known."""
    found = list(measures.hardly_moved(before, after)) if chosen.plan.structure != "weight" else []
    if chosen.plan.structure == "weight":
        found.append(
            Warning(
                code="no_speed_up",
                detail="unstructured zeros do not speed up this CPU: dense kernels compute them all the same. "
                "They shrink the file only when it is compressed; structure channel makes the model faster",
            )
        )
    if not len(chosen.removed) and not chosen.masks and not chosen.blocks:
        found.append(Warning(code="nothing_removed", detail="the model met the target as it came: nothing was removed"))
    if case.graph.unknown_dimensions:
        names = ", ".join(case.graph.unknown_dimensions)
        found.append(
            Warning(
                code="unknown_dimensions",
                detail=f"free dimensions {names} count as 1 for MACs and memory, as 128 for latency",
            )
        )
    return found
