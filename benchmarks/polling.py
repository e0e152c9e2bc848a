"""One poll of a job over one request that does nothing, on a connection that stays open."""

from __future__ import annotations

import http.client
import io
import json
import tempfile
import time
import zipfile
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.served import Api, api

REQUESTS = 1500
CONFIG = {"module": "keras", "class_name": "Sequential", "config": {"name": "m", "layers": []}, "registered_name": None}


def measure() -> list[Figure]:
    """Polls with and without `If-None-Match`, each in turn with the empty request."""
    with tempfile.TemporaryDirectory() as name, api(Path(name)) as served:
        connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
        path = _queued_job(connection)
        etag = _request(connection, "GET", path)[1]["etag"]
        figures = [
            _compare(served, "poll of a job", path, {}),
            _compare(served, "poll of an unchanged job", path, {"If-None-Match": etag}),
        ]
        connection.close()
    return figures


def _compare(served: Api, name: str, path: str, headers: dict[str, str]) -> Figure:
    connection = http.client.HTTPConnection(served.host, served.port, timeout=60)
    pairs = [(_time(connection, path, headers), _time(connection, "/health/live", {})) for _ in range(REQUESTS)]
    connection.close()
    ours, reference = zip(*pairs[REQUESTS // 10 :], strict=True)
    return Figure(name, "an empty request", ours, reference, unit="ms")


def _time(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    connection.getresponse().read()
    return 1000 * (time.perf_counter() - began)


def _queued_job(connection: http.client.HTTPConnection) -> str:
    """The path of a job that waits: nobody works here."""
    model, _ = _request(connection, "PUT", "/v1/models", _model())
    body = {"model_id": model["id"], "pruning": {"target": {"type": "ratio", "value": 0.5}}}
    job, _ = _request(connection, "POST", "/v1/jobs", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return str(job["urls"]["self"])


def _model() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("config.json", json.dumps(CONFIG))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    return target.getvalue()


def _request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status >= 400:
        raise RuntimeError(f"{method} {path} was answered {response.status}: {answer}")
    return answer, {name.lower(): value for name, value in response.getheaders()}
