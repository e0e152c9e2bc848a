"""`/v1/models`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from app import db
from app.artifacts import repository as artifacts
from app.http import body, caching, lists, uploads
from app.http.documented import upload_body
from app.http.idempotency import OptionalKey
from app.http.problems import declared
from app.http.routing import Router
from app.models import repository, service
from app.models.schemas import FromArtifact, ModelView, State, view
from app.paging import Filter
from app.storage import get_storage

router = Router(prefix="/v1/models", tags=["models"])
_ARCHITECTURE = {"type": "string", "description": "JSON of the architecture, beside a file of weights alone"}
_BODY = upload_body(FromArtifact, architecture=_ARCHITECTURE)
_FILE = upload_body(architecture=_ARCHITECTURE)
_MADE = {
    200: {"model": ModelView, "description": "The same bytes were there"},
    201: {"model": ModelView, "description": "New; it is being inspected"},
    **declared(404, 409, 413, 415, 422, 507),
}


@router.post("", status_code=201, response_class=JSONResponse, responses=_MADE, openapi_extra=_BODY)
@router.put("", status_code=201, response_class=JSONResponse, responses=_MADE, openapi_extra=_FILE)
async def upload(request: Request, asked: Annotated[uploads.Asked, Depends()], key: OptionalKey) -> Response:
    """Upload a model (`.keras` or HDF5) as a form or as bare bytes, or name an artifact of a job (JSON, POST alone)."""
    if request.method == "POST" and body.media_type(request) == "application/json":
        wanted = body.validated(FromArtifact, body.parse(await body.raw(request)))
        return (await run_in_threadpool(service.add_artifact, wanted, key)).response()
    async with uploads.received(request, asked) as arrived:
        return (await run_in_threadpool(service.add, arrived, key)).response()


@router.get("", responses={200: {"model": lists.ListOf[ModelView]}, **declared()})
def page(wanted: Annotated[Filter, Depends(lists.wanted)], state: Annotated[State | None, Query()] = None) -> Response:
    """Models, newest first."""
    with db.read() as session:
        return lists.response(repository.page(session, lists.in_state(wanted, state)), view)


@router.get(
    "/{id}", responses={200: {"model": ModelView}, 304: {"description": "As in If-None-Match"}, **declared(404)}
)
def get(request: Request, id: str) -> Response:
    """A model, with its inspection once it is ready. `ETag` changes with everything that can be seen."""
    with db.read() as session:
        model = repository.get(session, id)
    etag = caching.etag(id, model.version)
    if caching.is_known(request, etag):
        return caching.not_modified(etag)
    return JSONResponse(view(model), headers={"ETag": etag})


@router.delete("/{id}", status_code=204, responses={204: {"description": "Gone"}, **declared(404, 409, 507)})
def delete(id: str) -> Response:
    """Remove a model that no unfinished job needs; finished jobs keep its id and their results."""
    with db.write() as session:
        blobs = repository.delete(session, id)
    artifacts.release(get_storage(), blobs)
    return Response(status_code=204)
