"""A tiny model and its data, and the service on its embedded default and on real servers."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import tiny
from tests.e2e.service import Service, running
from tests.services import Postgres, Valkey


@dataclass(frozen=True)
class Files:
    """What is uploaded."""

    model: Path
    data: Path


@dataclass(frozen=True)
class Uploads:
    """What was uploaded, and specs for it."""

    service: Service
    model_id: str
    dataset_id: str

    def start(self, epochs: int = 0, **more: Any) -> str:
        """Ask for a job; with epochs it takes a while (about 0.03 s each). Its id."""
        stages = [{"stage": "fine_tune", "epochs": epochs, "batch_size": 8, "patience": 10000}] if epochs else []
        spec = {
            "model_id": self.model_id,
            "dataset_id": self.dataset_id,
            "pruning": {"target": {"type": "ratio", "value": 0.5}},
            "recovery": stages,
            "measures": {"latency": None},
            **more,
        }
        return str(self.service.post("/v1/jobs", spec)["id"])


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    tiny.model(folder / "tiny.keras")
    tiny.data(folder / "tiny.npz")
    return Files(folder / "tiny.keras", folder / "tiny.npz")


def upload(service: Service, files: Files) -> Uploads:
    """Upload both; the model is still being inspected."""
    return Uploads(service, service.upload("models", files.model), service.upload("datasets", files.data))


@pytest.fixture(scope="module")
def embedded_service(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[Uploads]:
    """SQLite, files, the folder broker."""
    folder = tmp_path_factory.mktemp("embedded") / "data"
    with running(folder, MAX_ATTEMPTS="10", REPUBLISH_SECONDS="2") as service:
        yield upload(service, files)


@pytest.fixture(scope="module")
def production_service(
    tmp_path_factory: pytest.TempPathFactory, files: Files, postgres_server: Postgres, valkey_server: Valkey
) -> Iterator[Uploads]:
    """PostgreSQL and Valkey."""
    name = f"e2e_{secrets.token_hex(4)}"
    variables = {"DATABASE_URL": postgres_server.create(name), "BROKER_URL": valkey_server.url}
    folder = tmp_path_factory.mktemp("production") / "data"
    with running(folder, MAX_ATTEMPTS="10", REPUBLISH_SECONDS="2", **variables) as service:
        yield upload(service, files)
    postgres_server.drop(name)
