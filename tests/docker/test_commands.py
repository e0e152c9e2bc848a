"""The compose file's own commands, without an engine: on a real PostgreSQL and Valkey, a job goes through."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docker.test_images import OURS, ROOT, SERVICES
from tests.e2e import tiny
from tests.services import Postgres, Valkey

PREPARED = "SECATEUR_STORAGE_URL", "SECATEUR_DATABASE_URL", "SECATEUR_BROKER_URL"


class Containers:
    """What compose would start, as processes with the same commands and variables; only addresses are others."""

    def __init__(self, folder: Path, database: str, broker: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])
        self._folder = folder
        self._addresses = dict(zip(PREPARED, ((folder / "files").as_uri(), database, broker), strict=True))

    def environment(self, name: str) -> dict[str, str]:
        chosen = {key: str(value) for key, value in SERVICES[name]["environment"].items()} | self._addresses
        plain = {key: value for key, value in os.environ.items() if not key.startswith("SECATEUR_")}
        path = f"{Path(sys.executable).parent}:{plain['PATH']}"
        own = {"SECATEUR_DATA_DIR": str(self._folder / name), "SECATEUR_PORT": self.port, "PATH": path}
        return plain | chosen | own | {"TF_NUM_INTRAOP_THREADS": "1"}

    def command(self, words: list[str]) -> list[str]:
        return [self.port if word == "8000" else "127.0.0.1" if word == "0.0.0.0" else word for word in words]

    def run(self, name: str) -> int:
        """A container that ends by itself; its exit code."""
        command = self.command(SERVICES[name]["command"])
        return subprocess.run(command, cwd=ROOT, env=self.environment(name), check=False).returncode

    def healthy(self, name: str) -> bool:
        """The healthcheck's verdict."""
        words = SERVICES[name]["healthcheck"]["test"][1:]
        done = subprocess.run(words, cwd=ROOT, env=self.environment(name), capture_output=True, check=False)
        return done.returncode == 0

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """A container that stays up; it has to end by itself when it is told to, within the time that compose gives."""
        command = self.command(SERVICES[name]["command"])
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment(name), stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(int(SERVICES[name]["stop_grace_period"].removesuffix("s")))
            finally:
                process.kill()


def wait_for(what: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture
def containers(tmp_path: Path, postgres_server: Postgres, valkey_server: Valkey) -> Iterator[Containers]:
    name = f"compose_{os.urandom(6).hex()}"
    yield Containers(tmp_path, postgres_server.create(name), valkey_server.url.replace("/0", "/5"))
    postgres_server.drop(name)


def test_a_job_goes_through_what_compose_starts(containers: Containers, tmp_path: Path) -> None:
    tiny.model(tmp_path / "tiny.keras")
    tiny.data(tmp_path / "tiny.npz")
    assert set(OURS) == {"migrate", "api", "worker"}
    assert not containers.healthy("api")
    assert containers.run("migrate") == 0
    assert containers.run("migrate") == 0, "a second release finds nothing to do"
    assert not containers.healthy("worker")
    with ExitStack() as stack:
        api = stack.enter_context(containers.running("api"))
        worker = stack.enter_context(containers.running("worker"))
        wait_for(lambda: containers.healthy("api"))
        wait_for(lambda: containers.healthy("worker"))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{containers.port}", timeout=90))
        job = finished_job(client, tmp_path)
        assert job["state"] == "succeeded", job["error"]
        assert client.get("/health/ready").json()["workers"]
    assert (api.returncode, worker.returncode) in {(0, 0), (-signal.SIGTERM, 0)}
    assert list((tmp_path / "api").rglob("*.keras")) == []


def finished_job(client: httpx.Client, folder: Path) -> dict[str, Any]:
    """Upload, ask for a job without recovery, wait for its end."""

    def upload(kind: str, path: Path) -> str:
        sent = client.put(f"/v1/{kind}", params={"filename": path.name}, content=path.read_bytes())
        return str(sent.raise_for_status().json()["id"])

    spec = {
        "model_id": upload("models", folder / "tiny.keras"),
        "dataset_id": upload("datasets", folder / "tiny.npz"),
        "pruning": {"target": {"type": "ratio", "value": 0.5}},
        "recovery": [],
        "measures": {"latency": None},
    }
    job: dict[str, Any] = client.post("/v1/jobs", json=spec).raise_for_status().json()
    while job["state"] not in ("succeeded", "failed", "cancelled"):
        job = client.get(job["urls"]["self"], params={"wait": 30}).raise_for_status().json()
    return job
