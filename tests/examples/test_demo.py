"""The demo from its first line to its last, and what is left when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from examples.show import rows
from tests.app.pages import jobs

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "examples.demo"]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def test_the_table_shows_the_results_figures() -> None:
    result = jobs.CHANNEL.model_dump(mode="json")
    table = {label: figures for label, *figures in rows([result, result])}
    assert table["parameters"] == ["78,666", "39,001", "39,001"]
    assert table["MACs of one sample"] == ["12,501,632", "6,126,000", "6,126,000"]
    assert table["latency in ms, of the original"] == ["", "1.41 of 1.90", "1.41 of 1.90"]
    assert table["accuracy, test"] == ["87.13%", "85.75%", "85.75%"]
    assert table["R = L_orig / L_pruned, test"] == ["1", "0.872", "0.872"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_does_what_it_promises(tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Before and after" in done.stdout
    output = tmp_path / "demo-output"
    for name, measure in (("channels", "macs"), ("weights", "nonzero_parameters")):
        job = json.loads((output / name / "job.json").read_text())
        assert job["result"]["verification"]["passed"]
        assert job["result"]["measures"]["ratio"][measure] <= 0.5
        assert job["result"]["recovery"]["test"]["metrics"]["accuracy"]["original"] >= 0.97
        assert (output / name / "model.keras").stat().st_size == job["result"]["measures"]["after"]["size_bytes"]
        assert "<svg" in (output / name / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        COMMAND, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=_hears_interrupts
    ) as process:
        assert process.stderr is not None
        assert "The service answers" in process.stderr.readline()
        started = psutil.Process(process.pid).children(recursive=True)
        assert len(started) >= 3
        time.sleep(1)
        process.send_signal(number)
        process.stderr.read()
        assert process.wait(60) in (130, 143)
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


def _hears_interrupts() -> None:
    """A shell that runs the tests in the background has SIGINT ignored, which children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
