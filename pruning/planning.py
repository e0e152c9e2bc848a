"""From a `.keras` file and a spec to the decision and its predicted figures: no TensorFlow, nothing is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pruning import archive as archives
from pruning import graph as graphs
from pruning import measures, memory, structures
from pruning import units as unit_finder
from pruning.archive import Archive
from pruning.case import Case, Decision
from pruning.contract.errors import InvalidSpec
from pruning.contract.errors_from_validation import from_validation
from pruning.contract.plan import Plan
from pruning.contract.request import PruneRequest
from pruning.contract.result import MeasureReport, MeasureSet, Result, Warning
from pruning.contract.spec import PlanTarget, Pruning, Spec
from pruning.criteria import Evidence


def read(path: str | os.PathLike[str]) -> Archive:
    """A normalised `.keras` file, which has no optimizer state."""
    return archives.read(path, ours=True)


def study(archive: Archive, pruning: Pruning | None = None) -> Case:
    """The graph and the units of an archive; for a job those of its structure may go, the others stay.

    Raises `UnreadableFile` where the arrays belong to other layers.
    """
    graph = graphs.build(archive.config)
    graphs.check_names(graph, archive.names)
    if pruning is None:
        return Case(archive, graph, unit_finder.find(graph, archive.arrays, bfloat16=archive.bfloat16))
    units = unit_finder.find(graph, archive.arrays, pruning.constraints.normalized_axes, archive.bfloat16)
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
    """Scores by id of what competes: groups, arrays of weights or blocks; higher is kept.

    None where a plan has chosen. `evidence`: what the criterion's `needs` names; without it the weights alone.
    """
    if spec.pruning.target.type == "plan":
        return {}
    return structures.of(spec.pruning.structure).score(case, spec, evidence or Evidence(case.archive.arrays))


def decide(case: Case, scores: dict[str, Any], pruning: Pruning) -> Decision:
    """The plan that meets the target, or is it. Raises what `select` and `decision` of its structure raise."""
    kind, target = structures.of(pruning.structure), pruning.target
    given = target.plan if isinstance(target, PlanTarget) else None
    return kind.decision(case, given or kind.select(case, scores, pruning), scores, pruning)


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
    kind = structures.of(spec.pruning.structure)
    chosen = decide(case, scores, spec.pruning)
    left = kind.cut(case, chosen)
    before = figures(case, Path(request.model).stat().st_size)
    after = figures(left, archives.size_bytes(left.archive))
    return Result(
        measures=report(before, after, request.upload_bytes),
        removed=kind.removed(case, chosen),
        layers=kind.layers(case, chosen, left.archive),
        warnings=foreseen(case, chosen, before, after),
        plan=chosen.plan,
    )


def foreseen(case: Case, chosen: Decision, before: MeasureSet, after: MeasureSet) -> list[Warning]:
    """What is clear before anything runs: zeros that speed nothing up, MACs that hardly move, sizes not known."""
    found = structures.of(chosen.plan.structure).foreseen(case, chosen, before, after)
    if not len(chosen.removed) and not chosen.masks and not chosen.blocks:
        found.append(Warning(code="nothing_removed", detail="the model met the target as it came: nothing was removed"))
    if case.graph.unknown_dimensions:
        names = ", ".join(case.graph.unknown_dimensions)
        found.append(
            Warning(
                code="unknown_dimensions",
                detail=f"free dimensions {names} count as 1 for MACs and memory, as 128 for latency "
                "(as less or more where the model does not take 128)",
            )
        )
    return found
