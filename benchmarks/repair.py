"""What repairs without labels keep of a network that loses 30 % of its channels: test accuracy, no training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pruning
from benchmarks.figure import Figure
from benchmarks.public import DATA

SHARE = 0.3
NETWORKS = {
    "ResNet8": ("resnet8_cifar10.h5", "cifar10_small.npz"),
    "LeNet-5": ("lenet5_mnist.keras", "mnist_small.npz"),
}
RECOVERIES: tuple[tuple[str, ...], ...] = (
    (),
    ("fold",),
    ("batch_norm",),
    ("fold", "batch_norm"),
    ("least_squares",),
    ("least_squares", "batch_norm"),
)
# Of the points that are lost without any repair, ResNet8 may still lack this share: 68 % of 87.3 where 11.8 are left.
GOAL = 0.256


def measure(
    folder: Path = DATA, networks: Sequence[str] = tuple(NETWORKS), scopes: Sequence[str] = ("layer",)
) -> list[Figure]:
    """Points of test accuracy that each recovery still lacks, over those lost without one."""
    figures = []
    for network in networks:
        if not all((folder / name).exists() for name in NETWORKS[network]):
            raise SystemExit(f"repair needs {' and '.join(NETWORKS[network])} in {folder}")
        for scope in scopes:
            kept = {stages: _accuracies(network, scope, stages, folder) for stages in RECOVERIES}
            lost = kept[()][1] - kept[()][0]
            for stages, (ours, original) in kept.items():
                name = f"{network}, 30 % of channels by l2, scope {scope}: {' + '.join(stages) or 'nothing'}"
                goal = GOAL if (network, scope, stages) == ("ResNet8", "layer", ("least_squares",)) else None
                note = f"{ours:.1f} % of {original:.1f} %"
                figures.append(Figure(name, "nothing", (original - ours,), (lost,), goal, "points lost", note))
    return figures


def _accuracies(network: str, scope: str, stages: Sequence[str], folder: Path) -> tuple[float, float]:
    """Of the delivered and the original model on the test split, in percent."""
    model, data = NETWORKS[network]
    spec: dict[str, Any] = {
        "pruning": {"scope": scope, "target": {"type": "ratio", "value": SHARE}},
        "recovery": [{"stage": stage} for stage in stages],
        "measures": {"latency": None},
    }
    result = pruning.prune(folder / model, spec, folder / data)
    assert result.recovery is not None
    assert result.recovery.test is not None
    found = result.recovery.test.metrics["accuracy"]
    return 100 * (found.recovered or 0.0), 100 * (found.original or 0.0)
