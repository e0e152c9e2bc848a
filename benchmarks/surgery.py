"""ResNet-50 at half its channels over Torch-Pruning's graph and step: graph, plan and surgery, then with files too.

Both sides have their weights in memory and run once before the clock; each prunes a model that was not pruned before.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from pruning import archive, criteria, graph, selection, surgery, units
from pruning.contract.criteria import L2
from pruning.contract.spec import Pruning, RatioTarget

ROUNDS = 9
PAUSE = 0.2  # seconds
GOAL, FILE_GOAL = 0.15, 0.7
ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv-peer"
SAVE = "import keras, sys; keras.applications.ResNet50(weights=None).save(sys.argv[1])"


def measure() -> list[Figure]:
    """Both figures, from interleaved rounds; without a reference where the peer cannot be installed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.keras"
        subprocess.run([sys.executable, "-c", SAVE, str(path)], check=True, stderr=subprocess.DEVNULL)
        sides = (partial(in_memory, in_ram(path)), partial(from_file_to_file, path))
        note = ""
        try:
            with peer() as theirs:
                (ours, reference), (with_files, files_reference) = (interleaved(side, theirs) for side in sides)
        except PeerMissing as error:
            note, reference, files_reference = str(error), (), ()
            ours, with_files = (interleaved(side)[0] for side in sides)
    over, what = "Torch-Pruning's graph and step", "ResNet-50, 50 % of channels: "
    return [
        Figure(f"{what}graph, scores, plan, surgery", over, ours, reference, GOAL, note=note),
        Figure(f"{what}the same from file to file", over, with_files, files_reference, FILE_GOAL, note=note),
    ]


def in_ram(path: Path) -> archive.Archive:
    """The model of a file, its arrays no longer mapped from there."""
    mapped = archive.read(path)
    return replace(mapped, arrays={name: np.array(array) for name, array in mapped.arrays.items()})


def interleaved(*sides: Callable[[], float]) -> list[tuple[float, ...]]:
    """The seconds of each side, one after the other in every round; the first round warms up and is left out.

    Before each it is quiet for a moment, as threads that spin on and files still to be written slow both sides down;
    then it runs once without the clock: what its neighbour left in the caches is not what is measured.
    """

    def alone(side: Callable[[], float]) -> float:
        time.sleep(PAUSE)
        side()
        return side()

    rounds = [[alone(side) for side in sides] for _ in range(ROUNDS + 1)][1:]
    return list(zip(*rounds, strict=True))


def in_memory(original: archive.Archive) -> float:
    """Seconds of one pruning of a model in memory."""
    started = time.perf_counter()
    pruned = prune(original)
    seconds = time.perf_counter() - started
    assert sum(a.size for a in pruned.arrays.values()) < 0.3 * sum(a.size for a in original.arrays.values())
    return seconds


def from_file_to_file(path: Path) -> float:
    """Seconds of one pruning with reading and writing."""
    started = time.perf_counter()
    archive.write(path.with_name("pruned.keras"), prune(archive.read(path)))
    return time.perf_counter() - started


def prune(original: archive.Archive) -> archive.Archive:
    """Graph, scores, plan and surgery."""
    pruning = Pruning(criterion=L2(name="l2"), scope="layer", target=RatioTarget(type="ratio", value=0.5))
    traced = graph.build(original.config)
    found = units.find(traced, original.arrays)
    scores = criteria.score(pruning.criterion, found, criteria.Evidence(original.arrays))
    removed = surgery.removed_of(selection.select(found, scores, pruning), found)
    return surgery.apply(original, traced, found, removed)


class PeerMissing(Exception):
    """Torch-Pruning is not here and could not be installed; the message says why."""


@contextmanager
def peer() -> Iterator[Callable[[], float]]:
    """A function that has Torch-Pruning do one round and returns its seconds."""
    command = [str(_installed_peer()), str(ROOT / "benchmarks" / "peer.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said, told = process.stdout, process.stdin
        assert said is not None
        assert told is not None
        assert said.readline() == "ready\n"

        def one_round() -> float:
            told.write("\n")
            told.flush()
            return float(said.readline())

        one_round()
        yield one_round
        told.close()


def _installed_peer() -> Path:
    """The interpreter of `.venv-peer`, made on first use."""
    python, done = PEER / "bin" / "python", PEER / ".installed"
    if not done.exists():
        interpreter = shutil.which("python3.11") or sys.executable
        constraints = str(ROOT / "benchmarks" / "constraints-peer.txt")
        install = [str(python), "-m", "pip", "install", "--quiet", "-c", constraints, "torch", "torch-pruning"]
        for command in ([interpreter, "-m", "venv", str(PEER)], install):
            finished = subprocess.run(command, capture_output=True, text=True, check=False)
            if finished.returncode:
                raise PeerMissing(f"Torch-Pruning could not be installed: {finished.stderr.strip()[-300:]}")
        done.touch()
    return python
