"""What happened to a job, append-only: each event is written in the transaction that made it true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.db import now
from app.tables import Event

EventType = Literal["state", "progress", "cancel_requested", "warning"]


def append(
    session: Session,
    job_id: str,
    type: EventType,
    state: str,
    *,
    phase: str | None = None,
    progress: dict[str, Any] | None = None,
    detail: dict[str, Any] | None = None,
) -> None:
    """Add one event. Touch the job's row first in the same transaction: its lock puts the events in order."""
    session.execute(
        insert(Event).values(
            job_id=job_id, at=now(), type=type, state=state, phase=phase, progress=progress, detail=detail
        )
    )


def page(session: Session, job_id: str, *, after: int = 0, limit: int = 50) -> Sequence[Event]:
    """Up to `limit` events of the job with an id above `after`, oldest first."""
    query = select(Event).where(Event.job_id == job_id, Event.id > after).order_by(Event.id).limit(limit)
    return session.scalars(query).all()
