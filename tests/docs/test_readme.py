"""The README's sessions run as they are printed, against a real service and with the library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.service import running
from tests.docs.paths import ROOT
from tests.e2e import tiny

TEXT = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """The one code block of a language in the README."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo seems to have run; its model and data are tiny ones."""
    made = tmp_path_factory.mktemp("reader")
    (made / "demo-output").mkdir()
    tiny.data(made / "demo-output" / "digits.npz")
    tiny.model(made / "demo-output" / "digits.keras")
    return made


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= 100


def test_the_curl_session_runs(folder: Path, tmp_path: Path) -> None:
    with running(tmp_path / "data", tmp_path / "log") as address:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block("bash")],
            cwd=folder,
            env=os.environ | {"S": address},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("succeeded {")
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    downloaded = [path.name for path in folder.glob("*.keras")]
    assert len(downloaded) == 1


def test_the_library_runs_in_six_lines(folder: Path) -> None:
    code = block("python")
    assert len([line for line in code.splitlines() if line]) <= 6
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sparsity, accuracy = (float(word) for word in done.stdout.splitlines()[-1].split())
    assert sparsity == pytest.approx(90 / 131)  # 80 % of the kernels, 64 + 48 weights; the biases are 19 more
    assert 0 <= accuracy <= 1
    assert list((folder / "pruned").glob("*.keras"))
