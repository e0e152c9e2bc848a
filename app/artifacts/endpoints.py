"""`/v1/artifacts`: the files themselves; which there are is at their job."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import JSONResponse, Response

from app import db
from app.artifacts import repository
from app.http import content
from app.http.problems import declared
from app.http.routing import Router
from app.jobs.schemas import ArtifactView, artifact_view
from app.storage import get_storage

router = Router(prefix="/v1/artifacts", tags=["artifacts"])
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.get("/{id}", responses={200: {"model": ArtifactView}, **declared(404)})
def get(id: str) -> Response:
    """An artifact."""
    with db.read() as session:
        return JSONResponse(artifact_view(repository.get(session, id)))


@router.get(
    "/{id}/content",
    responses={
        200: {"description": "All of it", **_BYTES},
        206: {"description": "The part that Range names", **_BYTES},
        304: {"description": "As in If-None-Match"},
        **declared(404, 416),
    },
)
def get_content(request: Request, id: str) -> Response:
    """The bytes, whole or by `Range`; `ETag`, `Repr-Digest` and `X-Checksum-SHA256` give their SHA-256."""
    with db.read() as session:
        artifact = repository.get(session, id)
    return content.answer(request, get_storage().path(artifact.sha256), artifact.sha256, artifact.filename)
