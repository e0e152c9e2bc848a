"""What has to be done again and again: beat, sweep for lost rows and forgotten messages, remove what the dead left.

Two threads in every worker. One keeps house; the sweeps over shared things are done by the worker that holds a lease.
The other inspects uploads that found all of the worker's threads busy, so that no upload waits for a long job.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import delete, select, union

from app import db, folder_broker, queue, workers
from app.artifacts import repository as artifacts
from app.db import now
from app.jobs import states
from app.jobs.states import JOBS, MODELS, Kind, Moved
from app.settings import Settings
from app.storage import get_storage
from app.tables import Artifact, Dataset, IdempotencyKey, Job, Model
from worker import scratch
from worker.spawn import ZygoteGone
from worker.supervise import Supervisor, announce

MOST_ANNOUNCED = 100
_BLOBS_SECONDS = 600.0
_UPLOAD_WAITS_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class Maintenance:
    """The two threads; they end when the supervisor is stopping."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._blobs_at = 0.0
        self._announce_after = 0.0  # at the start: the messages may have died with the last worker
        self._threads = [
            threading.Thread(target=self._again, args=(settings.sweep_seconds, self.sweep), name="maintenance"),
            threading.Thread(target=self._again, args=(_UPLOAD_WAITS_SECONDS, self.inspect_waiting), name="inspector"),
        ]

    def start(self) -> None:
        """Start both threads; the first sweep is made at once."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for both, then take this worker's row and lease away."""
        for thread in self._threads:
            thread.join()
        with db.write() as session:
            workers.release(session, "maintenance", self._supervisor.worker_id)
            workers.forget(session, id=self._supervisor.worker_id)

    def sweep(self) -> None:
        """One round: this worker's own things, and if it leads, those that all share."""
        settings, me = self._settings, self._supervisor.worker_id
        _attempt(self._sweep_scratch)
        _attempt(self._probe)
        sandbox = self._supervisor.sandbox
        with db.write() as session:
            workers.beat(
                session,
                me,
                host=socket.gethostname(),
                pid=os.getpid(),
                queues=settings.queues,
                sandbox=sandbox.model_dump(mode="json", exclude={"type"}) if sandbox else None,
            )
            leads = workers.acquire(session, "maintenance", me, max(3 * settings.sweep_seconds, 10.0))
        if leads:
            _attempt(self._sweep_rows)
            _attempt(self._sweep_files)

    def inspect_waiting(self) -> None:
        """Inspect an upload that has waited for longer than a free thread would have let it wait."""
        while not self._supervisor.stopping.is_set():
            with db.read() as session:
                query = select(Model.id).where(
                    Model.state == "inspecting",
                    Model.token.is_(None),
                    Model.queue.in_(self._settings.queues),
                    Model.updated_at < now(-_UPLOAD_WAITS_SECONDS),
                )
                id = session.scalar(query.order_by(Model.id).limit(1))
            if id is None:
                return
            self._supervisor.inspect(id)

    def _sweep_scratch(self) -> None:
        scratch.sweep(self._settings.scratch_dir)

    def _probe(self) -> None:
        if self._supervisor.sandbox is None and self._supervisor.zygote.wait_ready(0):
            with suppress(ZygoteGone):
                self._supervisor.probe()

    def _sweep_rows(self) -> None:
        sweep_rows(self._settings, self._announce_after)
        self._announce_after = self._settings.republish_seconds

    def _sweep_files(self) -> None:
        settings = self._settings
        get_storage().sweep(settings.temporary_seconds)
        if settings.broker_dir.is_dir():
            folder_broker.sweep(settings.broker_dir)
        if time.monotonic() >= self._blobs_at:
            self._blobs_at = time.monotonic() + _BLOBS_SECONDS
            sweep_blobs(settings.temporary_seconds)

    def _again(self, seconds: float, action: Callable[[], None]) -> None:
        while True:
            _attempt(action)
            if self._supervisor.stopping.wait(seconds):
                return


def _attempt(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception:  # the database may be away, and nothing else need wait for it; the next round is soon
        _log.exception("maintenance_failed", action=action.__name__)


def sweep_rows(settings: Settings, announce_after: float) -> None:
    """Requeue rows whose lease ended, fail those that waited too long, announce what waits again, forget the old."""
    moved: list[tuple[Kind[Any], Moved]] = []
    with db.write() as session:
        # Keys before jobs, in the order in which a request locks them.
        session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < now(-settings.idempotency_seconds)))
        workers.forget(session, silent_seconds=settings.worker_seconds)
        moved += [(JOBS, it) for it in states.expire(session, JOBS, settings.max_attempts)]
        moved += [(MODELS, it) for it in states.expire(session, MODELS, settings.max_attempts)]
        states.overdue(session, JOBS)
    waiting = [(kind, it) for kind, it in moved if it.state == kind.names["waiting"]]
    for kind, it in waiting:
        announce(kind, it.id, it.queue)
    _announce_forgotten(announce_after)


def _announce_forgotten(announce_after: float) -> None:
    """Fill each queue of the broker up with rows that wait on it; a broker that does not answer is left for later."""
    kinds: tuple[Kind[Any], ...] = (MODELS, JOBS)
    with db.read() as session:
        names = {name for kind in kinds for name in states.waiting_queues(session, kind)}
    for name in sorted(names):
        if (depth := queue.depth(name)) is None:
            return
        for kind in kinds:
            room = MOST_ANNOUNCED - depth
            with db.write() as session:
                forgotten = states.stale(session, kind, announce_after, room, name) if room > 0 else []
            depth += len(forgotten)
            for it in forgotten:
                announce(kind, it.id, name)


def sweep_blobs(older_than: float) -> int:
    """Remove blobs that no row refers to: a process died between the file's rename and its row's commit. How many."""
    storage = get_storage()
    of_models = (Model.sha256, Model.architecture_sha256, Model.normalized_sha256)
    columns = (*of_models, Dataset.sha256, Artifact.sha256, Job.plan_sha256)
    before = time.time() - older_than
    old = []
    for sha256 in storage.blobs():
        with suppress(FileNotFoundError):
            if storage.path(sha256).stat().st_mtime < before:
                old.append(sha256)
    with db.read() as session:
        referred_to = set(session.scalars(union(*(select(column) for column in columns))))
    return artifacts.release(storage, [sha256 for sha256 in old if sha256 not in referred_to])
