"""The quality that ResNet8 keeps on CIFAR-10, with and without distillation: the README's figures; 15 minutes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pruning
from benchmarks.figure import Figure
from benchmarks.public import DATA

SEEDS = (0, 1)
HALF_MACS = {"target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.5}}
HALF_WEIGHTS = {"structure": "weight", "target": {"type": "ratio", "value": 0.5}}
CASES: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("ResNet8, half the MACs", HALF_MACS, 5),
    ("ResNet8, half the weights zero", HALF_WEIGHTS, 4),
)


def measure(folder: Path = DATA, seeds: Sequence[int] = SEEDS, epochs: int | None = None) -> list[Figure]:
    """Test accuracy of the delivered file for each case and share of distillation; `epochs` in place of the case's."""
    if not (folder / "resnet8_cifar10.h5").exists():
        raise SystemExit(f"quality needs resnet8_cifar10.h5 and cifar10_small.npz in {folder}")
    return [
        _figure(f"{name}, {epochs or usual} epochs, distill {share:g}", target, epochs or usual, share, folder, seeds)
        for name, target, usual in CASES
        for share in (0.5, 0.0)
    ]


def _figure(
    name: str, target: dict[str, Any], epochs: int, distill: float, folder: Path, seeds: Sequence[int]
) -> Figure:
    stage = {"stage": "fine_tune", "epochs": epochs, "distill": distill}
    spec = {"pruning": target, "recovery": [stage], "measures": {"latency": None}}
    pairs = [_accuracies(spec | {"seed": seed}, folder) for seed in seeds]
    ours, originals = zip(*pairs, strict=True)
    told = ", ".join(f"seed {seed}: {value:.1f} %" for seed, value in zip(seeds, ours, strict=True))
    return Figure(name, "the original", ours, originals, unit="% on test", note=told)


def _accuracies(spec: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Of the delivered and the original model on the test split, in percent."""
    result = pruning.prune(folder / "resnet8_cifar10.h5", spec, folder / "cifar10_small.npz")
    assert result.recovery is not None
    assert result.recovery.test is not None
    found = result.recovery.test.metrics["accuracy"]
    return 100 * (found.recovered or 0.0), 100 * (found.original or 0.0)
