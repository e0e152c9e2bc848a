"""The inspection of ResNet-50's file of 100 MB, in a forked child as in the worker, over Keras' own loading of it."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figure import Figure
from benchmarks.surgery import SAVE

ROUNDS = 5
GOAL = 2.0


def measure() -> list[Figure]:
    """Both in turn, each in a fresh child of one process that has imported TensorFlow and has run nothing of it.

    In one process the first to load after `clear_session` pays for what the second then finds warm.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "resnet50.keras"
        subprocess.run([sys.executable, "-c", SAVE, str(path)], check=True, stderr=subprocess.DEVNULL)
        command = [sys.executable, "-m", "benchmarks.inspection", str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    times = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    ours, reference = zip(*times[1:], strict=True)  # the first round warms up
    return [Figure("inspection of ResNet-50", "keras.saving.load_model", ours, reference, GOAL)]


def rounds(path: Path) -> None:
    """Print the seconds of an inspection and of a loading, round by round."""
    import keras

    from pruning.contract.request import InspectRequest
    from pruning.keras import pipeline

    request = InspectRequest(upload=str(path), format="keras", out=str(path.parent))
    for _ in range(ROUNDS + 1):
        inspecting = _in_child(pipeline.inspect, request, _hear_nothing)
        print(inspecting, _in_child(keras.saving.load_model, path), flush=True)


def _hear_nothing(_: object) -> None:
    """The lines of a job, to nobody."""


def _in_child(work: Callable[..., Any], *arguments: Any) -> float:
    """The seconds that it takes in a fork of this process."""
    forks = multiprocessing.get_context("fork")
    receiver, sender = forks.Pipe(duplex=False)
    child = forks.Process(target=_timed, args=(sender, work, *arguments))
    child.start()
    sender.close()  # so that a child that died is an end of file here
    seconds: float = receiver.recv()
    child.join()
    return seconds


def _timed(sender: Any, work: Callable[..., Any], *arguments: Any) -> None:
    began = time.perf_counter()
    work(*arguments)
    sender.send(time.perf_counter() - began)


if __name__ == "__main__":
    rounds(Path(sys.argv[1]))
