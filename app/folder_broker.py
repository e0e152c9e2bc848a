"""Kombu's `filesystem://` transport with messages that appear and disappear in one step.

Kombu writes a message in place and takes it by moving it through the system's temporary folder: a reader can meet half
a message, and a kill leaves a file behind. Here a message is written aside and renamed, and taken by a rename, too.
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

_STALE_SECONDS = 60


class Channel(filesystem.Channel):  # type: ignore[misc]
    """Messages are `TIME_UUID.QUEUE.msg`; a name that starts with a dot is being written or taken."""

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f"{time.time_ns():020d}_{uuid.uuid4().hex}.{queue}.msg"
        hidden = folder / f".{name}"
        try:
            hidden.write_text(dumps(payload))
            hidden.rename(folder / name)
        finally:
            hidden.unlink(missing_ok=True)

    def _get(self, queue: str) -> Any:
        folder = Path(self.data_folder_in)
        for path in sorted(self._waiting(folder, queue)):
            taken = folder / f".{path.name}"
            try:
                os.utime(path)  # it may have waited long: the sweep goes by when it was taken
                path.rename(taken)
            except FileNotFoundError:
                continue  # another worker was faster
            text = taken.read_text()
            taken.unlink()
            return loads(text)
        raise Empty()

    def _size(self, queue: str) -> int:
        return len(self._waiting(Path(self.data_folder_in), queue))

    @staticmethod
    def _waiting(folder: Path, queue: str) -> list[Path]:
        ending = f".{queue}.msg"
        return [path for path in folder.iterdir() if path.name.endswith(ending) and not path.name.startswith(".")]


class Transport(filesystem.Transport):  # type: ignore[misc]
    """The transport that `filesystem://` stands for in this service."""

    Channel = Channel


def sweep(folder: Path) -> int:
    """Remove what a killed process left while it wrote or took a message; how many files."""
    limit = time.time() - _STALE_SECONDS
    removed = 0
    for path in folder.glob(".*.msg"):
        with suppress(FileNotFoundError):  # it was taken meanwhile
            if path.stat().st_mtime < limit:
                path.unlink()
                removed += 1
    return removed
