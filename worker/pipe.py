"""What goes between a job's process and its supervisor: JSON, capped and checked, never pickle."""

from __future__ import annotations

import os

from pydantic import ValidationError

from pruning.contract.base import Record
from pruning.contract.progress import LINE, MAX_LINE_BYTES, Line

_READ_BYTES = 2**20


class Order(Record):
    """What a child may have: its scratch folder, the files it may read beside the system's, and bytes of memory."""

    scratch: str
    readable: tuple[str, ...]
    memory_bytes: int


class BadLine(Exception):
    """What came is no line of the contract."""


def write(fd: int, line: Line) -> None:
    """Send one line. Raises `BrokenPipeError` when nobody reads any more."""
    data = memoryview(line.model_dump_json().encode() + b"\n")
    while data:
        data = data[os.write(fd, data) :]


class Reader:
    """Collects what comes on a descriptor into checked lines. `closed`: the other end will send no more."""

    def __init__(self, fd: int, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._limit = max_line_bytes
        self._rest = bytearray()
        self.closed = False

    def read(self) -> list[Line]:
        """The lines that are complete by now, perhaps none; at most 1 MiB a call, so that no flood keeps the caller.

        Raises `BadLine` for a line that is too long or outside the contract, and for half a line at the end.
        """
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        self.closed = not data
        searched = len(self._rest)
        self._rest += data
        lines: list[Line] = []
        start = 0
        while (end := self._rest.find(b"\n", max(start, searched))) >= 0:
            lines.append(self._check(bytes(self._rest[start:end])))
            start = end + 1
        del self._rest[:start]
        if len(self._rest) > self._limit:
            raise BadLine(f"a line of more than {self._limit} bytes")
        if self.closed and self._rest:
            raise BadLine("the last line has no end")
        return lines

    def _check(self, line: bytes) -> Line:
        if len(line) > self._limit:
            raise BadLine(f"a line of {len(line)} bytes; at most {self._limit} are read")
        try:
            return LINE.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise BadLine(f"a line outside the contract: {place}: {first['msg']}") from None


class Tail:
    """The last bytes of what a process prints: it may print without end and costs no more than `keep_bytes`."""

    def __init__(self, fd: int, keep_bytes: int = 65536) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._keep = keep_bytes
        self._kept = bytearray()
        self.closed = False

    def read(self) -> None:
        """Take what has come, at most 1 MiB."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        self.closed = not data
        self._kept += data
        del self._kept[: -self._keep]

    def text(self) -> str:
        """What is kept, broken characters replaced."""
        return self._kept.decode(errors="replace")
