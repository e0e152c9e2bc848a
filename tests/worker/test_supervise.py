"""Jobs and inspections from claim to end, over a real database, real files and real processes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from app import db, queue
from app.artifacts import repository as artifacts
from app.jobs import events, states
from app.jobs.states import JOBS
from app.settings import Settings
from app.storage import get_storage
from app.tables import Job
from tests.worker.conftest import add_job, add_model, job_of, model_of
from tests.worker.engine import INSPECTION, RESULT
from tests.worker.processes import runs, wait_until
from worker.outcome import Outcome
from worker.supervise import Supervisor


@pytest.fixture
def prepare(supervisor: Supervisor) -> Callable[..., str]:
    """A queued job whose child will do as the script says."""

    def make(limits: dict[str, Any] | None = None, **script: Any) -> str:
        model_id = add_model(job=script)
        supervisor.inspect(model_id)
        return add_job(model_id, **(limits or {}))

    return make


@contextmanager
def running(supervisor: Supervisor, job_id: str, started: Path) -> Iterator[int]:
    """The job runs in a thread; the process id of its child."""
    thread = threading.Thread(target=supervisor.run, args=(job_id,))
    thread.start()
    assert wait_until(lambda: started.exists() and started.read_text() != "")
    pid = int(started.read_text())
    yield pid
    thread.join(20)
    assert not thread.is_alive()
    assert not runs(pid)


def test_a_model_becomes_ready_and_a_job_succeeds(prepare: Callable[..., str], supervisor: Supervisor) -> None:
    job_id = prepare(steps=100)
    model = model_of(job_of(job_id).model_id)
    assert (model.state, model.inspection) == ("ready", INSPECTION.model_dump(mode="json"))
    assert model.normalized_sha256
    assert get_storage().path(model.normalized_sha256).is_file()

    supervisor.run(job_id)
    job = job_of(job_id)
    assert (job.state, job.attempts, job.error) == ("succeeded", 1, None)
    assert job.result == RESULT.model_dump(mode="json")
    with db.read() as session:
        [artifact] = artifacts.of_job(session, job_id)
        seen = events.page(session, job_id)
    with get_storage().open(artifact.sha256) as file:
        assert json.load(file) == {"pruned": 7}
    assert (artifact.kind, artifact.format, artifact.filename) == ("model", "keras", "model.keras")
    assert [event.state for event in seen if event.type == "state"] == ["queued", "running", "succeeded"]
    recover = [event.progress["completed"] for event in seen if event.phase == "recover" and event.progress]
    assert recover == sorted(recover)
    assert recover[-1] == 100
    assert len(recover) < 100  # a few a second, not all
    assert supervisor.sandbox
    assert supervisor.sandbox.level == "limits"


def test_a_job_is_given_the_plan_that_its_row_names(supervisor: Supervisor) -> None:
    model_id = add_model()
    supervisor.inspect(model_id)
    storage = get_storage()
    with storage.create() as staged:
        staged.write(b'{"structure": "channel"}')
        with db.write() as session:
            digest = artifacts.keep(session, storage, staged)
    job_id = add_job(model_id, plan_sha256=digest)
    supervisor.run(job_id)
    with db.read() as session:
        [artifact] = artifacts.of_job(session, job_id)
    assert json.loads(storage.path(artifact.sha256).read_text())["plan"] == '{"structure": "channel"}'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_an_architecture_is_read_in_every_encoding_of_json(supervisor: Supervisor, encoding: str) -> None:
    model_id = add_model(architecture='{"class_name": "Größe"}'.encode(encoding))
    supervisor.inspect(model_id)
    model = model_of(model_id)
    assert (model.state, model.attempts) == ("ready", 1)
    assert (model.inspection or {})["compiled"] == {"class_name": "Größe"}


def test_a_spec_of_an_earlier_version_fails_the_job_at_once(
    prepare: Callable[..., str], supervisor: Supervisor
) -> None:
    job_id = prepare()
    with db.write() as session:
        job = session.get_one(Job, job_id)
        job.spec_resolved = {**job.spec_resolved, "seed": -1}
    supervisor.run(job_id)
    job = job_of(job_id)
    assert (job.state, job.attempts) == ("failed", 1)
    assert (job.error or {})["code"] == "invalid_spec"
    assert "seed" in (job.error or {})["detail"]


def test_a_job_that_is_not_to_be_had_is_left_alone(prepare: Callable[..., str], supervisor: Supervisor) -> None:
    job_id = prepare()
    supervisor.run(job_id)
    before = job_of(job_id).version
    supervisor.run(job_id)
    supervisor.run("job_unknown")
    assert job_of(job_id).version == before


def test_a_job_waits_for_its_model_and_fails_with_it(supervisor: Supervisor) -> None:
    error = {"code": "unsafe_file", "detail": "a Lambda layer"}
    model_id = add_model(error=error)
    job_id = add_job(model_id)
    supervisor.run(job_id)
    assert (job_of(job_id).state, job_of(job_id).attempts) == ("queued", 0)
    supervisor.inspect(model_id)
    assert (model_of(model_id).state, model_of(model_id).problem) == ("rejected", error)
    assert (job_of(job_id).state, job_of(job_id).error) == ("failed", error)


def test_who_ends_an_inspection_announces_what_waits_for_it(supervisor: Supervisor) -> None:
    model_id = add_model()
    add_job(model_id)
    for _ in range(2):
        supervisor.inspect(model_id)
        assert queue.depth("cpu") == 1


@pytest.mark.parametrize("error", db.UNREACHABLE)
def test_an_outcome_that_cannot_be_written_is_followed_by_no_other(
    prepare: Callable[..., str], supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    acts: set[str] = set()

    def database_is_away(kind: Any, claim: Any, end: Outcome, *_: Any) -> None:
        acts.add(end.act)
        raise error("planted", {}, OSError()) if issubclass(error, DBAPIError) else error("planted")

    job_id = prepare()
    monkeypatch.setattr(supervisor, "_write", database_is_away)
    supervisor.run(job_id)
    assert acts == {"finish"}
    assert job_of(job_id).state == "running"  # until the sweep finds it


def test_an_engine_error_fails_the_job_and_names_the_nearest_artifact(
    prepare: Callable[..., str], supervisor: Supervisor
) -> None:
    error = {"code": "infeasible_target", "detail": "at least 0.3", "floor": 0.3, "nearest": "nearest.keras"}
    job_id = prepare(error=error, file="nearest.keras")
    supervisor.run(job_id)
    with db.read() as session:
        [artifact] = artifacts.of_job(session, job_id)
    assert job_of(job_id).state == "failed"
    assert job_of(job_id).error == {**error, "nearest": artifact.id}


def test_an_error_that_the_contract_does_not_know_becomes_ours(
    prepare: Callable[..., str], supervisor: Supervisor
) -> None:
    job_id = prepare(error={"code": "<script>", "detail": 3})
    supervisor.run(job_id)
    assert job_of(job_id).state == "failed"
    assert (job_of(job_id).error or {})["code"] == "internal_error"


@pytest.mark.parametrize(
    ("script", "limits", "code"),
    [
        ({"sleep": 60}, {"run_seconds": 0.5}, "time_limit"),
        ({"allocate": 400 * 2**20}, {"memory_bytes": 256 * 2**20}, "memory_limit"),
        ({"garbage": True}, {}, "internal_error"),
        ({"link": "/etc/hostname"}, {}, "internal_error"),
    ],
)
def test_limits_and_broken_rules_fail_a_job_at_once(
    prepare: Callable[..., str], supervisor: Supervisor, script: Any, limits: Any, code: str
) -> None:
    job_id = prepare(limits, **script)
    supervisor.run(job_id)
    job = job_of(job_id)
    assert (job.state, job.attempts, job.result) == ("failed", 1, None)
    assert (job.error or {})["code"] == code
    with db.read() as session:
        assert artifacts.of_job(session, job_id) == []


def test_a_poison_job_fails_with_the_reason_of_each_attempt(
    prepare: Callable[..., str], supervisor: Supervisor, settings: Settings
) -> None:
    job_id = prepare(signal="SIGSEGV")
    for attempt in range(1, settings.max_attempts + 1):
        assert job_of(job_id).state == "queued"
        supervisor.run(job_id)
        assert job_of(job_id).attempts == attempt
    job = job_of(job_id)
    assert job.state == "failed"
    assert job.error
    assert job.error["code"] == "worker_lost"
    assert [entry["detail"] for entry in job.error["attempts"]] == ["the process was killed by SIGSEGV"] * 3


def test_cancel_ends_a_running_child(prepare: Callable[..., str], supervisor: Supervisor, tmp_path: Path) -> None:
    job_id = prepare(sleep=60, started=str(tmp_path / "started"))
    with running(supervisor, job_id, tmp_path / "started"):
        with db.write() as session:
            assert states.request_cancel(session, job_id) == "running"
        assert wait_until(lambda: job_of(job_id).state == "cancelled")


def test_a_lease_is_renewed_and_one_that_is_lost_ends_the_child(
    prepare: Callable[..., str], supervisor: Supervisor, settings: Settings, tmp_path: Path
) -> None:
    job_id = prepare(sleep=60, started=str(tmp_path / "started"))
    with running(supervisor, job_id, tmp_path / "started") as pid:
        time.sleep(1.5 * settings.lease_seconds)
        with db.write() as session:
            assert states.expire(session, JOBS, 3) == []
        assert runs(pid)
        with db.write() as session:
            job = session.get_one(type(job_of(job_id)), job_id)
            job.token = "another's"
        assert wait_until(lambda: not runs(pid))
    assert job_of(job_id).state == "running"


def test_a_stopping_worker_gives_the_job_back_uncounted(
    prepare: Callable[..., str], supervisor: Supervisor, tmp_path: Path
) -> None:
    job_id = prepare(sleep=60, started=str(tmp_path / "started"))
    with running(supervisor, job_id, tmp_path / "started"):
        supervisor.stopping.set()
    assert (job_of(job_id).state, job_of(job_id).attempts, job_of(job_id).attempt_errors) == ("queued", 0, [])


@pytest.mark.parametrize("victim", ["zygote", "child"])
def test_a_killed_process_loses_one_attempt_and_the_next_succeeds(
    prepare: Callable[..., str], supervisor: Supervisor, tmp_path: Path, victim: str
) -> None:
    job_id = prepare(sleep=2, started=str(tmp_path / "started"))
    with running(supervisor, job_id, tmp_path / "started") as pid:
        target = supervisor.zygote.pid if victim == "zygote" else pid
        assert target
        os.kill(target, signal.SIGKILL)
    job = job_of(job_id)
    assert (job.state, job.attempts) == ("queued", 1)
    expected = "the worker's zygote died" if victim == "zygote" else "the process was killed by SIGKILL"
    assert [entry["detail"] for entry in job.attempt_errors] == [expected]
    supervisor.run(job_id)
    assert (job_of(job_id).state, job_of(job_id).attempts) == ("succeeded", 2)


def test_two_supervisors_run_each_job_once(
    make_supervisor: Callable[[], Supervisor], prepare: Callable[..., str], supervisor: Supervisor
) -> None:
    other = make_supervisor()
    ids = [prepare(steps=1, number=number) for number in range(6)]
    threads = [threading.Thread(target=lambda who=who: [who.run(id) for id in ids]) for who in (supervisor, other) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.read() as session:
        assert [(job_of(id).state, job_of(id).attempts) for id in ids] == [("succeeded", 1)] * 6
        assert [len(artifacts.of_job(session, id)) for id in ids] == [1] * 6
