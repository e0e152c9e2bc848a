"""kill -9 of any process at any moment: every job ends once, nothing is left, nobody is orphaned."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest

from pruning.contract.progress import Phase
from tests.e2e.conftest import Files, Uploads, upload
from tests.e2e.service import ROOT, Victim, running
from tests.services import Valkey
from tests.worker.processes import wait_until

EPOCHS = 40


def expect_all_succeeded(uploads: Uploads, job_ids: list[str]) -> None:
    service = uploads.service
    for id in job_ids:
        job = service.wait(f"/v1/jobs/{id}")
        assert (job["state"], job["error"]) == ("succeeded", None)
        assert service.ended_once(id)
    assert wait_until(lambda: service.left_behind() == [], 10), service.left_behind()


def kill_during(uploads: Uploads, job_id: str, victim: Victim, phase: Phase = "recover") -> None:
    uploads.service.wait_for_phase(job_id, phase)
    uploads.service.kill(victim)


def test_every_process_is_killed_once_and_every_job_ends_once(embedded_service: Uploads) -> None:
    uploads, service = embedded_service, embedded_service.service
    early = uploads.start()  # the model may still be inspected: the job waits for it
    service.kill("worker", 60)
    ids = [uploads.start(EPOCHS, seed=seed) for seed in range(2)]
    kill_during(uploads, ids[0], "child")
    service.kill("api")
    kill_during(uploads, ids[1], "zygote")
    expect_all_succeeded(uploads, [early, *ids])


def test_a_worker_and_the_broker_are_killed_in_production(production_service: Uploads, valkey_server: Valkey) -> None:
    uploads = production_service
    ids = [uploads.start(EPOCHS, seed=seed) for seed in range(2)]
    kill_during(uploads, ids[0], "worker")
    valkey_server.kill()
    ids.append(uploads.start(seed=9))  # its message goes nowhere
    valkey_server.start()
    expect_all_succeeded(uploads, ids)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["embedded_service", "production_service"])
@pytest.mark.parametrize("phase", ["queued", "load", "recover", "evaluate"])
@pytest.mark.parametrize("victim", ["child", "zygote", "worker", "api", "serve"])
def test_a_kill_in_each_phase(
    request: pytest.FixtureRequest,
    backend: str,
    phase: Literal["queued", "load", "recover", "evaluate"],
    victim: Victim,
) -> None:
    uploads: Uploads = request.getfixturevalue(backend)
    uploads.service.wait(f"/v1/models/{uploads.model_id}")
    id = uploads.start(EPOCHS, evaluation={"batch_size": 1})  # so slow that the phase is seen
    if phase != "queued":
        uploads.service.wait_for_phase(id, phase)
    uploads.service.kill(victim)
    expect_all_succeeded(uploads, [id])


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["child", "zygote", "worker", "api", "serve"])
def test_a_kill_during_an_inspection(tmp_path: Path, files: Files, victim: Victim) -> None:
    with running(tmp_path / "data") as service:
        uploads = upload(service, files)
        service.kill(victim, 60)
        assert service.wait(f"/v1/models/{uploads.model_id}")["state"] == "ready"
        expect_all_succeeded(uploads, [uploads.start()])


def test_ctrl_c_gives_a_running_job_back_and_the_next_start_resumes_it(embedded_service: Uploads) -> None:
    uploads, service = embedded_service, embedded_service.service
    id = uploads.start(10 * EPOCHS)
    service.wait_for_phase(id, "recover")
    assert service.stop() == 0
    assert service.left_behind() == []
    service.start()
    assert service.get(f"/v1/jobs/{id}")["state"] in ("queued", "running")
    service.wait_for_phase(id, "recover")
    assert service.get(f"/v1/jobs/{id}")["attempts"] == 1
    service.post(f"/v1/jobs/{id}/cancel", {})
    began = time.monotonic()
    assert service.wait(f"/v1/jobs/{id}")["state"] == "cancelled"
    assert time.monotonic() - began < 5
    assert service.ended_once(id)
    assert wait_until(lambda: service.left_behind() == [], 10)


def test_a_message_that_is_lost_costs_time_and_no_job(embedded_service: Uploads) -> None:
    uploads, service = embedded_service, embedded_service.service
    busy = uploads.start(EPOCHS)
    service.wait_for_phase(busy, "recover")
    lost = uploads.start(seed=3)
    for message in (service.folder / "broker").glob("*.msg"):
        message.unlink(missing_ok=True)
    expect_all_succeeded(uploads, [busy, lost])


@pytest.mark.slow
def test_a_second_worker_shares_the_jobs(embedded_service: Uploads) -> None:
    uploads, service = embedded_service, embedded_service.service
    with subprocess.Popen(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env=service.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as other:
        try:
            ids = [uploads.start(EPOCHS // 2, seed=seed) for seed in range(5)]
            ended = [service.wait(f"/v1/jobs/{id}") for id in ids]
            other.send_signal(signal.SIGTERM)
            assert other.wait(60) == 0
        finally:
            other.kill()
    assert [(job["state"], job["attempts"], job["error"]) for job in ended] == [("succeeded", 1, None)] * len(ids)
    assert all(service.ended_once(id) for id in ids)
    assert wait_until(lambda: service.left_behind() == [], 10), service.left_behind()


def test_a_taken_port_is_said_plainly(embedded_service: Uploads, tmp_path: Path) -> None:
    service = embedded_service.service
    environment = {
        **{name: value for name, value in service.environment.items() if not name.startswith("SECATEUR_")},
        "PORT": str(service.client.base_url.port),
        "DATA_DIR": str(tmp_path / "other"),
    }
    tried = subprocess.run(
        [sys.executable, "-m", "worker.serve"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert tried.returncode == 1
    assert f"port {service.client.base_url.port} is taken by another program" in tried.stderr
    assert "Traceback" not in tried.stderr
