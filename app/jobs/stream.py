"""A job's events as they happen (Server-Sent Events), from any point, until the job is over."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from app import db
from app.jobs import events, repository
from app.jobs.schemas import event_view
from app.jobs.states import FINISHED
from app.jobs.watch import Watch
from app.tables import Event
from pruning.contract.errors import NotFound

_PAGE = 200
_QUIET_SECONDS = 30.0
_PING_SECONDS = 15


def response(watch: Watch, id: str, after: int) -> Response:
    """The stream of the events with a number above `after`."""
    return EventSourceResponse(_stream(watch, id, after), ping=_PING_SECONDS, headers={"Vary": "Accept"})


async def _stream(watch: Watch, id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    while True:
        try:
            version, is_over, found = await run_in_threadpool(_read, id, after)
        except NotFound:
            return
        for event in found:
            after = event.id
            body = event_view(event)
            yield ServerSentEvent(json.dumps(body), event=event.type, id=body["id"])
        if len(found) == _PAGE:
            continue
        if is_over:
            return
        await watch.changed(id, version, _QUIET_SECONDS)


def _read(id: str, after: int) -> tuple[int, bool, list[Event]]:
    """Version first: an event that comes after it changes it again."""
    with db.read() as session:
        version, state = repository.version(session, id)
        return version, state in FINISHED, list(events.page(session, id, after=after, limit=_PAGE))
