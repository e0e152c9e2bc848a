"""Who waits for a job to change: one small read every tenth of a second for all of them, in place of one each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from app import db
from app.tables import Job

_PERIOD = 0.1
_SLOW_PERIOD = 1.0
_AT_ONCE = 500
_log = structlog.get_logger(__name__)


class Watch:
    """One of each event loop. It reads only while somebody waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[asyncio.Future[None], int]] = defaultdict(dict)
        self._reader: asyncio.Task[None] | None = None

    async def changed(self, id: str, version: int, seconds: float) -> bool:
        """Whether the job has another version, or is gone, before `seconds` are over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[id][future] = version
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return False
        finally:
            self._waiting[id].pop(future, None)
            if not self._waiting[id]:
                del self._waiting[id]
        return True

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
            try:
                versions = await run_in_threadpool(_versions, list(self._waiting))
            except SQLAlchemyError as error:
                _log.warning("watch_failed", error=type(error).__name__)
                period = _SLOW_PERIOD
                continue
            period = _PERIOD
            for id, waiters in self._waiting.items():
                for future, version in waiters.items():
                    if versions.get(id) != version and not future.done():
                        future.set_result(None)


def _versions(ids: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    with db.read() as session:
        for start in range(0, len(ids), _AT_ONCE):
            query = select(Job.id, Job.version).where(Job.id.in_(ids[start : start + _AT_ONCE]))
            found.update((row.id, row.version) for row in session.execute(query))
    return found
