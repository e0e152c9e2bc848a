"""Sweeps: what was lost is found again, what is over is ended, what is left behind is removed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app import db, queue
from app.db import now
from app.jobs import states
from app.jobs.states import JOBS, MODELS
from app.settings import Settings
from app.storage import get_storage
from app.tables import IdempotencyKey, Job, Lock, Worker
from tests.worker.conftest import add_job, add_model, job_of, model_of, with_short_leases
from tests.worker.processes import wait_until
from worker.maintenance import Maintenance, sweep_blobs, sweep_rows
from worker.supervise import Supervisor


@pytest.fixture
def settings(database: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """On SQLite and on PostgreSQL."""
    return with_short_leases(monkeypatch)


@pytest.fixture
def ready_model(supervisor: Supervisor) -> str:
    model_id = add_model()
    supervisor.inspect(model_id)
    return model_id


def claim(job_id: str, lease_seconds: float) -> None:
    with db.write() as session:
        assert states.claim(session, JOBS, job_id, "dead", lease_seconds)


def messages(settings: Settings) -> int:
    def files() -> int:
        return len(list(settings.broker_dir.glob("[0-9]*.msg")))

    # One may come while they are counted.
    before, depth, after = files(), queue.depth("cpu"), files()
    assert depth in (before, after)
    return after


def test_a_lost_job_waits_again_and_is_announced(ready_model: str, settings: Settings) -> None:
    lost, held = add_job(ready_model), add_job(ready_model)
    claim(lost, 0.05)
    claim(held, 60)
    time.sleep(0.1)
    sweep_rows(settings, settings.republish_seconds)
    assert [(job_of(id).state, job_of(id).attempts) for id in (lost, held)] == [("queued", 1), ("running", 1)]
    assert messages(settings) == 1


def test_a_lost_inspection_waits_again_and_fails_after_its_attempts(settings: Settings) -> None:
    model_id = add_model(a=1)
    for _ in range(settings.max_attempts):
        assert model_of(model_id).state == "inspecting"
        with db.write() as session:
            assert states.claim(session, MODELS, model_id, "dead", 0.01)
        time.sleep(0.05)
        sweep_rows(settings, settings.republish_seconds)
    assert model_of(model_id).state == "rejected"
    assert (model_of(model_id).problem or {})["code"] == "worker_lost"
    assert messages(settings) == settings.max_attempts - 1


def test_a_forgotten_job_is_announced_again_but_not_without_end(ready_model: str, settings: Settings) -> None:
    ids = [add_job(ready_model) for _ in range(3)]
    sweep_rows(settings, settings.republish_seconds)
    assert messages(settings) == 0  # announced a moment ago
    with db.write() as session:
        session.execute(update(Job).values(published_at=now(-settings.republish_seconds - 1)))
    sweep_rows(settings, settings.republish_seconds)
    assert messages(settings) == len(ids)
    sweep_rows(settings, settings.republish_seconds)
    assert messages(settings) == len(ids)


def test_a_job_that_waited_too_long_fails(ready_model: str, settings: Settings) -> None:
    job_id = add_job(ready_model, queue_seconds=0.01)
    time.sleep(0.05)
    sweep_rows(settings, settings.republish_seconds)
    assert (job_of(job_id).error or {})["code"] == "queue_time_limit"


def test_old_keys_and_silent_workers_are_forgotten(settings: Settings) -> None:
    with db.write() as session:
        for key, age in (("old", settings.idempotency_seconds + 1), ("young", 1)):
            made = IdempotencyKey(key=key, method="POST", path="/", request_sha256="0" * 64)
            made.created_at = now(-age)  # type: ignore[assignment]
            session.add(made)
        for id, age in (("silent", settings.worker_seconds + 1), ("here", 1)):
            worker = Worker(id=id, host="h", pid=1, queues=[])
            worker.started_at = worker.seen_at = now(-age)  # type: ignore[assignment]
            session.add(worker)
    sweep_rows(settings, settings.republish_seconds)
    with db.read() as session:
        assert session.scalars(select(IdempotencyKey.key)).all() == ["young"]
        assert session.scalars(select(Worker.id)).all() == ["here"]


def test_blobs_without_a_row_are_removed(ready_model: str, settings: Settings) -> None:
    storage = get_storage()
    with storage.create() as staged:
        staged.write(b"its row was never committed")
        orphan = storage.commit(staged)
    assert sweep_blobs(older_than=60) == 0
    hour_ago = time.time() - 3600
    for sha256 in storage.blobs():
        os.utime(storage.path(sha256), (hour_ago, hour_ago))
    assert sweep_blobs(older_than=60) == 1
    assert not storage.path(orphan).exists()
    assert storage.path(model_of(ready_model).sha256).exists()


def test_a_worker_beats_leads_and_leaves_nothing(make_supervisor: Callable[[], Supervisor], settings: Settings) -> None:
    first, second = make_supervisor(), make_supervisor()
    kept = [Maintenance(settings, first), Maintenance(settings, second)]
    for maintenance in kept:
        maintenance.start()

    def beating() -> int:
        with db.read() as session:
            return session.scalar(select(func.count()).select_from(Worker)) or 0

    assert wait_until(lambda: beating() == 2)
    with db.read() as session:
        assert session.scalars(select(Lock.holder)).one() in (first.worker_id, second.worker_id)
    for supervisor, maintenance in zip((first, second), kept, strict=True):
        supervisor.stopping.set()
        maintenance.join()
    assert beating() == 0
    with db.read() as session:
        assert session.scalars(select(Lock.name)).all() == []


def test_an_upload_is_inspected_while_every_thread_is_busy(supervisor: Supervisor, settings: Settings) -> None:
    maintenance = Maintenance(settings, supervisor)
    maintenance.start()
    model_id = add_model(b=2)
    assert wait_until(lambda: model_of(model_id).state == "ready", 10)
    supervisor.stopping.set()
    maintenance.join()


def test_a_sweep_that_fails_is_made_again(
    supervisor: Supervisor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    maintenance = Maintenance(settings, supervisor)
    again = threading.Event()
    rounds: list[Path] = []

    def broken(root: Path) -> int:
        rounds.append(root)
        if len(rounds) == 2:
            again.set()
        raise OSError("planted")

    monkeypatch.setattr("worker.scratch.sweep", broken)
    maintenance.start()
    assert again.wait(10)
    supervisor.stopping.set()
    maintenance.join()


def test_a_worker_beats_whatever_becomes_of_its_scratch(
    supervisor: Supervisor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError("planted")

    monkeypatch.setattr("worker.scratch.sweep", refuse)
    monkeypatch.setattr(supervisor, "probe", refuse)
    maintenance = Maintenance(settings, supervisor)
    assert supervisor.zygote.wait_ready(20)
    maintenance.sweep()
    with db.read() as session:
        assert session.scalars(select(Worker.id)).all() == [supervisor.worker_id]


def test_a_worker_that_starts_announces_what_waits_and_learns_its_isolation(
    ready_model: str, supervisor: Supervisor, settings: Settings
) -> None:
    add_job(ready_model)
    supervisor.sandbox = None
    maintenance = Maintenance(settings, supervisor)
    maintenance.start()
    assert wait_until(lambda: messages(settings) == 1)

    def learnt() -> bool:
        with db.read() as session:
            return session.scalar(select(Worker.sandbox)) == {"level": "limits", "detail": {}}

    assert wait_until(learnt)
    supervisor.stopping.set()
    maintenance.join()
