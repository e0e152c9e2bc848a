"""Rows of jobs: add, read, page, delete. How a job moves is in `app.jobs.states`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from app import ids, rows
from app.db import now
from app.jobs import events
from app.jobs.states import FINISHED, Moved
from app.paging import Filter, Page, page_of
from app.tables import Artifact, Job
from pruning.contract.errors import Conflict


def add(
    session: Session,
    *,
    model_id: str,
    dataset_id: str | None,
    spec: dict[str, Any],
    spec_resolved: dict[str, Any],
    run_seconds: float,
    queue_seconds: float,
    memory_bytes: int,
    queue: str,
    name: str | None = None,
    labels: dict[str, str] | None = None,
    plan_sha256: str | None = None,
) -> Job:
    """A new queued job with its first event. Lock the model's row before (`models.repository.get(..., lock=True)`)."""
    id = ids.new("job")
    job = Job(
        id=id,
        state="queued",
        model_id=model_id,
        dataset_id=dataset_id,
        spec=spec,
        spec_resolved=spec_resolved,
        run_seconds=run_seconds,
        memory_bytes=memory_bytes,
        queue=queue,
        name=name,
        labels=labels or {},
        plan_sha256=plan_sha256,
        created_at=ids.created_at(id),
        updated_at=now(),
        published_at=now(),
        queue_deadline=now(queue_seconds),
    )
    rows.add(session, job)
    events.append(session, id, "state", "queued")
    session.refresh(job)
    return job


def get(session: Session, id: str, *, lock: bool = False) -> Job:
    """The job as it is now. `lock`: keep it so until the transaction ends. Raises `NotFound`."""
    return rows.get(session, Job, id, "exclusive" if lock else None)


def version(session: Session, id: str) -> tuple[int, str]:
    """Version and state of the job, for ETag and long poll: one small read. Raises `NotFound`."""
    found = session.execute(select(Job.version, Job.state).where(Job.id == id)).one_or_none()
    if found is None:
        raise ids.not_found("job", id)
    return found.version, found.state


def page(session: Session, wanted: Filter) -> Page[Job]:
    """One page of jobs, newest first."""
    return page_of(session, Job, "job", wanted)


def waiting_for(session: Session, model_id: str) -> list[Moved]:
    """The queued jobs of a model: what to announce once it has been inspected."""
    query = select(Job.id, Job.state, Job.queue).where(Job.model_id == model_id, Job.state == "queued")
    return [Moved(*row) for row in session.execute(query.order_by(Job.id)).all()]


def unfinished(session: Session, *, model_id: str | None = None, dataset_id: str | None = None) -> bool:
    """Whether a queued or running job needs this model or this data set."""
    needs = Job.model_id == model_id if model_id is not None else Job.dataset_id == dataset_id
    return bool(session.scalar(select(exists().where(needs, Job.state.in_(("queued", "running"))))))


def delete(session: Session, id: str) -> Sequence[str]:
    """Remove a finished job with its events and artifacts; the SHA-256 of blobs to release after the commit.

    Raises `NotFound`, and `Conflict` for a job that is not finished.
    """
    job = get(session, id, lock=True)
    if job.state not in FINISHED:
        raise Conflict(f"job {id} is {job.state}: cancel it first")
    blobs = session.scalars(select(Artifact.sha256).where(Artifact.job_id == id).distinct()).all()
    rows.remove(session, job)
    return [*blobs, job.plan_sha256] if job.plan_sha256 is not None else blobs
