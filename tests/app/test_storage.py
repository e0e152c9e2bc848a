"""Files by content: whole or not at all, whoever dies."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app import storage
from app.storage import FileStorage
from pruning.contract.errors import OutOfStorage

CONTENT = b"pruned" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def files(tmp_path: Path) -> FileStorage:
    return FileStorage(tmp_path / "files")


def everything(files: FileStorage) -> list[str]:
    return sorted(str(path.relative_to(files.root)) for path in files.root.rglob("*") if path.is_file())


def put(files: FileStorage, content: bytes = CONTENT) -> str:
    with files.create() as staged:
        staged.write(content)
        return files.commit(staged)


def test_a_blob_is_named_by_its_content(files: FileStorage) -> None:
    with files.create() as staged:
        staged.write(CONTENT[:7])
        staged.write(memoryview(CONTENT)[7:])
        assert (staged.sha256, staged.size_bytes) == (DIGEST, len(CONTENT))
        assert files.commit(staged) == DIGEST
    assert everything(files) == [f"blobs/{DIGEST[:2]}/{DIGEST[2:]}"]
    with files.open(DIGEST) as file:
        assert file.read() == CONTENT
    assert list(files.blobs()) == [DIGEST]
    assert files.path(DIGEST).stat().st_mode & 0o077 == 0


def test_an_exception_leaves_no_file(files: FileStorage) -> None:
    def broken_upload() -> None:
        with files.create() as staged:
            staged.write(CONTENT)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken_upload()
    assert everything(files) == []


def test_what_is_not_committed_is_discarded(files: FileStorage) -> None:
    with files.create() as staged:
        staged.write(CONTENT)
    assert everything(files) == []
    staged.close()


def test_the_same_bytes_twice_at_once_are_one_blob(files: FileStorage) -> None:
    barrier = threading.Barrier(8)
    digests: list[str] = []

    def upload() -> None:
        with files.create() as staged:
            staged.write(CONTENT)
            barrier.wait()
            digests.append(files.commit(staged))

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert digests == [DIGEST] * 8
    assert everything(files) == [f"blobs/{DIGEST[:2]}/{DIGEST[2:]}"]
    assert files.path(DIGEST).read_bytes() == CONTENT


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_and_leaves_nothing(
    files: FileStorage, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((Path, "replace") if step == "replace" else (storage.os, step)), full)
    with pytest.raises(OutOfStorage):
        put(files)
    monkeypatch.undo()
    assert everything(files) == []


def test_other_errors_keep_their_name(files: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(storage.os, "write", broken)
    with pytest.raises(OSError, match="broken"):
        put(files)
    assert everything(files) == []


def test_a_killed_writers_file_is_swept_and_a_slow_writers_kept(files: FileStorage) -> None:
    code = (
        "import sys, time; from pathlib import Path; from app.storage import FileStorage\n"
        "staged = FileStorage(Path(sys.argv[1])).create(); staged.write(b'half')\n"
        "print(staged.path.name, flush=True); time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(files.root)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer, files.create() as mine:
        name = writer.stdout.readline().strip()
        mine.write(CONTENT)
        assert files.sweep(0) == 0
        writer.kill()
        writer.wait()
        assert files.sweep(3600) == 0
        assert files.sweep(0) == 1
        assert name not in os.listdir(files.root / "tmp")
        assert files.commit(mine) == DIGEST


def test_delete_says_whether_there_was_something(files: FileStorage) -> None:
    put(files)
    assert files.delete(DIGEST) is True
    assert files.delete(DIGEST) is False
    with pytest.raises(FileNotFoundError):
        files.open(DIGEST)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", DIGEST.upper(), DIGEST + "\n", DIGEST[:-1], "g" * 64])
def test_only_digests_are_paths(files: FileStorage, name: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        files.path(name)
