"""Rows for tests: a model that is ready and jobs on it."""

from __future__ import annotations

import hashlib
from typing import Any

from sqlalchemy.orm import Session

from app.jobs import repository as jobs
from app.jobs import states
from app.models import repository as models
from app.tables import Job, Model


def model(session: Session, content: str = "model", *, ready: bool = True, **fields: Any) -> Model:
    """A model, inspected unless told otherwise."""
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    made, _ = models.add(session, sha256=sha256, size_bytes=1, format="keras", queue="cpu", **fields)
    if ready:
        claim = states.claim(session, states.MODELS, made.id, "inspector", 30)
        assert claim is not None
        assert states.finish(session, states.MODELS, made.id, claim.token, "ready", result={"parameters": 1})
    return models.get(session, made.id)


def job(session: Session, of: Model, **fields: Any) -> Job:
    """A queued job."""
    defaults: dict[str, Any] = {
        "model_id": of.id,
        "dataset_id": None,
        "spec": {"pruning": {}},
        "spec_resolved": {},
        "run_seconds": 60.0,
        "queue_seconds": 60.0,
        "memory_bytes": 2**30,
        "queue": "cpu",
    }
    return jobs.add(session, **{**defaults, **fields})
