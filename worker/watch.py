"""A child from its start to its end: what it says, what it takes, and why it was stopped."""

from __future__ import annotations

import resource
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from pruning.contract.progress import Failed, Inspected, Line, Produced, Progress, Pruned, Sandboxed
from worker.pipe import BadLine, Reader, Tail
from worker.spawn import Child

TICK_SECONDS = 0.2
MAX_FILES = 64
_PAGE_BYTES = resource.getpagesize()

Reason = Literal["cancelled", "lease_lost", "shutdown", "time_limit", "memory_limit", "bad_line"]
Final = Pruned | Inspected | Failed


@dataclass(frozen=True)
class Stop:
    """Why a child has to end now."""

    reason: Reason
    detail: str = ""


@dataclass
class Ending:
    """How a child ended. `stop`: why it was killed, if we killed it; `final`: its last line, if it came to that."""

    stop: Stop | None = None
    status: int | None = None
    final: Final | None = None
    produced: list[Produced] = field(default_factory=list)
    output: str = ""

    @property
    def complete(self) -> bool:
        """Whether it ended by itself, with its last line said and the exit code that belongs to it."""
        expected = 1 if isinstance(self.final, Failed) else 0
        return self.stop is None and self.final is not None and self.status == expected


def watch(
    child: Child,
    *,
    run_seconds: float,
    memory_bytes: int,
    on_news: Callable[[Progress | Sandboxed], None],
    check: Callable[[], Stop | None],
) -> Ending:
    """Follow `child` until it has ended. `check` is asked every 0.2 s whether it has to end, and so are the limits."""
    ending = Ending()
    reader, tail = Reader(child.lines), Tail(child.output)
    end = time.monotonic() + run_seconds

    def listen() -> None:
        for line in reader.read():
            _take(ending, line, on_news)

    with selectors.DefaultSelector() as selector:
        selector.register(child.told, selectors.EVENT_READ, child.check)
        selector.register(child.lines, selectors.EVENT_READ, listen)
        selector.register(child.output, selectors.EVENT_READ, tail.read)
        next_check = 0.0
        while not child.ended:
            for key, _ in selector.select(TICK_SECONDS):
                try:
                    key.data()
                except BadLine as error:
                    ending.stop = ending.stop or Stop("bad_line", str(error))
            for source, fd in ((reader, child.lines), (tail, child.output)):
                if source.closed and fd in selector.get_map():
                    selector.unregister(fd)
            if ending.stop is None and time.monotonic() >= next_check:
                next_check = time.monotonic() + TICK_SECONDS
                ending.stop = check() or _over_limits(child.pid, end, run_seconds, memory_bytes)
            if ending.stop is not None:
                child.kill()
    ending.status = child.status
    if ending.stop is None:
        try:
            listen()  # a pipe holds less than one reading takes
            listen()
        except BadLine as error:
            ending.stop = Stop("bad_line", str(error)) if child.status == 0 else None
    tail.read()
    ending.output = tail.text()
    return ending


def _take(ending: Ending, line: Line, on_news: Callable[[Progress | Sandboxed], None]) -> None:
    if ending.final is not None:
        raise BadLine(f"a line of type {line.type} after the last one")
    if isinstance(line, Progress | Sandboxed):
        on_news(line)
    elif isinstance(line, Produced):
        ending.produced.append(line)
        if len(ending.produced) > MAX_FILES:
            raise BadLine(f"more than {MAX_FILES} files")
    else:
        ending.final = line


def _over_limits(pid: int, end: float, run_seconds: float, memory_bytes: int) -> Stop | None:
    if time.monotonic() >= end:
        return Stop("time_limit", f"it ran longer than its limit of {run_seconds:g} seconds")
    if resident(pid) > memory_bytes and (taken := private(pid)) > memory_bytes:
        return Stop("memory_limit", f"it took {taken} bytes of memory, more than its limit of {memory_bytes}")
    return None


def resident(pid: int) -> int:
    """Bytes of memory that a process has, shared ones included: quickly read, never less than `private`."""
    with suppress(OSError), open(f"/proc/{pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * _PAGE_BYTES
    return 0


def private(pid: int) -> int:
    """Bytes of memory that a process shares with nobody: what it still shares with the zygote is not its own."""
    with suppress(OSError):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            fields = dict(line.split(":", 1) for line in rollup if line.endswith("kB\n"))
        return 1024 * sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
    return 0
