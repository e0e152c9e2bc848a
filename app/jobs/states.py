"""How rows move: the transition table and every guarded update, for jobs and for the inspection of models alike.

The row is the truth, a message only a nudge. A move is one UPDATE whose WHERE names the state it starts from and, for
the holder of a row, its token; it matches or it does not, and that is the answer. Leases compare the database's clock.
Jobs write an event in the same transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from app.db import clock, now
from app.jobs import events
from app.tables import Job, Model
from pruning.contract.errors import QueueTimeLimit, WorkerLost

Stage = Literal["waiting", "running", "succeeded", "failed", "cancelled"]
Row = TypeVar("Row", Job, Model)


@dataclass(frozen=True)
class Kind(Generic[Row]):
    """A table whose rows are worked on: what its stages are called, and where outcomes are written."""

    table: type[Row]
    names: Mapping[Stage, str]
    result: str
    error: str

    def stage(self, state: str) -> Stage:
        """The stage that a finished state stands for."""
        return next(stage for stage, name in self.names.items() if name == state)


JOBS = Kind(
    Job,
    {"waiting": "queued", "running": "running", "succeeded": "succeeded", "failed": "failed", "cancelled": "cancelled"},
    result="result",
    error="error",
)
# A model is `inspecting` while it waits and while it is inspected: the token tells these apart.
MODELS = Kind(
    Model,
    {"waiting": "inspecting", "running": "inspecting", "succeeded": "ready", "failed": "rejected"},
    result="inspection",
    error="problem",
)

FINISHED = ("succeeded", "failed", "cancelled")


class Rule(NamedTuple):
    """From where, to where, and who may: anyone, the holder of the token, or whoever finds the time over."""

    source: Stage
    targets: tuple[Stage, ...]
    by: Literal["anyone", "holder", "clock"]


TRANSITIONS: dict[str, Rule] = {
    "claim": Rule("waiting", ("running",), "anyone"),
    "renew": Rule("running", ("running",), "holder"),
    "progress": Rule("running", ("running",), "holder"),
    "finish": Rule("running", ("succeeded", "failed", "cancelled"), "holder"),
    "give_back": Rule("running", ("waiting", "cancelled"), "holder"),
    "lose": Rule("running", ("waiting", "failed", "cancelled"), "holder"),
    "expire": Rule("running", ("waiting", "failed", "cancelled"), "clock"),
    "overdue": Rule("waiting", ("failed",), "clock"),
    "refuse": Rule("waiting", ("failed",), "anyone"),
    "cancel": Rule("waiting", ("cancelled",), "anyone"),
    "request_cancel": Rule("running", ("running",), "anyone"),
}


@dataclass(frozen=True)
class Claim(Generic[Row]):
    """A row that is ours until its lease ends. `attempt` counts from 1; `fence` grows with every claim."""

    id: str
    token: str
    attempt: int
    fence: int
    row: Row


@dataclass(frozen=True)
class Renewal:
    """The lease runs on; whether someone asked for the end."""

    cancel_requested: bool


@dataclass(frozen=True)
class Moved:
    """A row that the sweep moved, the state it is in now, and the queue to announce it on if it waits again."""

    id: str
    state: str
    queue: str


# --- what a worker does -------------------------------------------------------------------------------------------


def claim(session: Session, kind: Kind[Row], id: str, worker: str, lease_seconds: float) -> Claim[Row] | None:
    """Take a waiting row; None if it is not waiting, overdue, or a job whose model is still being inspected."""
    table = kind.table
    token = secrets.token_hex(16)
    in_time = or_(table.queue_deadline.is_(None), table.queue_deadline > now())
    matched = _move(
        session,
        kind,
        "claim",
        id,
        "running",
        [in_time, *_model_is_inspected(kind)],
        {
            "token": token,
            "worker": worker,
            "fence": table.fence + 1,
            "attempts": table.attempts + 1,
            "lease_until": now(lease_seconds),
            "started_at": now(),
        },
        detail={"worker": worker},
    )
    if not matched:
        return None
    row = session.get_one(table, id, populate_existing=True)
    return Claim(id, token, row.attempts, row.fence, row)


def renew(session: Session, kind: Kind[Row], id: str, token: str, lease_seconds: float) -> Renewal | None:
    """Extend the lease; None if the row is no longer ours: the work must stop."""
    table = kind.table
    query = (
        update(table)
        .where(table.id == id, *_at(kind, "running"), table.token == token)
        .values(lease_until=now(lease_seconds))
        .returning(table.cancel_requested)
        .execution_options(synchronize_session=False)
    )
    wanted = session.execute(query).scalar_one_or_none()
    return None if wanted is None else Renewal(wanted)


def progress(
    session: Session,
    id: str,
    token: str,
    phase: str,
    progress: dict[str, Any] | None,
    detail: dict[str, Any] | None = None,
) -> bool:
    """Record how far a job has come, and an event of it. The caller decides how often."""
    if not _update(session, JOBS, id, "running", [Job.token == token], {"phase": phase, "progress": progress}):
        return False
    events.append(session, id, "progress", "running", phase=phase, progress=progress, detail=detail)
    return True


def finish(
    session: Session,
    kind: Kind[Row],
    id: str,
    token: str,
    state: str,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    **columns: Any,
) -> bool:
    """End the work in `state` (a finished one of the kind). False: the row is no longer ours, store nothing.

    A model that is rejected fails the jobs that wait for it, with its code.
    """
    values = {kind.result: result, kind.error: error, **columns}
    matched = _move(session, kind, "finish", id, kind.stage(state), [kind.table.token == token], values, detail=error)
    if matched and kind is MODELS and error is not None:
        _refuse_jobs_of(session, id, error)
    return matched


def give_back(session: Session, kind: Kind[Row], id: str, token: str) -> bool:
    """Put the row back without counting the attempt; a job that was to be cancelled is cancelled instead."""
    table = kind.table
    mine = table.token == token
    detail = {"detail": "the worker is stopping"}
    uncounted = {"attempts": table.attempts - 1}
    if kind is JOBS and _move(
        session, kind, "give_back", id, "cancelled", [mine, table.cancel_requested.is_(True)], {}, detail=detail
    ):
        return True
    return _move(session, kind, "give_back", id, "waiting", [mine], uncounted, detail=detail)


def lose(
    session: Session, kind: Kind[Row], id: str, token: str, error: dict[str, Any], max_attempts: int
) -> Moved | None:
    """The attempt ended without an outcome (its process died): wait again, or fail after `max_attempts`."""
    return _lose(session, kind, "lose", id, kind.table.token == token, error, max_attempts)


# --- what the sweep does ------------------------------------------------------------------------------------------


def expire(session: Session, kind: Kind[Row], max_attempts: int, limit: int = 100) -> list[Moved]:
    """Rows whose lease is over (or was never set) wait again, or fail; each keeps the reason of every lost attempt."""
    over = _lease_is_over(kind)
    table = kind.table
    query = select(table.id).where(*_at(kind, "running"), over).order_by(table.lease_until).limit(limit)
    ids = session.scalars(query.with_for_update(skip_locked=True)).all()
    reason = WorkerLost("the worker was not heard of before its lease ended").body()
    moved = (_lose(session, kind, "expire", id, over, reason, max_attempts) for id in ids)
    return [move for move in moved if move is not None]


def overdue(session: Session, kind: Kind[Row], limit: int = 100) -> list[Moved]:
    """Rows that waited longer than their limit fail with `queue_time_limit`."""
    table = kind.table
    late = table.queue_deadline <= now()  # waiting rows alone have one, and its index finds them
    query = select(table.id, table.queue).where(late).limit(limit)
    error = QueueTimeLimit().body()
    return [
        Moved(id, kind.names["failed"], queue)
        for id, queue in session.execute(query.with_for_update(skip_locked=True)).all()
        if _move(session, kind, "overdue", id, "failed", [late], {kind.error: error}, detail=error)
    ]


def waiting_queues(session: Session, kind: Kind[Row]) -> list[str]:
    """The queues on which rows wait that may have to be announced again."""
    return list(session.scalars(select(kind.table.queue).where(kind.table.published_at.is_not(None)).distinct()))


def stale(
    session: Session, kind: Kind[Row], older_than_seconds: float, limit: int = 100, queue: str | None = None
) -> list[Moved]:
    """Waiting rows of a queue (None: of all) announced too long ago, longest first, marked as announced now.

    Publish them again. Pass as `limit` what is missing in the broker's queue, so that announcements of a long queue do
    not pile up there.
    """
    table = kind.table
    forgotten = table.published_at < now(-older_than_seconds)  # waiting rows alone have one, as above
    query = (
        select(table.id, table.queue)
        .where(forgotten, *([] if queue is None else [table.queue == queue]), *_model_is_inspected(kind))
        .order_by(table.published_at, table.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    found = session.execute(query).all()
    if found:
        mark = update(table).where(table.id.in_([id for id, _ in found])).values(published_at=now())
        session.execute(mark.execution_options(synchronize_session=False))
    return [Moved(id, kind.names["waiting"], queue) for id, queue in found]


# --- what a user does ---------------------------------------------------------------------------------------------


def request_cancel(session: Session, id: str) -> str | None:
    """Cancel a job: `cancelled` if it waited, `running` if its worker was told (now or before), None if it is over."""
    # The row is held, so that it cannot move between the two guarded updates.
    if session.scalar(select(Job.state).where(Job.id == id).with_for_update()) is None:
        return None
    if _move(session, JOBS, "cancel", id, "cancelled", [], {"cancel_requested": True}):
        return "cancelled"
    if _update(session, JOBS, id, "running", [Job.cancel_requested.is_(False)], {"cancel_requested": True}):
        events.append(session, id, "cancel_requested", "running")
        return "running"
    return session.scalar(select(Job.state).where(Job.id == id, Job.state == "running"))


# --- how it is done -----------------------------------------------------------------------------------------------


def _at(kind: Kind[Row], stage: Stage) -> list[ColumnElement[bool]]:
    """The condition that a row is at this stage."""
    conditions = [kind.table.state == kind.names[stage]]
    if kind.names["waiting"] == kind.names["running"]:
        free = kind.table.token.is_(None)
        conditions.append(free if stage == "waiting" else ~free)
    return conditions


def _lease_is_over(kind: Kind[Row]) -> ColumnElement[bool]:
    return or_(kind.table.lease_until.is_(None), kind.table.lease_until < now())


def _model_is_inspected(kind: Kind[Row]) -> list[ColumnElement[bool]]:
    """A job waits until its model is known to be ready or not."""
    if kind.table is not Job:
        return []
    return [~exists().where(Model.id == Job.model_id, Model.state == "inspecting")]


def _update(
    session: Session,
    kind: Kind[Row],
    id: str,
    source: Stage,
    guards: list[ColumnElement[bool]],
    values: Mapping[str, Any],
) -> bool:
    table = kind.table
    query = (
        update(table)
        .where(and_(table.id == id, *_at(kind, source), *guards))
        .values(version=table.version + 1, updated_at=now(), **values)
        .returning(table.id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(query).first() is not None


def _move(
    session: Session,
    kind: Kind[Row],
    transition: str,
    id: str,
    target: Stage,
    guards: list[ColumnElement[bool]],
    values: Mapping[str, Any],
    detail: dict[str, Any] | None = None,
) -> bool:
    rule = TRANSITIONS[transition]
    assert target in rule.targets, f"{transition} does not lead to {target}"
    state = kind.names[target]
    # What belongs to the stage that is left goes with it. A row that comes back was claimed in time: no deadline.
    left: dict[str, Any] = {"published_at": None, "queue_deadline": None}
    if target != "running":
        left |= {"token": None, "lease_until": None}
    if target == "waiting":
        left |= {"started_at": None, "published_at": now()}
        left |= {"phase": None, "progress": None} if kind is JOBS else {}
    if target in FINISHED:
        left |= {"finished_at": now()}
    if not _update(session, kind, id, rule.source, guards, {"state": state, **left, **values}):
        return False
    if kind is JOBS:
        events.append(session, id, "state", state, detail=detail)
    return True


def _lose(
    session: Session,
    kind: Kind[Row],
    transition: str,
    id: str,
    guard: ColumnElement[bool],
    reason: dict[str, Any],
    max_attempts: int,
) -> Moved | None:
    table = kind.table
    columns = (table.attempts, table.attempt_errors, table.worker, table.queue, table.cancel_requested)
    query = select(*columns).where(table.id == id, *_at(kind, "running"), guard)
    row: Any = session.execute(query.with_for_update()).one_or_none()
    if row is None:
        return None
    lost = {**reason, "attempt": row.attempts, "worker": row.worker, "at": clock(session).isoformat()}
    kept = [*row.attempt_errors, lost]
    values: dict[str, Any] = {"attempt_errors": kept}
    target: Stage = "waiting"
    if row.cancel_requested:
        target = "cancelled"
    elif row.attempts >= max_attempts:
        target = "failed"
        reasons = "; ".join(f"attempt {entry['attempt']}: {entry['detail']}" for entry in kept)
        values[kind.error] = WorkerLost(f"all {row.attempts} attempts were lost: {reasons}", attempts=kept).body()
    detail = values.get(kind.error, lost)
    if not _move(session, kind, transition, id, target, [guard], values, detail=detail):
        return None
    if kind is MODELS and target == "failed":
        _refuse_jobs_of(session, id, values[kind.error])
    return Moved(id, kind.names[target], row.queue)


def _refuse_jobs_of(session: Session, model_id: str, problem: dict[str, Any]) -> None:
    """Fail the jobs that wait for a model that was rejected, with the model's code."""
    waiting = select(Job.id).where(Job.model_id == model_id, *_at(JOBS, "waiting")).order_by(Job.id)
    for id in session.scalars(waiting.with_for_update()).all():
        _move(session, JOBS, "refuse", id, "failed", [], {"error": problem}, detail=problem)
