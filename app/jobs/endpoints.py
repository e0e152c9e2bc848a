"""`/v1/jobs`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import db, ids, paging
from app.artifacts import repository as artifacts
from app.http import caching, lists
from app.http.body import Body, OptionalBody
from app.http.documented import PAGE_HEADERS, json_body
from app.http.idempotency import OptionalKey
from app.http.problems import declared
from app.http.routing import Router
from app.jobs import events, repository, service, stream
from app.jobs.schemas import (
    Artifacts,
    EventView,
    JobCreate,
    JobOverrides,
    JobView,
    Report,
    State,
    artifact_view,
    event_view,
    view,
)
from app.jobs.states import FINISHED
from app.pages import report as page_of_report
from app.paging import Filter
from app.settings import get_settings
from app.storage import get_storage
from pruning.contract.errors import JobNotFinished, MalformedRequest

router = Router(prefix="/v1/jobs", tags=["jobs"])
_QUEUED = {202: {"model": JobView, "description": "It waits for a worker"}, **declared(404, 409, 413, 415, 422, 507)}


@router.post("", status_code=202, responses=_QUEUED, openapi_extra=json_body(JobCreate))
def create(document: Body, key: OptionalKey) -> Response:
    """Ask for a pruning run."""
    return service.create(document, key).response()


@router.get("", responses={200: {"model": lists.ListOf[JobView]}, **declared()})
def page(
    wanted: Annotated[Filter, Depends(lists.wanted)],
    state: Annotated[State | None, Query()] = None,
) -> Response:
    """Jobs, newest first."""
    with db.read() as session:
        return lists.response(repository.page(session, lists.in_state(wanted, state)), view)


@router.get(
    "/{id}",
    responses={200: {"model": JobView}, 304: {"description": "As in If-None-Match"}, **declared(404)},
)
async def get(
    request: Request,
    id: str,
    wait: Annotated[
        float, Query(ge=0, allow_inf_nan=False, description="answer when the state changes, or after so many seconds")
    ] = 0,
) -> Response:
    """A job. `ETag` changes with everything that can be seen; `wait` ends at once if If-None-Match is out of date."""
    ids.check("job", id)
    if wait > 0:
        await _until_changed(request, id, min(wait, get_settings().max_wait_seconds))
    return await run_in_threadpool(_job, request, id)


def _job(request: Request, id: str) -> Response:
    with db.read() as session:
        if "if-none-match" in request.headers:
            etag = caching.etag(id, repository.version(session, id)[0])
            if caching.is_known(request, etag):
                return caching.not_modified(etag)
        job = repository.get(session, id)
    return JSONResponse(view(job), headers={"ETag": caching.etag(id, job.version)})


async def _until_changed(request: Request, id: str, seconds: float) -> None:
    """Wait until the state is another, for a client that knows the present one."""
    version, state = await run_in_threadpool(_version, id)
    given = request.headers.get("if-none-match")
    if state in FINISHED or (given is not None and not caching.is_known(request, caching.etag(id, version))):
        return
    await request.app.state.watch.changed(id, state, seconds)


def _version(id: str) -> tuple[int, str]:
    with db.read() as session:
        return repository.version(session, id)


@router.delete("/{id}", status_code=204, responses={204: {"description": "Gone"}, **declared(404, 409, 507)})
def delete(id: str) -> Response:
    """Remove a finished job with its events and artifacts."""
    with db.write() as session:
        blobs = repository.delete(session, id)
    artifacts.release(get_storage(), blobs)
    return Response(status_code=204)


@router.post(
    "/{id}/cancel",
    status_code=202,
    responses={202: {"model": JobView, "description": "It ends soon, or has"}, **declared(404, 409, 507)},
)
def cancel(id: str, key: OptionalKey) -> Response:
    """End a job that waits or runs; asking again is the same."""
    return service.cancel(ids.check("job", id), key).response()


@router.post("/{id}/clone", status_code=202, responses=_QUEUED, openapi_extra=json_body(JobOverrides, required=False))
def clone(id: str, overrides: OptionalBody, key: OptionalKey) -> Response:
    """A new job like this one, with the parts of the body that are given laid over it."""
    return service.clone(ids.check("job", id), overrides, key).response()


@router.get("/{id}/artifacts", responses={200: {"model": Artifacts}, **declared(404)})
def list_artifacts(id: str) -> Response:
    """The files that a job made."""
    with db.read() as session:
        repository.version(session, ids.check("job", id))
        found = artifacts.of_job(session, id)
    return JSONResponse({"items": [artifact_view(artifact) for artifact in found], "next_cursor": None})


@router.get(
    "/{id}/events",
    responses={
        200: {"model": lists.ListOf[EventView], "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **declared(404),
    },
)
async def list_events(
    request: Request,
    id: str,
    limit: lists.Limit = 50,
    cursor: lists.Cursor = None,
    last_event_id: Annotated[str | None, Header(description="go on after this event (SSE)")] = None,
) -> Response:
    """What happened to a job, oldest first: a JSON page, or all of it live with `Accept: text/event-stream`."""
    ids.check("job", id)
    if caching.prefers(request, "text/event-stream"):
        await run_in_threadpool(_version, id)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers={"Vary": "Accept"})
        return stream.response(request.app.state.watch, id, _event_number(last_event_id))
    return await run_in_threadpool(_events, id, limit, cursor)


def _events(id: str, limit: int, cursor: str | None) -> Response:
    with db.read() as session:
        repository.version(session, id)
        after = _event_number(paging.decode(cursor, "evt")) if cursor is not None else 0
        found = events.page(session, id, after=after, limit=limit + 1)
    items = [event_view(event) for event in found[:limit]]
    more = paging.encode(items[-1]["id"]) if len(found) > limit else None
    return JSONResponse({"items": items, "next_cursor": more}, headers={"Vary": "Accept"})


def _event_number(event_id: str | None) -> int:
    """The number in an event's id; 0 for none. Raises `MalformedRequest`."""
    digits = (event_id or "evt_0").removeprefix("evt_")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise MalformedRequest(f"{event_id!r} is not the id of an event")
    return int(digits)


@router.get(
    "/{id}/report",
    responses={200: {"model": Report, "content": {"text/html": {"schema": {"type": "string"}}}}, **declared(404, 409)},
)
def report(request: Request, id: str) -> Response:
    """All of a finished job, with its artifacts: JSON, or one page that needs nothing beside itself (`text/html`)."""
    with db.read() as session:
        job = repository.get(session, id)
        made = artifacts.of_job(session, id)
    if job.state not in FINISHED:
        raise JobNotFinished(f"job {id} is {job.state}: wait until it is {', '.join(FINISHED)}")
    found = {**view(job), "artifacts": [artifact_view(artifact) for artifact in made]}
    if caching.prefers(request, "text/html"):
        return HTMLResponse(page_of_report.render(found), headers={**PAGE_HEADERS, "Vary": "Accept"})
    return JSONResponse(found, headers={"Vary": "Accept"})
