"""Files by content: a blob is named by its SHA-256, appears whole or not at all, and never changes.

    files/blobs/ab/cdef...   the blobs        files/tmp/...   what is being written

A file is written under `tmp/`, hashed on the way, flushed to the disk and renamed. Its writer holds a lock on it, so a
file whose writer died is told from one that is slow. Another scheme (s3://) is another class with these methods.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Self

from app.settings import get_settings
from pruning.contract.errors import FULL, OutOfStorage

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WRITE_BACK_BYTES = 16 * 2**20


class Staged:
    """A file being written. As a context manager it is discarded at the end unless it was committed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._on_its_way = 0
        self._digest = hashlib.sha256()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    @property
    def sha256(self) -> str:
        """The digest of what was written so far, in hex."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append bytes. Raises `OutOfStorage` when the disk is full."""
        self._digest.update(chunk)
        rest = memoryview(chunk)
        self.size_bytes += rest.nbytes
        with _full_disk_by_name():
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        if self.size_bytes - self._on_its_way >= _WRITE_BACK_BYTES:
            # Starts the disk on these bytes now; a gigabyte left for `flush` is seconds in which nothing else happens.
            os.posix_fadvise(self._fd, self._on_its_way, self.size_bytes - self._on_its_way, os.POSIX_FADV_DONTNEED)
            self._on_its_way = self.size_bytes

    def flush(self) -> None:
        """Bring the bytes to the disk: do this before a transaction, so that `commit` inside it only renames."""
        with _full_disk_by_name():
            os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file; one that was not committed is removed."""
        if self._fd >= 0:
            with suppress(FileNotFoundError):
                self.path.unlink()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileStorage:
    """Blobs in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._temporary = root / "tmp"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._temporary.mkdir(parents=True, exist_ok=True)

    def create(self) -> Staged:
        """A new file to write to. Raises `OutOfStorage` when the disk is full."""
        with _full_disk_by_name():
            return Staged(self._temporary / secrets.token_hex(16))

    def commit(self, staged: Staged) -> str:
        """Make the staged file a blob and return its SHA-256. The same bytes again are the same blob."""
        digest = staged.sha256
        target = self.path(digest)
        with _full_disk_by_name():
            staged.flush()
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                _sync_folder(self._blobs)
            staged.path.replace(target)
            _sync_folder(target.parent)
        staged.close()
        return digest

    def path(self, sha256: str) -> Path:
        """Where the blob lies, or would lie. Raises ValueError for what is no SHA-256 in hex."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"a SHA-256 is 64 hex digits in lower case, got {sha256!r}")
        return self._blobs / sha256[:2] / sha256[2:]

    def open(self, sha256: str) -> BinaryIO:
        """The blob, for reading. Raises FileNotFoundError."""
        return self.path(sha256).open("rb")

    def delete(self, sha256: str) -> bool:
        """Remove the blob; whether it was there."""
        try:
            self.path(sha256).unlink()
        except FileNotFoundError:
            return False
        return True

    def blobs(self) -> Iterator[str]:
        """The SHA-256 of every blob, in no order."""
        for folder in self._blobs.iterdir():
            yield from (folder.name + file.name for file in folder.iterdir())

    def sweep(self, older_than: float) -> int:
        """Remove temporary files untouched for `older_than` seconds whose writer is gone; how many."""
        return sum(_remove_if_abandoned(path, older_than) for path in self._temporary.iterdir())


def get_storage() -> FileStorage:
    """The storage that the settings name."""
    return _storage(get_settings().storage_dir)


_storage = lru_cache(FileStorage)


def _remove_if_abandoned(path: Path, older_than: float) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        if time.time() - os.fstat(fd).st_mtime < older_than:
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(fd)
    return True


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _full_disk_by_name() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise OutOfStorage() from error
        raise
