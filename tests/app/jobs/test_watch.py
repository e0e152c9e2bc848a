"""Waiting for jobs: all who wait share one read, and none is ended by a read that began before it came."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from app.jobs import watch
from app.jobs.watch import Watch

WAIT_SECONDS = 0.4


@pytest.mark.parametrize(("id", "seen"), [("another", "queued"), ("first", "running")])
def test_a_wait_that_begins_during_a_read_lasts(monkeypatch: pytest.MonkeyPatch, id: str, seen: str) -> None:
    reading, go = threading.Event(), threading.Event()

    def present(ids: Sequence[str]) -> dict[str, tuple[int, str]]:
        is_first = not reading.is_set()
        reading.set()
        assert go.wait(10)
        state = "queued" if is_first or id != "first" else "running"
        return dict.fromkeys(ids, (1, state))

    monkeypatch.setattr(watch, "_present", present)

    async def waited() -> float:
        made = Watch()
        first = asyncio.create_task(made.changed("first", "queued", WAIT_SECONDS))
        assert await asyncio.to_thread(reading.wait, 10)
        began = time.monotonic()
        second = asyncio.create_task(made.changed(id, seen, WAIT_SECONDS))
        await asyncio.sleep(0)
        go.set()
        await second
        seconds = time.monotonic() - began
        await first
        await made.close()
        return seconds

    assert asyncio.run(waited()) >= WAIT_SECONDS
