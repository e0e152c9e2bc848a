"""The inspection of ResNet-50's file of 100 MB, as a child does it, over Keras' own loading of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.surgery import SAVE

ROUNDS = 5
GOAL = 2.0


def measure() -> list[Figure]:
    """Both in turn in one process that has TensorFlow loaded."""
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
        began = time.perf_counter()
        pipeline.inspect(request, lambda _: None)
        between = time.perf_counter()
        keras.saving.load_model(path)
        print(between - began, time.perf_counter() - between, flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    rounds(Path(sys.argv[1]))
