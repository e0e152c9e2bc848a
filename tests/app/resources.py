"""Models, data sets and jobs over HTTP, and a worker in the test's own hands: it moves rows as a worker does."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx

from app import db
from app.artifacts import repository as artifacts
from app.jobs import states
from app.storage import get_storage
from tests.app.files import keras, labelled, npz, sequential

TARGET = {"type": "ratio", "value": 0.5}
INSPECTION: dict[str, Any] = {
    "keras_version": "3.15.1",
    "inputs": [{"name": "x", "shape": [None, 4], "dtype": "float32"}],
    "outputs": [{"name": "y", "shape": [None, 3], "dtype": "float32"}],
    "parameters": 100,
    "macs": 90,
    "layers": [
        {"name": "dense_1", "class_name": "Dense", "width": 8, "parameters": 40, "macs": 32},
        {"name": "dense_2", "class_name": "Dense", "width": 8, "parameters": 40, "macs": 32},
        {"name": "flatten", "class_name": "Flatten", "width": None, "parameters": 0, "macs": 0},
    ],
    "groups": [],
    "barriers": [],
    "compiled": None,
}
MEASURES = {
    "parameters": 100,
    "nonzero_parameters": 100,
    "sparsity": 0.0,
    "prunable_sparsity": 0.0,
    "macs": 90,
    "nonzero_macs": 90,
    "size_bytes": 1000,
}
RESULT: dict[str, Any] = {
    "measures": {"before": MEASURES, "after": MEASURES, "ratio": {"macs": 1.0}},
    "removed": {"size": 0.5, "compute": 0.5, "storage": 0.5, "s_pruned": {"size": 50.0}},
    "layers": [],
}


def new_model(client: httpx.Client, name: str = "a", **fields: str) -> dict[str, Any]:
    """An uploaded model; another name is another file."""
    content = keras(sequential(name=name))
    response = client.post("/v1/models", files={"file": (f"{name}.keras", content)}, data=fields)
    assert response.status_code in (200, 201), response.text
    return dict(response.json())


def new_dataset(client: httpx.Client, **arrays: Any) -> dict[str, Any]:
    """An uploaded data set, by default of three splits with labels."""
    response = client.post("/v1/datasets", files={"file": ("data.npz", npz(**(arrays or labelled())))})
    assert response.status_code in (200, 201), response.text
    return dict(response.json())


def new_job(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    """A queued job, on a new model unless one is named."""
    body = {"pruning": {"target": TARGET}, **fields}
    body.setdefault("model_id", None)
    if body["model_id"] is None:
        body["model_id"] = new_model(client)["id"]
    response = client.post("/v1/jobs", json=body)
    assert response.status_code == 202, response.text
    return dict(response.json())


def inspected(model_id: str, problem: dict[str, Any] | None = None) -> None:
    """What the worker does with a new model: it is ready, or rejected with a problem."""
    with db.write() as session:
        claim = states.claim(session, states.MODELS, model_id, "worker", 30)
        assert claim is not None
        state = "ready" if problem is None else "rejected"
        result = INSPECTION if problem is None else None
        assert states.finish(session, states.MODELS, model_id, claim.token, state, result=result, error=problem)


def ready_model(client: httpx.Client, name: str = "a") -> str:
    """The id of a model that was inspected."""
    model = new_model(client, name)
    if model["state"] == "inspecting":
        inspected(model["id"])
    return str(model["id"])


def claimed(job_id: str) -> str:
    """A worker takes the job; its token."""
    with db.write() as session:
        claim = states.claim(session, states.JOBS, job_id, "worker", 30)
        assert claim is not None
        return claim.token


def progressed(job_id: str, token: str, phase: str, completed: int, total: int = 10) -> None:
    """The worker tells how far it is."""
    with db.write() as session:
        assert states.progress(session, job_id, token, phase, {"completed": completed, "total": total, "unit": "steps"})


def finished(job_id: str, token: str, *files: bytes, kind: str = "model", error: dict[str, Any] | None = None) -> None:
    """The worker ends the job, with these files as its artifacts."""
    with db.write() as session:
        for index, content in enumerate(files):
            staged = get_storage().create()
            staged.write(content)
            digest = artifacts.keep(session, get_storage(), staged)
            assert digest == hashlib.sha256(content).hexdigest()
            artifacts.add(
                session,
                job_id=job_id,
                kind=kind,
                format="keras",
                sha256=digest,
                size_bytes=len(content),
                filename=f"pruned{index or ''}.keras",
            )
        state = "succeeded" if error is None else "failed"
        result = RESULT if error is None else None
        assert states.finish(session, states.JOBS, job_id, token, state, result=result, error=error)


def done_job(client: httpx.Client, *files: bytes, **fields: Any) -> dict[str, Any]:
    """A job that has succeeded."""
    job = new_job(client, **{"model_id": ready_model(client), **fields})
    finished(job["id"], claimed(job["id"]), *files)
    return dict(client.get(f"/v1/jobs/{job['id']}").json())
