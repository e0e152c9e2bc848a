"""Evidence -> a score per unit, higher is kept. One file per kind of evidence; the tables below are the registry.

Keys are the spec's classes. To add a criterion: its class in `contract/criteria.py`, its function in a file here, its
line in `CHANNEL` and, if it scores single weights, in `WEIGHT`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pruning.contract.base import Record
from pruning.contract.criteria import L1, L2, BatchNormScale, Criterion, MeanAbs, Random
from pruning.criteria import magnitude, normalization_scale, uniform
from pruning.criteria.comparable import Array, Arrays, Floats

if TYPE_CHECKING:
    from pruning.units import Units

CHANNEL: dict[type[Record], Callable[[Any, Units, Arrays, int], dict[str, Floats]]] = {
    L1: magnitude.channels,
    L2: magnitude.channels,
    MeanAbs: magnitude.channels,
    BatchNormScale: normalization_scale.channels,
    Random: uniform.channels,
}
WEIGHT: dict[type[Record], Callable[[Any, str, Array, int], Floats]] = {
    L1: magnitude.weights,
    L2: magnitude.weights,
    MeanAbs: magnitude.weights,
    Random: uniform.weights,
}


def score(criterion: Criterion, units: Units, arrays: Arrays, seed: int = 0) -> dict[str, Floats]:
    """Scores of the prunable groups by group id, float64, aligned with `group.units`; finite.

    A group that the criterion finds no evidence for is left out: its units stay, unless `layers` names them.
    """
    return CHANNEL[type(criterion)](criterion, units, arrays, seed)


def score_weights(criterion: Criterion, arrays: Arrays, seed: int = 0) -> dict[str, Floats]:
    """Scores of the elements of these kernels by path, of the kernels' shapes, float32; finite."""
    return {path: WEIGHT[type(criterion)](criterion, path, array, seed) for path, array in arrays.items()}


__all__ = ["CHANNEL", "WEIGHT", "score", "score_weights"]
