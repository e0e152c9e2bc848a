"""ResNet-50 in plain PyTorch, pruned by Torch-Pruning. Runs in `.venv-peer`, never beside TensorFlow.

Says `ready`, then for every line on stdin does one round and prints its seconds: dependency graph, L2 scores, 50 % of
the channels out. The model of the next round is built outside the clock.
"""

from __future__ import annotations

import sys
import time

import torch
import torch_pruning
from torch import nn

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))


class Bottleneck(nn.Module):  # type: ignore[misc]  # torch is not installed where types are checked
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        projected = stride != 1 or inputs != outputs
        self.shortcut = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if projected
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet50() -> nn.Sequential:
    """25.6 million parameters, 1000 classes."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = 64
    for stage, (width, blocks) in enumerate(STAGES):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, 2 if stage and not block else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def prune(model: nn.Sequential, example: torch.Tensor) -> float:
    """Seconds of one pruning."""
    started = time.perf_counter()
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        example,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[model[-1]],
    )
    pruner.step()
    return time.perf_counter() - started


def main() -> None:
    example = torch.randn(1, 3, 224, 224)
    model = resnet50().eval()
    assert sum(weight.numel() for weight in model.parameters()) == 25_557_032
    print("ready", flush=True)
    for _ in sys.stdin:
        print(prune(model, example), flush=True)
        assert model[0].out_channels == 32
        model = resnet50().eval()


if __name__ == "__main__":
    main()
