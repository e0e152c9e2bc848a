"""Holding a claimed row while its child works: the lease, the wish to cancel, the progress that readers see."""

from __future__ import annotations

import threading
import time
from typing import Generic

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app import db
from app.jobs import states
from app.jobs.states import JOBS, Claim, Kind, Row
from app.tables import Job
from pruning.contract.progress import Progress, Sandboxed
from worker.watch import Stop

LOOK_SECONDS = 0.5
PROGRESS_SECONDS = 0.3
_log = structlog.get_logger(__name__)


class Lease(Generic[Row]):
    """One claim. `check` and `on_news` are what `watch` calls."""

    def __init__(self, kind: Kind[Row], claim: Claim[Row], lease_seconds: float, stopping: threading.Event) -> None:
        self._kind: Kind[Row] = kind
        self._claim: Claim[Row] = claim
        self._seconds = lease_seconds
        self._stopping = stopping
        now = time.monotonic()
        self._ends = now + lease_seconds
        self._renew_at = now + lease_seconds / 3
        self._look_at = now + LOOK_SECONDS
        self._news: Progress | None = None
        self._last: Progress | None = None
        self._written = ""
        self._write_at = now

    def check(self) -> Stop | None:
        """Renew the lease when a third of it is over; why the child has to end, if it has to."""
        if self._stopping.is_set():
            return Stop("shutdown")
        now = time.monotonic()
        try:
            if now >= self._renew_at:
                return self._renew(now)
            if self._kind is JOBS and now >= self._look_at:
                self._look_at = now + LOOK_SECONDS
                if self._cancel_requested():
                    return Stop("cancelled")
            if self._news is not None and now >= self._write_at:
                self._write(self._news)
        except SQLAlchemyError as error:
            # The database may come back while the lease lasts; after that the row may be another's.
            _log.warning("database_unreachable", id=self._claim.id, error=type(error).__name__)
            self._renew_at = now + min(1.0, self._seconds / 3)
        return Stop("lease_lost") if time.monotonic() >= self._ends else None

    def on_news(self, line: Progress | Sandboxed) -> None:
        """Keep the newest progress; `check` writes it, a few times a second."""
        if isinstance(line, Progress) and self._kind is JOBS:
            self._news = self._last = line
            if line.phase != self._written:
                self._write_at = 0.0

    def complete(self) -> None:
        """The child is done: a whole lease for what is left to store, and its last phase told as finished."""
        try:
            with db.write() as session:
                states.renew(session, self._kind, self._claim.id, self._claim.token, self._seconds)
                if self._last is not None:
                    self._record(session, self._last.model_copy(update={"completed": self._last.total}))
        except SQLAlchemyError as error:  # storing the result will tell whether the row is still ours
            _log.warning("database_unreachable", id=self._claim.id, error=type(error).__name__)

    def _renew(self, now: float) -> Stop | None:
        with db.write() as session:
            renewal = states.renew(session, self._kind, self._claim.id, self._claim.token, self._seconds)
        if renewal is None:
            return Stop("lease_lost")
        self._ends, self._renew_at = now + self._seconds, now + self._seconds / 3
        return Stop("cancelled") if renewal.cancel_requested else None

    def _cancel_requested(self) -> bool:
        with db.read() as session:
            return bool(session.scalar(select(Job.cancel_requested).where(Job.id == self._claim.id)))

    def _write(self, news: Progress) -> None:
        self._news, self._written = None, news.phase
        self._write_at = time.monotonic() + PROGRESS_SECONDS
        with db.write() as session:
            self._record(session, news)

    def _record(self, session: Session, news: Progress) -> None:
        figures = {"completed": news.completed, "total": news.total, "unit": news.unit}
        states.progress(session, self._claim.id, self._claim.token, news.phase, figures, news.detail or None)
