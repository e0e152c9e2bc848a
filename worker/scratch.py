"""Folders that jobs work in: one per worker, locked while it lives, and in it one per job, removed at its end."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


class BadFile(Exception):
    """What a child left as an artifact is not a plain file of its own."""


@dataclass(frozen=True)
class JobFolder:
    """`path` is all that the child may write in; `out` holds what it makes, `link` names what it reads."""

    path: Path

    @property
    def out(self) -> Path:
        """Where artifacts are written."""
        return self.path / "out"

    def link(self, name: str, target: Path) -> Path:
        """A symbolic link by which the child reads a stored file under a name with the suffix that readers expect.

        The file itself is never in the folder: a hard link would let the child change what others read.
        """
        link = self.path / name
        link.symlink_to(target)
        return link

    def open(self, name: str) -> BinaryIO:
        """An artifact, opened without following links. Raises `BadFile` for anything but a plain file with one name."""
        try:
            folder = os.open(self.out, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise BadFile(f"{name}: {error.strerror}") from error
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(fd)
            raise BadFile(f"{name}: not a plain file with one name")
        return os.fdopen(fd, "rb")


class Scratch:
    """This worker's folder below `root`, from the first job to `close`."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.path = root / uuid.uuid4().hex
        self._lock_path = self.path.with_suffix(".lock")
        self._lock = _lock(self._lock_path)
        self.path.mkdir(mode=0o700)

    @contextmanager
    def folder(self) -> Iterator[JobFolder]:
        """A fresh folder, removed afterwards with all that is in it."""
        path = self.path / uuid.uuid4().hex
        try:
            (path / "out").mkdir(mode=0o700, parents=True)
            yield JobFolder(path)
        finally:
            _remove(path)

    def close(self) -> None:
        """Remove the folder and free the lock."""
        _remove(self.path)
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)


def sweep(root: Path) -> int:
    """Remove the folders of workers that have died; how many there were."""
    removed = 0
    for lock_path in root.glob("*.lock"):
        with suppress(FileNotFoundError):  # another worker's sweep, or the owner itself, was quicker
            lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _remove(lock_path.with_suffix("")):
                    lock_path.unlink()
                    removed += 1
            except BlockingIOError:  # its owner lives
                continue
            finally:
                os.close(lock)
    return removed


def _lock(path: Path) -> int:
    """A descriptor that holds the lock of `path`, made anew if a sweep takes the file away before it is locked."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        os.close(lock)


def _remove(path: Path) -> bool:
    """Remove a tree; links in it are removed, never followed. Whether it is gone."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # a child may have taken its own rights away
        _open_up(path)
        shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _open_up(folder: Path) -> None:
    with suppress(OSError):
        folder.chmod(0o700)
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                _open_up(entry)
