"""The way of a run: load, graph, score, plan, surgery, verify, recover, export, measure, evaluate. The steps only."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import keras

from pruning import archive as archives
from pruning import measures, planning
from pruning.archive import Archive
from pruning.contract.dataset import SPLITS, Split
from pruning.contract.errors import DatasetMismatch, DatasetRequired, InfeasibleTarget
from pruning.contract.inspection import Inspection
from pruning.contract.progress import Line, Phase, Produced, Progress
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import (
    Check,
    LatencyFigure,
    MeasureReport,
    RecoveryReport,
    Result,
    StageReport,
    Verification,
    Warning,
)
from pruning.contract.spec import Spec, Stage, needs_data, resolve
from pruning.keras import data, describe, export, heads, live, measure, recover, report, verify
from pruning.keras import load as loading
from pruning.keras import objective as objectives
from pruning.keras.data import Dataset, Samples
from pruning.keras.evaluate import Scores, evaluator, some_outputs, summary
from pruning.keras.objective import Objective
from pruning.planning import Case, Decision
from pruning.selection import Infeasible

Emit: TypeAlias = Callable[[Line], None]


def inspect(request: InspectRequest, emit: Emit) -> Inspection:
    """Load an upload of any age, save it as `normalized.keras` (compile config, no optimizer state), describe it."""
    _tell(emit, "load")
    model = loading.load(Path(request.upload), request.architecture)
    path = Path(request.out, "normalized.keras")
    normalize(model, path)
    _tell(emit, "inspect")
    found = describe.inspection(planning.study(planning.read(path)), *data.ports(model))
    emit(Produced(kind="normalized", format="keras", filename=path.name, path=path.name))
    return found


def normalize(model: keras.Model, path: Path) -> None:
    """Save a model as our pinned Keras writes it, without optimizer state; equal models give equal bytes."""
    model.save(path)
    archive = planning.read(path)
    plain = path.with_suffix(".tmp")
    archives.write(plain, archive)
    plain.replace(path)


def prune(request: PruneRequest, emit: Emit) -> Result:
    """One pruning run. Raises `SecateurError`; nothing is announced by `emit` before it is verified.

    Where the target is out of reach the nearest model is cut, verified and written as `nearest.keras`, and
    `InfeasibleTarget` says the `floor`.
    """
    if request.spec.dry_run:
        _tell(emit, "plan")
        return planning.dry_run(request)
    with ExitStack() as stack:
        run = _load(request, emit, stack)
        _tell(emit, "score")
        scores = planning.score(run.case, run.spec)
        _tell(emit, "plan")
        try:
            chosen = planning.decide(run.case, scores, run.spec.pruning)
        except Infeasible as error:
            nearest = _nearest(run, planning.decision(run.case, error.plan, scores, run.spec.pruning))
            raise InfeasibleTarget(error.detail, floor=error.floor, nearest=nearest) from error
        _tell(emit, "surgery")
        cut = planning.cut(run.case, chosen)
        _tell(emit, "verify")
        proof = _verify(run, chosen, cut)
        model = live.build(cut.config, cut.arrays)
        stages = _recover(run, chosen, model)
        trained = archives.replace_arrays(cut, live.values(model, cut))
        _tell(emit, "export")
        proof, delivered, filenames = _export(run, chosen, trained, model, proof)
        measured = _measure(run, chosen, trained, delivered)
        live.assign(model, cut.arrays)
        recovery, warnings = _evaluate(run, model, delivered)
        _announce(run, chosen, filenames)
    before, after = measured.before, measured.after
    warnings = [
        *planning.foreseen(run.case, chosen, before, after),
        *(report.no_speed_up(before, after) if chosen.plan.structure == "channel" else []),
        *report.verification(proof),
        *(report.frozen(delivered) if any(recover.needs_labels(stage) for stage in run.stages) else []),
        *warnings,
    ]
    return Result(
        measures=measured,
        removed=planning.removed(run.case, chosen),
        layers=measures.layers(run.case.units, trained.arrays, chosen.removed, chosen.reasons or None),
        recovery=recovery,
        stages=stages,
        verification=proof,
        warnings=warnings,
        data=run.dataset.description.model_dump(mode="json") if run.dataset else None,
    )


@dataclass(frozen=True)
class _Run:
    """What all steps share: the request, the original as data and alive, the checked splits, what judges it."""

    request: PruneRequest
    emit: Emit
    spec: Spec
    case: Case
    original: keras.Model
    dataset: Dataset | None
    splits: dict[Split, Samples]
    objective: Objective | None

    @property
    def stages(self) -> list[Stage]:
        assert self.spec.recovery != "auto"
        return self.spec.recovery

    @property
    def out(self) -> Path:
        return Path(self.request.out)

    def probes(self) -> list[verify.Probe]:
        """Inputs to compare models on: validation samples, else training or test samples, else random ones."""
        samples = next((self.splits[name] for name in ("validation", "train", "test") if name in self.splits), None)
        return verify.probes(self.original, samples.inputs if samples else None, self.spec.seed)


def _load(request: PruneRequest, emit: Emit, stack: ExitStack) -> _Run:
    _tell(emit, "load")
    archive = planning.read(request.model)
    original = live.build(archive.config, archive.arrays)
    dataset = stack.enter_context(data.opened(Path(request.data), original)) if request.data is not None else None
    spec = resolve(
        request.spec, [name for name in SPLITS if dataset and dataset.has(name)], bool(dataset and dataset.has_labels)
    )
    if dataset is None and (part := needs_data(spec)) is not None:
        raise DatasetRequired(f"{part} needs a data set and the job names none")
    _tell(emit, "graph")
    case = planning.study(archive)
    splits = _splits(dataset, spec) if dataset else {}
    objective = None
    if splits and dataset and dataset.has_labels:
        compiled = archive.config.get("compile_config")
        outputs = data.ports(original)[1]
        judge = splits.get("validation") or splits.get("test") or next(iter(splits.values()))
        activations = heads.observed(heads.activations(case.graph), some_outputs(original, judge))
        objective = objectives.resolve(spec.evaluation, compiled, outputs, activations, judge)
        for samples in splits.values():
            objectives.check(objective, outputs, samples)
    return _Run(request, emit, spec, case, original, dataset, splits, objective)


def _splits(dataset: Dataset, spec: Spec) -> dict[Split, Samples]:
    """All splits that are there, each checked: bad data fail the job also where no stage would read them."""
    stages = spec.recovery if spec.recovery != "auto" else []
    needed: list[Split] = ["train"] if stages else []
    if any(recover.needs_labels(stage) for stage in stages):
        if not dataset.has_labels:
            raise DatasetMismatch("fine-tuning needs labels, the data have none (y_train, y_validation)")
        needed.append("validation")
    there: list[Split] = [name for name in SPLITS if dataset.has(name)]
    return {name: dataset.split(name) for name in dict.fromkeys([*needed, *there])}


def _verify(run: _Run, chosen: Decision, cut: Archive) -> Verification:
    case, probes = run.case, run.probes()
    if chosen.plan.structure == "weight":
        verify.unchanged(case.archive.arrays, cut.arrays, chosen.masks)
        return Verification(passed=True, zeros_held=verify.zeros_held(cut.arrays, chosen.masks))
    drawn = verify.probes(run.original, None, run.spec.seed)[:1]
    tried = [*probes[:1], *drawn]
    structure = verify.structure(case.archive, case.graph, case.units, chosen.removed, tried, run.spec.seed)
    values = verify.delivered(case.archive, cut, case.units, chosen.removed, probes)
    return Verification(passed=True, structure=structure, delivered=values)


def _recover(run: _Run, chosen: Decision, model: keras.Model) -> list[StageReport]:
    reports = []
    for number, stage in enumerate(run.stages):
        name = f"{number + 1}/{len(run.stages)} {stage.stage}"
        context = recover.Context(
            model=model,
            train=run.splits["train"],
            validation=run.splits.get("validation"),
            objective=run.objective,
            report=_reporter(run.emit, "recover", name),
            original=run.original,
            masks=chosen.masks,
            seed=run.spec.seed,
            eval_batch_size=run.spec.evaluation.batch_size,
        )
        start = time.monotonic()
        history = recover.run(stage, context)
        seconds = time.monotonic() - start
        found = {}
        if run.objective is not None and context.validation is not None:
            score = evaluator(model, run.objective, context.validation)
            found = summary(score(context.validation, context.eval_batch_size))
        reports.append(StageReport(stage=stage.stage, seconds=round(seconds, 3), validation=found, history=history))
    return reports


def _export(
    run: _Run, chosen: Decision, trained: Archive, model: keras.Model, proof: Verification
) -> tuple[Verification, keras.Model, list[str]]:
    """Write every file that was asked for and the `.keras` file that the figures are about; load and compare each."""
    probes, loaded, checks = run.probes(), list[keras.Model](), list[Check]()

    def check(file: keras.Model) -> None:
        checks.append(verify.reloaded(model, file, probes))
        loaded.append(file)

    names = [export.write(name, trained, run.out, check).name for name in dict.fromkeys(["keras", *run.spec.exports])]
    held = None
    if chosen.masks:
        held = verify.zeros_held(archives.read(run.out / names[0]).arrays, chosen.masks)
    worst = max(checks, key=lambda found: found.relative_difference)
    wanted = [f"pruned.{name}" for name in run.spec.exports]
    return proof.model_copy(update={"reloaded": worst, "zeros_held": held}), loaded[0], wanted


def _measure(run: _Run, chosen: Decision, trained: Archive, delivered: keras.Model) -> MeasureReport:
    _tell(run.emit, "measure")
    source, result = Path(run.request.model), run.out / "pruned.keras"
    after_case = planning.study(trained) if chosen.plan.structure == "channel" else replace(run.case, archive=trained)
    before = planning.figures(run.case, source.stat().st_size)
    after = planning.figures(after_case, result.stat().st_size)
    latencies: list[list[LatencyFigure]] | list[None] = [None, None]
    if (how := run.spec.measures.latency) is not None:
        tell = _reporter(run.emit, "measure", "latency")
        latencies = measure.latency(
            [run.original, delivered], how, lambda done, total: tell(done, total, "batch sizes", {})
        )
    before, after = (
        figures.model_copy(update={"gzip_bytes": measure.gzip_bytes(path), "latency_ms": latency})
        for figures, path, latency in zip((before, after), (source, result), latencies, strict=True)
    )
    return planning.report(before, after, run.request.upload_bytes)


def _evaluate(run: _Run, pruned: keras.Model, delivered: keras.Model) -> tuple[RecoveryReport | None, list[Warning]]:
    """Original, pruned and delivered model on validation and test; the test split is read here and nowhere else."""
    if run.objective is None:
        return None, []
    models = {"original": run.original, "pruned": pruned, "recovered": delivered}
    names: list[Split] = [name for name in ("validation", "test") if name in run.splits]
    tell = _reporter(run.emit, "evaluate", "models")
    found: dict[Split, dict[str, Scores]] = {split: {} for split in names}
    for number, (role, model) in enumerate(models.items()):
        if names:
            score = evaluator(model, run.objective, run.splits[names[0]])
            for split in names:
                found[split][role] = score(run.splits[split], run.spec.evaluation.batch_size)
        tell(number + 1, len(models), "models", {})
    warnings = report.at_chance(run.objective, run.splits[names[0]], found[names[0]]["original"]) if names else []
    left_out = [Warning(code="metric_left_out", detail=detail) for detail in run.objective.left_out]
    return report.recovery(run.objective, found, run.spec.seed), [*left_out, *warnings]


def _announce(run: _Run, chosen: Decision, filenames: list[str]) -> None:
    for filename in filenames:
        run.emit(Produced(kind="model", format=filename.rsplit(".", 1)[-1], filename=filename, path=filename))
    (run.out / "plan.json").write_text(chosen.plan.model_dump_json(), encoding="utf-8")
    run.emit(Produced(kind="plan", format="json", filename="plan.json", path="plan.json"))


def _nearest(run: _Run, chosen: Decision) -> str:
    """The nearest model to a target out of reach, verified and written; its file name."""
    cut = planning.cut(run.case, chosen)
    _verify(run, chosen, cut)
    model, probes = live.build(cut.config, cut.arrays), run.probes()
    path = export.write("keras", cut, run.out, lambda file: _discard(verify.reloaded(model, file, probes)), "nearest")
    run.emit(Produced(kind="model", format="keras", filename=path.name, path=path.name))
    return path.name


def _discard(_: Check) -> None:
    """A check that raises says all it has to say."""


def _tell(emit: Emit, phase: Phase) -> None:
    emit(Progress(phase=phase))


def _reporter(
    emit: Emit, phase: Phase, what: str
) -> Callable[[int, int, str, dict[str, float | int | str | None]], None]:
    def report_progress(completed: int, total: int, unit: str, detail: dict[str, float | int | str | None]) -> None:
        emit(Progress(phase=phase, completed=completed, total=total, unit=unit, detail={"what": what, **detail}))

    return report_progress
