"""Who waits for a job to change: one small read every twentieth of a second for all of them, in place of one each.

Where reads take long they come less often, so that they take a tenth of the time at most.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import suppress

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from app import db
from app.tables import Job

_PERIOD = 0.05
_SHARE = 0.1
_SLOW_PERIOD = 1.0
_AT_ONCE = 500
_log = structlog.get_logger(__name__)


class Watch:
    """One of each event loop. It reads only while somebody waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Future[None], int | str]] = defaultdict(dict)
        self._reader: asyncio.Task[None] | None = None

    async def changed(self, id: str, seen: int | str, seconds: float) -> None:
        """Wait until the job's version (a number) or state (a text) is no longer the one seen, or `seconds` are over.

        A job that is gone has changed.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[id][future] = seen
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(future, seconds)
        finally:
            self._waiting[id].pop(future, None)
            if not self._waiting[id]:
                del self._waiting[id]

    async def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    async def _read(self) -> None:
        period = _PERIOD
        while self._waiting:
            await asyncio.sleep(period)
            began = time.monotonic()
            # Who comes while the database is read has seen something newer than what it says.
            asked = [(id, future, seen) for id, one in self._waiting.items() for future, seen in one.items()]
            try:
                present = await run_in_threadpool(_present, list(self._waiting))
            except SQLAlchemyError as error:
                _log.warning("watch_failed", error=type(error).__name__)
                period = _SLOW_PERIOD
                continue
            period = max(_PERIOD, (time.monotonic() - began) / _SHARE)
            for id, future, seen in asked:
                if seen not in present.get(id, ()) and not future.done():
                    future.set_result(None)


def _present(ids: list[str]) -> dict[str, tuple[int, str]]:
    """Version and state of the jobs that are there."""
    found: dict[str, tuple[int, str]] = {}
    with db.read() as session:
        for start in range(0, len(ids), _AT_ONCE):
            query = select(Job.id, Job.version, Job.state).where(Job.id.in_(ids[start : start + _AT_ONCE]))
            found.update((row.id, (row.version, row.state)) for row in session.execute(query))
    return found
