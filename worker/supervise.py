"""One job or one inspection from its claim to its end. The child computes; all that is written is written here."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import structlog
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import db, ids, queue
from app.artifacts import repository as artifacts
from app.datasets import repository as datasets
from app.jobs import repository as jobs
from app.jobs import states
from app.jobs.states import JOBS, MODELS, Claim, Kind, Moved, Row
from app.models import repository as models
from app.settings import Settings
from app.storage import Staged, get_storage
from app.tables import Job, Model
from pruning.contract.errors import InvalidSpec, SecateurError, WorkerLost
from pruning.contract.errors_from_validation import from_validation
from pruning.contract.progress import Failed, Inspected, Produced, Progress, Pruned, Sandboxed
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.spec import Spec
from worker import outcome
from worker.lease import Lease
from worker.outcome import Outcome
from worker.pipe import Order
from worker.scratch import BadFile, JobFolder, Scratch
from worker.spawn import Zygote, ZygoteGone
from worker.watch import Ending, Final, watch

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Task:
    """What a child is asked for, what it may take, and the kind of last line that is its result."""

    request: PruneRequest | InspectRequest
    readable: tuple[str, ...]
    run_seconds: float
    memory_bytes: int
    wanted: type[Final]


@dataclass(frozen=True)
class Stored:
    """A file of the child that waits, hashed and on the disk, for the transaction that makes it an artifact."""

    id: str
    produced: Produced
    staged: Staged


class Supervisor:
    """Runs jobs and inspections, one a thread; `stopping` ends them all. Close it when no thread uses it any more."""

    def __init__(self, settings: Settings, zygote_module: str = "worker.zygote") -> None:
        self.worker_id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.stopping = threading.Event()
        self.sandbox: Sandboxed | None = None
        self._settings = settings
        self._scratch = Scratch(settings.scratch_dir)
        self.zygote = Zygote(self._scratch.path / "zygote", zygote_module)

    def start(self) -> None:
        """Start the zygote; returns at once."""
        self.zygote.start()

    def close(self) -> None:
        """End the zygote and remove the scratch folder."""
        self.zygote.stop()
        self._scratch.close()

    def run(self, job_id: str) -> None:
        """Run a queued job to its end; nothing happens if it is not to be had."""
        self._work(JOBS, job_id, self._job_task)

    def inspect(self, model_id: str) -> None:
        """Inspect an uploaded model; the jobs that wait for it are announced when it is ready."""
        self._work(MODELS, model_id, self._model_task)

    def probe(self) -> None:
        """Learn the level of isolation that children reach, from one that is asked for nothing."""
        with self._scratch.folder() as folder:
            child = self.zygote.spawn(Order(scratch=str(folder.path), readable=(), memory_bytes=2**30), b"null")
            try:
                watch(child, run_seconds=60, memory_bytes=2**30, on_news=self._note, check=lambda: None)
            finally:
                child.close()

    def _note(self, line: Progress | Sandboxed) -> None:
        if isinstance(line, Sandboxed):
            self.sandbox = line

    def _work(self, kind: Kind[Row], id: str, make_task: Callable[[Claim[Row], JobFolder], Task]) -> None:
        # A claim counts as an attempt: none is made before there is a process to run it.
        while not self.zygote.wait_ready(0.5) and not self.stopping.is_set():
            continue
        if self.stopping.is_set():
            return
        with db.write() as session:
            claim = states.claim(session, kind, id, self.worker_id, self._settings.lease_seconds)
        if claim is None:
            return
        with self._scratch.folder() as folder:
            try:
                task = make_task(claim, folder)
                ending = self._follow(kind, claim, task, folder)
                self._settle(kind, claim, outcome.judge(ending, task.wanted), ending, folder)
            except SecateurError as error:
                self._settle(kind, claim, outcome.failed(error), Ending(), folder)
            except ZygoteGone as error:
                self._settle(kind, claim, Outcome("lose", error=WorkerLost(str(error)).body()), Ending(), folder)
            except Exception as error:  # ours; the attempt is lost, and its reason must not be
                _log.exception("supervisor_failed", id=id)
                reason = WorkerLost(f"the supervisor met {type(error).__name__}").body()
                self._settle(kind, claim, Outcome("lose", error=reason), Ending(), folder)

    def _follow(self, kind: Kind[Row], claim: Claim[Row], task: Task, folder: JobFolder) -> Ending:
        lease = Lease(kind, claim, self._settings.lease_seconds, self.stopping)
        order = Order(scratch=str(folder.path), readable=task.readable, memory_bytes=task.memory_bytes)

        def on_news(line: Progress | Sandboxed) -> None:
            self._note(line)
            lease.on_news(line)

        child = self.zygote.spawn(order, task.request.model_dump_json().encode())
        try:
            ending = watch(
                child,
                run_seconds=task.run_seconds,
                memory_bytes=task.memory_bytes,
                on_news=on_news,
                check=lease.check,
            )
        finally:
            child.close()
        if ending.complete and not isinstance(ending.final, Failed):
            lease.complete()
        if ending.stop is not None:
            _log.info("child_stopped", id=claim.id, reason=ending.stop.reason, detail=ending.stop.detail)
        elif ending.status != 0:
            _log.warning("child_failed", id=claim.id, status=ending.status, output=ending.output)
        return ending

    def _job_task(self, claim: Claim[Job], folder: JobFolder) -> Task:
        job = claim.row
        with db.read() as session:
            model = models.get(session, job.model_id)
            dataset = datasets.get(session, job.dataset_id) if job.dataset_id else None
        if model.normalized_sha256 is None:
            raise SecateurError("the model of this job was never saved by this service's Keras")
        storage = get_storage()
        readable = [storage.path(model.normalized_sha256)]
        data = None
        if dataset is not None:
            readable.append(storage.path(dataset.sha256))
            data = str(folder.link("data.npz", readable[-1]))
        plan = None
        if job.plan_sha256 is not None:
            readable.append(storage.path(job.plan_sha256))
            plan = str(folder.link("plan.json", readable[-1]))
        request = PruneRequest(
            model=str(folder.link("model.keras", readable[0])),
            data=data,
            plan=plan,
            out=str(folder.out),
            spec=_spec(job.spec_resolved),
            upload_bytes=model.size_bytes,
        )
        return Task(request, tuple(map(str, readable)), job.run_seconds, job.memory_bytes, Pruned)

    def _model_task(self, claim: Claim[Model], folder: JobFolder) -> Task:
        model = claim.row
        storage = get_storage()
        stored = storage.path(model.sha256)
        architecture = None
        if model.architecture_sha256 is not None:
            with storage.open(model.architecture_sha256) as file:
                architecture = json.dumps(json.loads(file.read()))  # UTF-16 and byte order marks are JSON too
        request = InspectRequest(
            upload=str(folder.link(f"upload.{model.format}", stored)),
            format=cast(Any, model.format),
            architecture=architecture,
            out=str(folder.out),
        )
        settings = self._settings
        return Task(request, (str(stored),), settings.inspect_seconds, settings.inspect_memory_bytes, Inspected)

    def _settle(self, kind: Kind[Row], claim: Claim[Row], end: Outcome, ending: Ending, folder: JobFolder) -> None:
        """Write the outcome; a database that is away is tried for one lease, then the row is the sweep's.

        Raises nothing of `db.UNREACHABLE`: an outcome that could not be written must not be followed by another.
        """
        last = time.monotonic() + self._settings.lease_seconds
        while True:
            try:
                self._write(kind, claim, end, ending, folder)
                return
            except db.UNREACHABLE:
                if time.monotonic() >= last:
                    _log.exception("outcome_not_written", id=claim.id)
                    return
                _log.warning("database_unreachable", id=claim.id)
                time.sleep(1.0)

    def _write(self, kind: Kind[Row], claim: Claim[Row], end: Outcome, ending: Ending, folder: JobFolder) -> None:
        if end.act == "drop":
            return
        if end.act == "finish":
            self._finish(kind, claim, end, ending, folder)
            return
        with db.write() as session:
            if end.act == "give_back":
                waits = states.give_back(session, kind, claim.id, claim.token)
            else:
                error = end.error or WorkerLost().body()
                moved = states.lose(session, kind, claim.id, claim.token, error, self._settings.max_attempts)
                waits = moved is not None and moved.state == kind.names["waiting"]
        if waits:
            announce(kind, claim.id, claim.row.queue)

    def _finish(self, kind: Kind[Row], claim: Claim[Row], end: Outcome, ending: Ending, folder: JobFolder) -> None:
        with ExitStack() as staged_files:
            try:
                stored = (
                    [] if end.state == "cancelled" else [_stage(it, folder, staged_files) for it in ending.produced]
                )
            except (SecateurError, BadFile) as error:
                known = error if isinstance(error, SecateurError) else SecateurError(f"the engine left {error}")
                end, stored = outcome.failed(known), []
            waiting: list[Moved] = []
            with db.write() as session:
                if kind is JOBS:
                    _finish_job(session, claim, end, ending, stored)
                else:
                    waiting = _finish_model(session, claim, end, ending, stored)
        for job in waiting:
            announce(JOBS, job.id, job.queue)


def announce(kind: Kind[Any], id: str, name: str) -> None:
    """Tell the workers that a row waits."""
    if kind is JOBS:
        queue.enqueue_job(id, name)
    else:
        queue.enqueue_model(id, name)


def _spec(stored: dict[str, Any]) -> Spec:
    """The spec of a job's row. Raises `InvalidSpec` for one that an earlier version took and this one does not."""
    try:
        return Spec.model_validate({name: stored[name] for name in Spec.model_fields if name in stored})
    except ValidationError as error:
        detail = from_validation(error).detail
        raise InvalidSpec(f"the job was asked for in an earlier version, send it anew: {detail}") from error


def _stage(produced: Produced, folder: JobFolder, staged_files: ExitStack) -> Stored:
    with folder.open(produced.path) as source:
        staged = staged_files.enter_context(get_storage().create())
        while chunk := source.read(2**20):
            staged.write(chunk)
    staged.flush()
    return Stored(ids.new("art"), produced, staged)


def _finish_job(session: Session, claim: Claim[Any], end: Outcome, ending: Ending, stored: list[Stored]) -> None:
    if session.scalar(select(Job.cancel_requested).where(Job.id == claim.id)):
        end, stored = Outcome("finish", "cancelled"), []
    result = ending.final.result.model_dump(mode="json") if isinstance(ending.final, Pruned) else None
    error = _with_artifact_ids(end.error, stored)
    if end.state != "succeeded":
        result = None
    if not states.finish(session, JOBS, claim.id, claim.token, end.state, result=result, error=error):
        return
    for file in stored:
        artifacts.add(
            session,
            id=file.id,
            job_id=claim.id,
            kind=file.produced.kind,
            format=file.produced.format,
            sha256=artifacts.keep(session, get_storage(), file.staged),
            size_bytes=file.staged.size_bytes,
            filename=file.produced.filename,
        )


def _finish_model(
    session: Session, claim: Claim[Any], end: Outcome, ending: Ending, stored: list[Stored]
) -> list[Moved]:
    """The jobs that may run now."""
    normalized = next((file for file in stored if file.produced.kind == "normalized"), None)
    if end.state == "succeeded" and normalized is None:
        end = outcome.failed(SecateurError("the engine's process left no model that was saved again"))
    if end.state != "succeeded" or normalized is None:
        states.finish(session, MODELS, claim.id, claim.token, "rejected", error=end.error)
        return []
    assert isinstance(ending.final, Inspected)
    if not states.finish(
        session,
        MODELS,
        claim.id,
        claim.token,
        "ready",
        result=ending.final.inspection.model_dump(mode="json"),
        normalized_sha256=normalized.staged.sha256,
    ):
        return []
    artifacts.keep(session, get_storage(), normalized.staged)
    return jobs.waiting_for(session, claim.id)


def _with_artifact_ids(error: dict[str, Any] | None, stored: list[Stored]) -> dict[str, Any] | None:
    """The error with `nearest`, a file's name, replaced by the id of the artifact that the file has become."""
    if error is None or "nearest" not in error:
        return error
    ids_by_name = {file.produced.filename: file.id for file in stored}
    return {**error, "nearest": ids_by_name.get(error["nearest"])}
