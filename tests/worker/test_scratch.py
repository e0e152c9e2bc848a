"""Folders of jobs: removed at the end, also those of a worker that died; what a child leaves in them is not trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.scratch import BadFile, JobFolder, Scratch, sweep

ROOT = Path(__file__).parents[2]


def test_a_folder_is_there_for_its_job_alone(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.write_bytes(b"kept")
    scratch = Scratch(tmp_path / "scratch")
    with scratch.folder() as folder:
        assert folder.link("model.keras", stored).read_bytes() == b"kept"
        (folder.out / "deep" / "er").mkdir(parents=True)
        (folder.out / "deep" / "er" / "file").write_text("x")
        (folder.out / "deep").chmod(0)
        (folder.path / "link").symlink_to(tmp_path)
    assert not folder.path.exists()
    assert stored.read_bytes() == b"kept"
    scratch.close()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job")
    made.out.mkdir(parents=True)
    return made


def test_an_artifact_is_opened_as_it_is(folder: JobFolder) -> None:
    (folder.out / "model.keras").write_bytes(b"model")
    with folder.open("model.keras") as file:
        assert file.read() == b"model"


@pytest.mark.parametrize("kind", ["missing", "symlink", "hard link", "folder", "fifo", "linked folder"])
def test_what_is_no_plain_file_is_refused(folder: JobFolder, tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    artifact = folder.out / "artifact"
    match kind:
        case "symlink":
            artifact.symlink_to(secret)
        case "hard link":
            artifact.hardlink_to(secret)
        case "folder":
            artifact.mkdir()
        case "fifo":
            os.mkfifo(artifact)
        case "linked folder":
            folder.out.rmdir()
            folder.out.symlink_to(tmp_path)
            (tmp_path / "artifact").write_text("secret")
    with pytest.raises(BadFile, match="artifact"):
        folder.open("artifact")


def test_the_sweep_removes_what_dead_workers_left_and_nothing_else(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from worker.scratch import Scratch\n"
        "scratch = Scratch(Path(sys.argv[1])); (scratch.path / 'job').mkdir(); print(scratch.path, flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    mine = Scratch(tmp_path)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        theirs = Path(other.stdout.readline().strip())
        assert sweep(tmp_path) == 0
        assert (theirs / "job").is_dir()
        other.kill()
    assert sweep(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == sorted([mine.path, mine.path.with_suffix(".lock")])
    mine.close()
