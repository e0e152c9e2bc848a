"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

from app import db, workers
from app.http import problems
from app.http.routing import Router
from app.settings import get_settings
from app.storage import get_storage
from app.tables import Job
from pruning.contract.errors import Unavailable

router = Router(prefix="/health", tags=["operation"])
_OBJECT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "object"}}}}}


@router.get("/live", responses={**_OBJECT})
def live() -> Response:
    """The process answers."""
    return JSONResponse({"status": "live"})


@router.get("/ready", responses={**_OBJECT, **problems.declared()})
def ready() -> Response:
    """Database and storage are there (else 503); which workers are alive, and how well their jobs are isolated.

    Without a worker the service is ready all the same: it takes jobs, and they wait.
    """
    settings = get_settings()
    try:
        found = _workers(settings.worker_seconds)
    except SQLAlchemyError as error:
        raise Unavailable(f"the database does not answer or was not migrated: {type(error).__name__}") from error
    if not os.access(get_storage().root, os.W_OK):
        raise Unavailable("the storage cannot be written to")
    return JSONResponse({"status": "ready", "database": "ok", "storage": "ok", "workers": found})


def _workers(seconds: float) -> list[dict[str, Any]]:
    with db.read() as session:
        session.execute(select(Job.id).limit(1)).all()
        return [
            {"queues": worker.queues, "sandbox": worker.sandbox, "seen_at": worker.seen_at.isoformat()}
            for worker in workers.alive(session, seconds)
        ]
