"""A service's database and files in a folder of the test, and rows to work on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app import db
from app.artifacts import repository as artifacts
from app.jobs import repository as jobs
from app.models import repository as models
from app.settings import Settings, get_settings
from app.storage import get_storage
from app.tables import Job, Model
from worker.supervise import Supervisor


@pytest.fixture
def settings(embedded: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Short leases on an embedded service of the test's own."""
    return with_short_leases(monkeypatch)


def with_short_leases(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings as they are, with a lease of 2 s."""
    monkeypatch.setenv("SECATEUR_LEASE_SECONDS", "2")
    monkeypatch.setenv("SECATEUR_SWEEP_SECONDS", "0.5")
    get_settings.cache_clear()
    get_storage()
    return get_settings()


@pytest.fixture
def make_supervisor(settings: Settings) -> Iterator[Callable[[], Supervisor]]:
    made: list[Supervisor] = []

    def make() -> Supervisor:
        supervisor = Supervisor(settings, "tests.worker.engine")
        supervisor.start()
        made.append(supervisor)
        return supervisor

    yield make
    for supervisor in made:
        supervisor.stopping.set()
        supervisor.close()
    assert list(settings.scratch_dir.iterdir()) == []
    assert list((settings.data_dir / "files" / "tmp").iterdir()) == []


@pytest.fixture
def supervisor(make_supervisor: Callable[[], Supervisor]) -> Supervisor:
    return make_supervisor()


def add_model(architecture: bytes | None = None, **script: Any) -> str:
    """An uploaded model that waits for its inspection; the file is a script for `tests.worker.engine`."""
    storage = get_storage()
    with storage.create() as staged, storage.create() as beside:
        staged.write(json.dumps(script).encode())
        beside.write(architecture or b"")
        with db.write() as session:
            model, _ = models.add(
                session,
                sha256=artifacts.keep(session, storage, staged),
                size_bytes=staged.size_bytes,
                format="keras",
                queue="cpu",
                architecture_sha256=artifacts.keep(session, storage, beside) if architecture else None,
            )
    return model.id


def add_job(
    model_id: str,
    run_seconds: float = 60,
    memory_bytes: int = 2**30,
    queue_seconds: float = 60,
    plan_sha256: str | None = None,
) -> str:
    """A queued job of a model."""
    spec = {"pruning": {"target": {"type": "ratio", "value": 0.5}}, "seed": 7, "name": "not the engine's"}
    with db.write() as session:
        job = jobs.add(
            session,
            model_id=model_id,
            dataset_id=None,
            spec=spec,
            spec_resolved=spec,
            plan_sha256=plan_sha256,
            run_seconds=run_seconds,
            queue_seconds=queue_seconds,
            memory_bytes=memory_bytes,
            queue="cpu",
        )
    return job.id


def job_of(id: str) -> Job:
    """The job's row."""
    with db.read() as session:
        return jobs.get(session, id)


def model_of(id: str) -> Model:
    """The model's row."""
    with db.read() as session:
        return models.get(session, id)
