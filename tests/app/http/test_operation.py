"""Health, metrics, documentation, and what is answered when the database is gone or code fails."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from app import db, logs, workers
from app.settings import Settings
from app.storage import get_storage
from tests.app.files import labelled, npz
from tests.app.resources import new_job, ready_model
from tests.app.serving import client_of, problem, serving
from tests.services import configured


def test_health(client_on_each: httpx.Client) -> None:
    assert client_on_each.get("/health/live").json() == {"status": "live"}
    ready = client_on_each.get("/health/ready")
    assert (ready.status_code, ready.json()["status"], ready.json()["workers"]) == (200, "ready", [])
    with db.write() as session:
        workers.beat(session, "w", host="h", pid=1, queues=["cpu"], sandbox={"level": "none"})
    (worker,) = client_on_each.get("/health/ready").json()["workers"]
    assert (worker["queues"], worker["sandbox"]) == (["cpu"], {"level": "none"})


@pytest.fixture
def without_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """An API whose PostgreSQL does not exist."""
    url = f"postgresql://nobody@/none?host={tmp_path}"
    with (
        configured(monkeypatch, DATA_DIR=str(tmp_path), DATABASE_URL=url),
        serving() as address,
        client_of(address) as made,
    ):
        yield made


def test_without_a_database(without_database: httpx.Client) -> None:
    assert without_database.get("/health/live").status_code == 200
    for path in ("/health/ready", "/v1/jobs", f"/v1/jobs/job_{'0' * 32}"):
        response = without_database.get(path)
        assert problem(response) == (503, "unavailable"), response.text
        assert "Traceback" not in response.text
        assert "postgresql" not in response.text


def test_without_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with configured(monkeypatch, DATA_DIR=str(tmp_path)), serving() as address, client_of(address) as made:
        assert problem(made.get("/health/ready")) == (503, "unavailable")


def test_full_or_lost_storage(client: httpx.Client, embedded: Settings) -> None:
    root = get_storage().root
    root.rename(embedded.data_dir / "elsewhere")
    assert problem(client.get("/health/ready")) == (503, "unavailable")
    response = client.put("/v1/models", content=b"x")
    assert problem(response) == (500, "internal_error")
    assert str(root) not in response.text
    os.rename(embedded.data_dir / "elsewhere", root)
    assert client.get("/health/ready").status_code == 200


def samples(client: httpx.Client) -> dict[tuple[str, ...], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics(client_on_each: httpx.Client) -> None:
    client = client_on_each
    before = samples(client)
    job = new_job(client, model_id=ready_model(client))
    client.get(job["urls"]["self"])
    client.get("/nowhere")
    after = samples(client)

    def more(*key: str) -> float:
        return after[key] - before.get(key, 0)

    assert more("secateur_http_requests_total", "GET", "/v1/jobs/{id}", "200") == 1
    assert more("secateur_http_requests_total", "GET", "none", "404") == 1
    assert more("secateur_http_request_seconds_count", "POST", "/v1/jobs") == 1
    assert after["secateur_jobs", "queued"] == 1
    assert after["secateur_models", "ready"] == 1
    assert not any(job["id"] in part for key in after for part in key)


def test_documentation(shared: httpx.Client) -> None:
    document = shared.get("/openapi.json").json()
    page = shared.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "<script" not in page.text
    assert "http://" not in page.text
    targets = set(re.findall(r'href="#([^"]+)"', page.text))
    assert targets
    assert targets <= set(re.findall(r'id="([^"]+)"', page.text))
    for path, operations in document["paths"].items():
        assert all(f"{method.upper()} {path}</code>" in page.text for method in operations)
    # Paths stay; that a new one is in the HTTP guide is tested there.
    assert {
        "/v1/models",
        "/v1/models/{id}",
        "/v1/datasets",
        "/v1/datasets/{id}",
        "/v1/jobs",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/cancel",
        "/v1/jobs/{id}/clone",
        "/v1/jobs/{id}/events",
        "/v1/jobs/{id}/artifacts",
        "/v1/jobs/{id}/report",
        "/v1/artifacts/{id}",
        "/v1/artifacts/{id}/content",
        "/v1/methods",
        "/health/live",
        "/health/ready",
        "/metrics",
    } <= set(document["paths"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            for status, response in operation["responses"].items():
                expected = {"application/problem+json"} if int(status) >= 400 else set()
                assert expected <= set(response.get("content", {})), (method, path, status)
            assert method == "get" or "507" in operation["responses"], (method, path)
    takes = {method: document["paths"]["/v1/models"][method]["requestBody"]["content"] for method in ("post", "put")}
    assert [("application/json" in content) for content in takes.values()] == [True, False]


def test_an_error_of_ours_says_nothing_of_our_insides(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr("app.jobs.repository.page", fails)
    response = client.get("/v1/jobs")
    assert problem(response) == (500, "internal_error")
    assert "1234" not in response.text


def test_full_disk_of_the_database(client: httpx.Client) -> None:
    def fill(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # what is there is kept, nothing may be added

    engine = db.engine()
    engine.dispose()
    event.listen(engine, "connect", fill)
    answers = (client.post("/v1/datasets", content=npz(**labelled(20 + number))) for number in range(200))
    refused = next(answer for answer in answers if answer.status_code != 201)
    assert problem(refused) == (507, "out_of_storage")


def test_a_log_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        logs.configure("INFO")
        structlog.get_logger("tests").error("lost")
        monkeypatch.undo()
        with suppress(OSError):
            full.close()
