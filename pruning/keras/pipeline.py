"""The way of a run: load, graph, score, plan, surgery, verify, recover, export, measure, evaluate. The steps only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias

import keras

from pruning import archive as archives
from pruning import planning, structures
from pruning.archive import Archive
from pruning.case import Case, Decision
from pruning.contract.criteria import OfBlocks
from pruning.contract.dataset import DatasetDescription, Split
from pruning.contract.errors import DatasetMismatch, DatasetRequired, InfeasibleTarget
from pruning.contract.inspection import Inspection
from pruning.contract.progress import Line, Phase, Produced, Progress, Report
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import (
    LatencyFigure,
    MeasureReport,
    RecoveryReport,
    Result,
    StageReport,
    Verification,
    Warning,
)
from pruning.contract.spec import Spec, Stage, needs_data, reads_data, resolve
from pruning.criteria import Evidence
from pruning.keras import (
    collect,
    collect_blocks,
    data,
    describe,
    export,
    heads,
    live,
    measure,
    probe,
    recover,
    report,
    verify,
)
from pruning.keras import load as loading
from pruning.keras import objective as objectives
from pruning.keras.data import Samples
from pruning.keras.evaluate import Scores, evaluator, some_outputs, summary
from pruning.keras.normalize import normalize as normalize
from pruning.keras.objective import Objective
from pruning.keras.probe import Probe
from pruning.selection import Infeasible
from pruning.structures import Kind

Emit: TypeAlias = Callable[[Line], None]


def inspect(request: InspectRequest, emit: Emit) -> Inspection:
    """Load an upload of any age, save it as `normalized.keras` (compile config, no optimizer state), describe it."""
    _tell(emit, "load")
    upload = Path(request.upload)
    model = loading.load(upload, request.architecture)
    path = Path(request.out, "normalized.keras")
    normalize(model, path)
    _tell(emit, "inspect")
    found = describe.inspection(planning.study(planning.read(path)), *data.ports(model), loading.left_out(upload))
    emit(Produced(kind="normalized", format="keras", filename=path.name, path=path.name))
    return found


def prune(request: PruneRequest, emit: Emit) -> Result:
    """One pruning run. Raises `SecateurError`; nothing is announced by `emit` before it is verified.

    Where the target is out of reach the nearest model is cut, verified and written as `nearest.keras`, and
    `InfeasibleTarget` says the `floor`.
    """
    if request.spec.dry_run and not request.spec.pruning.needs_samples:
        _tell(emit, "plan")
        return planning.dry_run(request)
    run = _load(request, emit)
    _tell(emit, "score")
    scores = planning.score(run.case, run.spec, _evidence(run))
    _tell(emit, "plan")
    if request.spec.dry_run:
        return planning.foretell(run.case, request, run.spec, scores)
    try:
        chosen = planning.decide(run.case, scores, run.spec.pruning)
    except Infeasible as error:
        nearest = _nearest(run, run.kind.decision(run.case, error.plan, scores, run.spec.pruning))
        raise InfeasibleTarget(error.detail, floor=error.floor, nearest=nearest) from error
    _tell(emit, "surgery")
    left = run.kind.cut(run.case, chosen)
    cut = left.archive
    model = live.build(cut.config, cut.arrays)
    score = _scorer(run, model)
    edited, repaired, stages = _repair(run, chosen, cut, model, score)
    _tell(emit, "verify")
    proof = _verify(run, edited, chosen, repaired)
    stages += _recover(run, chosen, model, score)
    trained = archives.replace_arrays(cut, live.values(model, cut))
    _tell(emit, "export")
    proof, delivered = _export(run, chosen, trained, model, proof)
    measured = _measure(run, replace(left, archive=trained), delivered)
    live.assign(model, cut.arrays)
    recovery, warnings = _evaluate(run, score, delivered)
    _announce(run, chosen)
    before, after = measured.before, measured.after
    warnings = [
        *planning.foreseen(run.case, chosen, before, after),
        *(report.no_speed_up(before, after) if chosen.plan.structure != "weight" else []),
        *report.verification(proof),
        *(report.frozen(delivered) if any(recover.needs_labels(stage) for stage in run.stages) else []),
        *warnings,
    ]
    return Result(
        measures=measured,
        removed=run.kind.removed(run.case, chosen),
        layers=run.kind.layers(run.case, chosen, trained),
        recovery=recovery,
        stages=stages,
        verification=proof,
        warnings=warnings,
        data=run.description.model_dump(mode="json") if run.description else None,
    )


@dataclass(frozen=True)
class _Run:
    """What all steps share: the request, the original as data and alive, the checked splits, what judges it."""

    request: PruneRequest
    emit: Emit
    spec: Spec
    case: Case
    original: keras.Model
    description: DatasetDescription | None
    splits: dict[Split, Samples]
    objective: Objective | None

    @property
    def kind(self) -> Kind:
        return structures.of(self.spec.pruning.structure)

    @property
    def stages(self) -> list[Stage]:
        assert self.spec.recovery != "auto"
        return self.spec.recovery

    @property
    def out(self) -> Path:
        return Path(self.request.out)

    @cached_property
    def probes(self) -> list[Probe]:
        """Inputs to compare models on: validation samples, else training or test samples, else random ones."""
        samples = next((self.splits[name] for name in ("validation", "train", "test") if name in self.splits), None)
        return probe.probes(self.original, self.case.vocabularies, samples.inputs if samples else None, self.spec.seed)


def _load(request: PruneRequest, emit: Emit) -> _Run:
    _tell(emit, "load")
    archive = planning.read(request.model)
    original = live.build(archive.config, archive.arrays)
    description, splits = _data(request, original) if request.data is not None else (None, {})
    has_labels = description is not None and description.has_labels
    spec = resolve(planning.spec_of(request), list(splits), has_labels)
    _refuse_missing(spec, description)
    _tell(emit, "graph")
    case = planning.study(archive, spec.pruning)
    objective = None
    if has_labels:
        outputs = data.scored(original)
        judge = _typical(splits)
        activations = heads.observed(heads.activations(case.graph), some_outputs(original, judge))
        compiled = archive.config.get("compile_config")
        objective = objectives.resolve(spec.evaluation, compiled, outputs, activations, judge)
        for samples in splits.values():
            objectives.check(objective, outputs, samples)
    return _Run(request, emit, spec, case, original, description, splits, objective)


def _data(request: PruneRequest, model: keras.Model) -> tuple[DatasetDescription, dict[Split, Samples]]:
    """All splits that are there, each checked: bad data fail the job also where no stage would read them."""
    with data.opened(Path(request.data or ""), model) as dataset:
        return dataset.description, dataset.splits()


def _typical(splits: Mapping[Split, Samples]) -> Samples:
    """The split that the others are like."""
    return splits.get("validation") or splits.get("test") or splits["train"]


def _refuse_missing(spec: Spec, description: DatasetDescription | None) -> None:
    """Raises `DatasetRequired` or `DatasetMismatch` where a stage needs data that did not come."""
    stages = spec.recovery if spec.recovery != "auto" else []
    pruning = spec.pruning
    if description is None:
        if (part := needs_data(spec)) is not None:
            raise DatasetRequired(f"{part} needs a data set and the job names none")
        return
    labels = any(recover.needs_labels(stage) for stage in stages)
    if labels and not description.has_labels:
        raise DatasetMismatch("fine-tuning needs labels, the data have none (y_train, y_validation)")
    if pruning.needs_labels and not description.has_labels:
        raise DatasetMismatch(f"criterion {pruning.criterion.name} needs labels, the data have none (y_train)")
    if any(reads_data(stage) for stage in stages) or pruning.needs_samples:
        data.require(description, "train")
    if labels:
        data.require(description, "validation")


def _evidence(run: _Run) -> Evidence:
    """What the criterion needs to see; the weights alone where a plan has decided."""
    criterion = run.spec.pruning.criterion
    if not run.spec.pruning.needs_samples:
        return Evidence(run.case.archive.arrays)
    report = _reporter(run.emit, "score", "evidence")
    train = run.splits.get("train")
    if isinstance(criterion, OfBlocks):
        return collect_blocks.evidence(run.case, criterion, run.original, train, run.objective, run.spec.seed, report)
    return collect.evidence(run.case, criterion, train, run.objective, run.spec.seed, report)


def _verify(run: _Run, edited: Case, chosen: Decision, cut: Archive) -> Verification:
    """The proof of a cut; `edited`: what was cut, the original or with its arrays as repairs left them."""
    probes = run.probes
    if chosen.plan.structure == "weight":
        verify.unchanged(edited.archive.arrays, cut.arrays, chosen.masks)
        return Verification(passed=True, zeros_held=verify.zeros_held(cut.arrays, chosen.masks))
    tried = [*probes, *probe.probes(run.original, edited.vocabularies, None, run.spec.seed, like=probes[0])][:2]
    structure = verify.structure(edited, chosen.removed, tried, run.spec.seed, chosen.blocks)
    values = verify.delivered(edited, cut, chosen.removed, probes, chosen.blocks)
    return Verification(passed=True, structure=structure, delivered=values)


def _scorer(run: _Run, model: keras.Model) -> Callable[[Split], Scores] | None:
    """Scores of the model as it stands, on a split; compiled once. None without labels."""
    if run.objective is None:
        return None
    score = evaluator(model, run.objective, _typical(run.splits))
    return lambda split: score(run.splits[split], run.spec.evaluation.batch_size)


def _repair(
    run: _Run, chosen: Decision, cut: Archive, model: keras.Model, score: Callable[[Split], Scores] | None
) -> tuple[Case, Archive, list[StageReport]]:
    """The original with its arrays edited at full width by the stages that repair, and what is cut from it.

    `cut`, `model`: what is cut from the original as it came; the model follows the repairs.
    """
    edited, reports = run.case, []
    for stage in filter(recover.repairs, run.stages):
        whole = recover.Whole(
            case=run.case,
            original=run.original,
            removed=chosen.removed,
            arrays=edited.archive.arrays,
            train=run.splits.get("train"),
            report=_staged(run, stage),
            seed=run.spec.seed,
        )
        start = time.monotonic()
        arrays, history = recover.repair(stage, whole)
        edited = replace(edited, archive=archives.replace_arrays(edited.archive, arrays))
        cut = run.kind.cut(edited, chosen).archive
        live.assign(model, cut.arrays)
        reports.append(_reported(run, stage, score, time.monotonic() - start, history))
    return edited, cut, reports


def _recover(
    run: _Run, chosen: Decision, model: keras.Model, score: Callable[[Split], Scores] | None
) -> list[StageReport]:
    reports = []
    for stage in run.stages:
        if recover.repairs(stage):
            continue
        context = recover.Context(
            model=model,
            train=run.splits["train"],
            judge=_judge(run, score),
            objective=run.objective,
            report=_staged(run, stage),
            original=run.original,
            masks=chosen.masks,
            seed=run.spec.seed,
        )
        start = time.monotonic()
        history = recover.run(stage, context)
        reports.append(_reported(run, stage, score, time.monotonic() - start, history))
    return reports


def _judge(run: _Run, score: Callable[[Split], Scores] | None) -> Callable[[], Scores] | None:
    return partial(score, "validation") if score is not None and "validation" in run.splits else None


def _staged(run: _Run, stage: Stage) -> Report:
    number = next(at for at, other in enumerate(run.stages, 1) if other is stage)
    return _reporter(run.emit, "recover", f"{number}/{len(run.stages)} {stage.stage}")


def _reported(
    run: _Run, stage: Stage, score: Callable[[Split], Scores] | None, seconds: float, history: recover.History
) -> StageReport:
    judge = _judge(run, score)
    found = summary(judge()) if judge is not None else {}
    return StageReport(stage=stage.stage, seconds=round(seconds, 3), validation=found, history=history)


def _export(
    run: _Run, chosen: Decision, trained: Archive, model: keras.Model, proof: Verification
) -> tuple[Verification, keras.Model]:
    """Write every file that was asked for and the `.keras` file that the figures are about; load and compare each."""
    probes = run.probes
    files = [export.write(name, trained, run.out) for name in dict.fromkeys(["keras", *run.spec.exports])]
    checks = [verify.reloaded(model, loaded, probes) for _, loaded in files]
    path, delivered = files[0]
    held = verify.zeros_held(archives.read(path).arrays, chosen.masks) if chosen.masks else None
    worst = max(checks, key=lambda found: found.relative_difference)
    return proof.model_copy(update={"reloaded": worst, "zeros_held": held}), delivered


def _measure(run: _Run, trained: Case, delivered: keras.Model) -> MeasureReport:
    _tell(run.emit, "measure")
    source, result = Path(run.request.model), run.out / "pruned.keras"
    before = planning.figures(run.case, source.stat().st_size)
    after = planning.figures(trained, result.stat().st_size)
    latencies: list[list[LatencyFigure]] | list[None] = [None, None]
    if (how := run.spec.measures.latency) is not None:
        models, tell = [run.original, delivered], _reporter(run.emit, "measure", "latency")
        latencies = measure.latency(
            models, how, run.case.vocabularies, lambda done, of: tell(done, of, "batch sizes", {}), run.probes[0]
        )
    before, after = (
        figures.model_copy(update={"gzip_bytes": measure.gzip_bytes(path), "latency_ms": latency})
        for figures, path, latency in zip((before, after), (source, result), latencies, strict=True)
    )
    return planning.report(before, after, run.request.upload_bytes)


def _evaluate(
    run: _Run, pruned: Callable[[Split], Scores] | None, delivered: keras.Model
) -> tuple[RecoveryReport | None, list[Warning]]:
    """Original, pruned and delivered model on validation and test; no model is judged on the test split elsewhere."""
    if run.objective is None:
        return None, []
    scorers = {
        "original": _scorer(run, run.original),
        "pruned": pruned,
        "recovered": _scorer(run, delivered),
    }
    names: list[Split] = [name for name in ("validation", "test") if name in run.splits]
    tell = _reporter(run.emit, "evaluate", "models")
    found: dict[Split, dict[str, Scores]] = {split: {} for split in names}
    for number, (role, score) in enumerate(scorers.items()):
        for split in names:
            assert score is not None
            found[split][role] = score(split)
        tell(number + 1, len(scorers), "models", {})
    warnings = report.at_chance(run.objective, run.splits[names[0]], found[names[0]]["original"]) if names else []
    left_out = [Warning(code="metric_left_out", detail=detail) for detail in run.objective.left_out]
    return report.recovery(run.objective, found, run.spec.seed), [*left_out, *warnings]


def _announce(run: _Run, chosen: Decision) -> None:
    for name in dict.fromkeys(run.spec.exports):
        run.emit(Produced(kind="model", format=name, filename=f"pruned.{name}", path=f"pruned.{name}"))
    decided = {"plan": chosen.plan, "keep_map": run.kind.keep_map(run.case, chosen)}
    for kind, record in decided.items():
        if record is not None:
            (run.out / f"{kind}.json").write_text(record.model_dump_json(), encoding="utf-8")
            run.emit(Produced(kind=kind, format="json", filename=f"{kind}.json", path=f"{kind}.json"))


def _nearest(run: _Run, chosen: Decision) -> str:
    """The nearest model to a target out of reach, verified and written; its file name."""
    cut = run.kind.cut(run.case, chosen).archive
    _verify(run, run.case, chosen, cut)
    path, loaded = export.write("keras", cut, run.out, "nearest")
    verify.reloaded(live.build(cut.config, cut.arrays), loaded, run.probes)
    run.emit(Produced(kind="model", format="keras", filename=path.name, path=path.name))
    return path.name


def _tell(emit: Emit, phase: Phase) -> None:
    emit(Progress(phase=phase))


def _reporter(emit: Emit, phase: Phase, what: str) -> Report:
    def report_progress(completed: int, total: int, unit: str, detail: dict[str, float | int | str | None]) -> None:
        emit(Progress(phase=phase, completed=completed, total=total, unit=unit, detail={"what": what, **detail}))

    return report_progress
