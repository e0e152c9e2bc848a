"""How a job comes in: what the request alone, the data set's arrays and a known inspection show wrong is refused here.

What only the engine can see fails the job later, with the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy.orm import Session

from app import queue
from app.artifacts import repository as artifacts
from app.datasets import repository as datasets
from app.http.body import validated
from app.http.idempotency import Answer, Key, digest, once
from app.jobs import repository, states
from app.jobs.schemas import BESIDE_SPEC, JobCreate, view
from app.models import repository as models
from app.settings import get_settings
from app.tables import Dataset, Job, Model
from pruning.contract.dataset import DatasetDescription
from pruning.contract.errors import (
    Conflict,
    ContradictorySpec,
    DatasetMismatch,
    DatasetRequired,
    DigestMismatch,
    FieldError,
    InvalidSpec,
    LayerNotFound,
    SecateurError,
    TargetOutOfRange,
    from_body,
)
from pruning.contract.spec import LayerRule, PlanTarget, Spec, needs_data, reads_data, resolve

# Parts of a spec that are one of several methods: another method takes none of the former one's parameters.
_METHODS = ("criterion", "target", "schedule")
# Of a target of one type: what goes when this field is laid over it.
_DISPLACED = {
    "at_most": {"at_most_ratio"},
    "at_most_ratio": {"at_most"},
    "plan": {"plan", "artifact_id", "sha256"},
    "artifact_id": {"plan", "sha256"},
}
_PLAN = "pruning.target.artifact_id"


def create(document: Any, key: Key | None) -> Answer:
    """A new queued job. Raises the contract's error for what is wrong with it."""
    wanted = validated(JobCreate, document)

    def work(session: Session) -> Answer:
        return _add(session, wanted, document)

    return _announced(once(key, digest(document), work))


def clone(id: str, overrides: Any, key: Key | None) -> Answer:
    """A new job with the body of another, changed where `overrides` says so."""

    def work(session: Session) -> Answer:
        job = repository.get(session, id)
        document = merged(_document(job), overrides)
        return _add(session, validated(JobCreate, document), document)

    return _announced(once(key, digest(id, overrides), work))


def cancel(id: str, key: Key | None) -> Answer:
    """Ask for a job's end; again is the same. Raises `Conflict` for a job that ended in another way."""

    def work(session: Session) -> Answer:
        found = states.request_cancel(session, id)
        job = repository.get(session, id)
        if found is None and job.state != "cancelled":
            raise Conflict(f"job {id} is {job.state} already")
        return Answer(202, view(job), f"/v1/jobs/{id}")

    return once(key, digest(id), work)


def merged(base: dict[str, Any], overrides: Any) -> Any:
    """`base` with `overrides` laid over it: objects are merged, all else, and another method, replaces what was."""
    if not isinstance(overrides, dict):
        return overrides
    made = dict(base)
    for name, value in overrides.items():
        old = base.get(name)
        if name == "target" and isinstance(old, dict) and isinstance(value, dict):
            old = _without_displaced(old, value)
        keep = isinstance(old, dict) and isinstance(value, dict) and not (name in _METHODS and _differ(old, value))
        made[name] = merged(old, value) if keep and old is not None else value
    return made


def _differ(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return any(tag in new and new[tag] != old.get(tag) for tag in ("name", "type"))


def _without_displaced(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    gone = {field for name, value in new.items() if value is not None for field in _DISPLACED.get(name, ())}
    return {name: value for name, value in old.items() if name not in gone}


def _document(job: Job) -> dict[str, Any]:
    """The body that would make this job again."""
    return {**job.spec, "model_id": job.model_id, "dataset_id": job.dataset_id, "name": job.name, "labels": job.labels}


def _add(session: Session, wanted: JobCreate, document: dict[str, Any]) -> Answer:
    model, dataset = _model(session, wanted), _dataset(session, wanted)
    given = Spec.model_validate({name: getattr(wanted, name) for name in Spec.model_fields})
    spec = _resolved(given, dataset)
    _check_model(spec, model)
    resolved = spec.model_dump(mode="json") | {"limits": wanted.limits.model_dump(mode="json")}
    if (plan := _plan(session, spec)) is not None:
        resolved["pruning"]["target"]["sha256"] = plan
    job = repository.add(
        session,
        model_id=model.id,
        dataset_id=dataset.id if dataset else None,
        spec={name: value for name, value in document.items() if name not in BESIDE_SPEC},
        spec_resolved=resolved,
        plan_sha256=plan,
        run_seconds=wanted.limits.run_seconds,
        queue_seconds=wanted.limits.queue_seconds,
        memory_bytes=wanted.limits.memory_bytes,
        queue=get_settings().default_queue,
        name=wanted.name,
        labels=wanted.labels,
    )
    return Answer(202, view(job), f"/v1/jobs/{job.id}")


def _announced(answer: Answer) -> Answer:
    if not answer.replayed:
        queue.enqueue_job(answer.body["id"], get_settings().default_queue)
    return answer


def _model(session: Session, wanted: JobCreate) -> Model:
    model = models.get(session, wanted.model_id, lock=True, field="model_id")
    if model.problem is not None:
        raise _refusal(model.problem)
    return model


def _refusal(problem: dict[str, Any]) -> SecateurError:
    """The error that a model was rejected with, as the answer to a request."""
    error = from_body(problem)
    error.detail = f"the model was rejected: {error.detail}"
    error.status = 422
    return error


def _dataset(session: Session, wanted: JobCreate) -> Dataset | None:
    if wanted.dataset_id is None:
        return None
    return datasets.get(session, wanted.dataset_id, lock=True, field="dataset_id")


def _plan(session: Session, spec: Spec) -> str | None:
    """The digest of the plan that the target names by its artifact; its file stays until the transaction ends.

    Raises `NotFound`, `InvalidSpec` for an artifact that is no plan, `ContradictorySpec` for a plan of another
    structure, `DigestMismatch`.
    """
    target = spec.pruning.target
    if not isinstance(target, PlanTarget) or target.artifact_id is None:
        return None
    artifact = artifacts.get(session, target.artifact_id, lock=True, field=_PLAN)
    if artifact.kind != "plan":
        detail = f"artifact {artifact.id} is a {artifact.kind}, not a plan"
        raise InvalidSpec(detail, errors=[FieldError(path=_PLAN, code="invalid_spec", detail=detail)])
    structure = repository.get(session, artifact.job_id).spec_resolved["pruning"]["structure"]
    if structure != spec.pruning.structure:
        detail = f"the plan has structure {structure}, the spec {spec.pruning.structure}: give the plan's"
        raise ContradictorySpec(detail, errors=[FieldError(path=_PLAN, code="contradictory_spec", detail=detail)])
    if target.sha256 not in (None, artifact.sha256):
        raise DigestMismatch(f"the target names the plan {target.sha256!r}, artifact {artifact.id} has another digest")
    return artifact.sha256


def _resolved(spec: Spec, dataset: Dataset | None) -> Spec:
    """The spec with its recovery spelled out. Raises `DatasetRequired`, `DatasetMismatch`."""
    if dataset is None:
        if (what := needs_data(spec)) is not None:
            detail = f"{what} needs data: give a dataset_id"
            place = FieldError(path="dataset_id", code="dataset_required", detail=detail)
            raise DatasetRequired(detail, errors=[place])
        return resolve(spec, (), has_labels=False)
    data = DatasetDescription.model_validate(dataset.description)
    trainable = data.splits.get("train", 0) > 0
    labelled = trainable and data.has_labels and data.splits.get("validation", 0) > 0
    made = resolve(spec, [name for name, size in data.splits.items() if size], data.has_labels)
    for index, stage in enumerate(made.recovery if made.recovery != "auto" else ()):
        path = f"recovery.{index}"
        if stage.stage == "fine_tune" and not labelled:
            raise _lacks(path, f"stage {stage.stage}", "x_train, y_train, x_validation and y_validation", data)
        if reads_data(stage) and not trainable:
            raise _lacks(path, f"stage {stage.stage}", "x_train", data)
    pruning = made.pruning
    if pruning.needs_labels and not (trainable and data.has_labels):
        raise _lacks("pruning.criterion", f"criterion {pruning.criterion.name}", "x_train and y_train", data)
    if pruning.needs_samples and not trainable:
        raise _lacks("pruning.criterion", f"criterion {pruning.criterion.name}", "x_train", data)
    return made


def _lacks(path: str, part: str, needed: str, data: DatasetDescription) -> DatasetMismatch:
    there = ", ".join(f"{name} ({size})" for name, size in data.splits.items() if size)
    detail = f"{part} needs {needed}; the data have {there}, {'with' if data.has_labels else 'without'} labels"
    return DatasetMismatch(detail, errors=[FieldError(path=path, code="dataset_mismatch", detail=detail)])


def _check_model(spec: Spec, model: Model) -> None:
    """What a known inspection shows wrong. Raises `LayerNotFound`, `TargetOutOfRange`, `ContradictorySpec`."""
    if model.inspection is None or not spec.pruning.layers:
        return
    counted = "heads" if spec.pruning.structure == "head" else "width"
    widths = {layer["name"]: layer.get(counted) for layer in model.inspection["layers"]}
    for key, rule in spec.pruning.layers.items():
        found = [key] if key in widths else [name for name in widths if fnmatchcase(name, key)]
        if not found:
            detail = f"{key!r} matches no layer of the model; it has {', '.join(list(widths)[:8])}, ..."
            raise LayerNotFound(detail, errors=[_at(key, "layer_not_found", detail)])
        known = [width for name in found if (width := widths[name]) is not None]
        if known and spec.pruning.structure != "weight":
            _check_indices(key, rule, max(known))


def _check_indices(key: str, rule: LayerRule, width: int) -> None:
    """`width`: that of the widest layer that the key matches; of a pattern's layers the engine binds some alone."""
    beyond = sorted(index for index in (*rule.indices, *(rule.keep or ())) if index >= width)
    if beyond:
        detail = f"{key!r} names index {beyond[0]}, which is beyond its {width} units: 0 to {width - 1}"
        raise TargetOutOfRange(detail, errors=[_at(key, "target_out_of_range", detail)])
    if len(set(rule.indices)) >= width > 0:
        detail = f"{key!r} removes all {width} units"
        raise ContradictorySpec(detail, errors=[_at(key, "contradictory_spec", detail)])


def _at(key: str, code: str, detail: str) -> FieldError:
    return FieldError(path=f"pruning.layers.{key}", code=code, detail=detail)
