"""Time against depth, memory against width: ResNet-50, 101, 152; the 350 million parameters of ConvNeXt-XLarge."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.surgery import in_memory, in_ram, interleaved, prune
from pruning import archive, graph

DEPTH_GOAL, MEMORY_GOAL = 1.25, 2.2
RESNETS = ("ResNet50", "ResNet101", "ResNet152")
SAVE = "import keras, sys; getattr(keras.applications, sys.argv[1])(weights=None).save(sys.argv[2])"


def measure() -> list[Figure]:
    """Milliseconds per layer, each depth over ResNet-50; bytes at the peak over those of the weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*depth(folder), memory(folder)]


def depth(folder: Path) -> list[Figure]:
    """Interleaved rounds on models in memory."""
    models = {name: in_ram(saved(name, folder)) for name in RESNETS}
    seconds = interleaved(*(partial(in_memory, model) for model in models.values()))
    per_layer = {
        name: tuple(1000 * taken / len(graph.build(model.config).ops) for taken in times)
        for (name, model), times in zip(models.items(), seconds, strict=True)
    }
    base, *deeper = RESNETS
    return [
        Figure(f"{name}: time per layer", base, per_layer[name], per_layer[base], DEPTH_GOAL, "ms") for name in deeper
    ]


def memory(folder: Path) -> Figure:
    """A process of its own: what it takes beyond its start, from reading the file to writing the pruned one."""
    path = saved("ConvNeXtXLarge", folder)
    weights = sum(array.nbytes for array in archive.read(path).arrays.values())
    command = [sys.executable, "-m", "benchmarks.growth", str(path), str(folder / "pruned.keras")]
    taken = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    over = "the bytes of its weights"
    return Figure("ConvNeXtXLarge from file to file: peak", over, (taken / 1e9,), (weights / 1e9,), MEMORY_GOAL, "GB")


def saved(name: str, folder: Path) -> Path:
    """A model of `keras.applications` as a file."""
    path = folder / f"{name}.keras"
    subprocess.run([sys.executable, "-c", SAVE, name, str(path)], check=True, stderr=subprocess.DEVNULL)
    return path


def peak(source: str, target: str) -> int:
    """Prune a file; bytes of resident memory at the peak beyond those before, pages of the mapped file included."""
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    archive.write(target, prune(archive.read(source)))
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    print(peak(*sys.argv[1:]))
