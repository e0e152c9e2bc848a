"""`/v1/datasets`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from app import db
from app.artifacts import repository as artifacts
from app.datasets import repository, service
from app.datasets.schemas import DatasetView, view
from app.http import lists, uploads
from app.http.documented import upload_body
from app.http.idempotency import OptionalKey
from app.http.problems import declared
from app.http.routing import Router
from app.paging import Filter
from app.storage import get_storage

router = Router(prefix="/v1/datasets", tags=["datasets"])
_BODY = upload_body()
_MADE = {
    200: {"model": DatasetView, "description": "The same bytes were there"},
    201: {"model": DatasetView, "description": "New"},
    **declared(409, 413, 415, 422, 507),
}


@router.post("", status_code=201, responses=_MADE, openapi_extra=_BODY)
@router.put("", status_code=201, responses=_MADE, openapi_extra=_BODY)
async def upload(request: Request, asked: Annotated[uploads.Asked, Depends()], key: OptionalKey) -> Response:
    """Upload arrays (`.npz`) as a form or as bare bytes; what they are is said, or refused, at once."""
    async with uploads.received(request, asked) as arrived:
        return (await run_in_threadpool(service.add, arrived, key)).response()


@router.get("", responses={200: {"model": lists.ListOf[DatasetView]}, **declared()})
def page(wanted: Annotated[Filter, Depends(lists.wanted)]) -> Response:
    """Data sets, newest first."""
    with db.read() as session:
        return lists.response(repository.page(session, wanted), view)


@router.get("/{id}", responses={200: {"model": DatasetView}, **declared(404)})
def get(id: str) -> Response:
    """A data set."""
    with db.read() as session:
        return JSONResponse(view(repository.get(session, id)))


@router.delete("/{id}", status_code=204, responses={204: {"description": "Gone"}, **declared(404, 409, 507)})
def delete(id: str) -> Response:
    """Remove a data set that no unfinished job needs; finished jobs keep its id and their results."""
    with db.write() as session:
        blobs = repository.delete(session, id)
    artifacts.release(get_storage(), blobs)
    return Response(status_code=204)
