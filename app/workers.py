"""Which workers are alive (a heartbeat row each), and named leases that one process holds at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db import now
from app.tables import Lock, Worker


def beat(
    session: Session, id: str, *, host: str, pid: int, queues: Sequence[str], sandbox: dict[str, Any] | None
) -> None:
    """Say that this worker is alive."""
    seen = update(Worker).where(Worker.id == id).values(seen_at=now(), sandbox=sandbox, queues=list(queues))
    if session.execute(seen.returning(Worker.id)).first() is None:
        session.add(
            Worker(id=id, host=host, pid=pid, queues=list(queues), sandbox=sandbox, started_at=now(), seen_at=now())
        )
        session.flush()


def alive(session: Session, seconds: float) -> Sequence[Worker]:
    """The workers heard of in the last `seconds`."""
    return session.scalars(select(Worker).where(Worker.seen_at > now(-seconds)).order_by(Worker.id)).all()


def forget(session: Session, *, id: str | None = None, silent_seconds: float | None = None) -> None:
    """Remove the row of a worker that ends, or of those not heard of for so long."""
    if id is not None:
        session.execute(delete(Worker).where(Worker.id == id))
    if silent_seconds is not None:
        session.execute(delete(Worker).where(Worker.seen_at < now(-silent_seconds)))


def acquire(session: Session, name: str, holder: str, seconds: float) -> bool:
    """Take or extend a named lease; False while another holds it."""
    free = or_(Lock.holder == holder, Lock.until < now())
    taken = update(Lock).where(Lock.name == name, free).values(holder=holder, until=now(seconds)).returning(Lock.name)
    if session.execute(taken.execution_options(synchronize_session=False)).first() is not None:
        return True
    if session.scalar(select(Lock.name).where(Lock.name == name)) is not None:
        return False
    try:
        with session.begin_nested():
            session.add(Lock(name=name, holder=holder, until=now(seconds)))
    except IntegrityError:
        return False
    return True


def release(session: Session, name: str, holder: str) -> None:
    """Let go of a named lease, if it is ours."""
    session.execute(delete(Lock).where(Lock.name == name, Lock.holder == holder))
