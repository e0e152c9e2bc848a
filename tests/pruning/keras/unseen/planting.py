"""Dead units planted in every layer of a model: what a magnitude criterion has to find, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pruning.archive import Arrays
from pruning.case import Case
from pruning.units import Group

SHARE = 0.3


@dataclass(frozen=True)
class Planted:
    """A model with dead units; `dead`: their positions in each group, by group id."""

    case: Case
    dead: dict[str, list[int]]

    @property
    def share(self) -> float:
        """The share of all units that compete which is dead."""
        widths = [len(group.units) for group in self.case.units.groups if _competes(group)]
        return sum(len(found) for found in self.dead.values()) / max(1, sum(widths))


def plant(case: Case, *, consumers: bool, seed: int = 0) -> Planted:
    """Zero, in fresh weights, all that makes about a third of the units of every prunable group.

    Producers and followers (biases, scales, shifts, statistics) are zero, so that the unit is zero wherever it goes as
    long as activations keep zero; with `consumers` also what reads it, so that it is dead behind any activation.
    """
    rng = np.random.default_rng(seed)
    arrays = fresh(case, rng)
    gone = np.zeros(case.units.count + 1, bool)
    dead: dict[str, list[int]] = {}
    for group in case.units.groups:
        width = len(group.units)
        if _competes(group) and width > 1:
            chosen = np.sort(rng.choice(width, max(1, min(width - 1, round(SHARE * width))), replace=False))
            gone[group.units[chosen]] = True
            dead[group.id] = chosen.tolist()
    for axis in case.units.axes:
        if axis.role != "consumer" or consumers:
            np.moveaxis(arrays[axis.weight], axis.axis, 0)[gone[axis.ids]] = 0
    return Planted(replace(case, archive=replace(case.archive, arrays=arrays)), dead)


def _competes(group: Group) -> bool:
    return group.barrier is None and group.structure == "channel"


def fresh(case: Case, rng: np.random.Generator) -> Arrays:
    """Weights in which nothing is zero or alike: kernels He-scaled, scales and variances in 0.5 ... 1.5, else 0.3."""
    arrays: Arrays = {}
    positive = {path for entry in case.units.layers if "Normalization" in entry.class_name for path in entry.weights}
    for path, array in case.archive.arrays.items():
        drawn: np.ndarray[Any, Any]
        if path not in case.units.sizes or array.dtype.kind != "f":
            drawn = np.array(array)
        elif array.ndim > 1:
            drawn = rng.normal(0, np.sqrt(2 / np.prod(array.shape[:-1])), array.shape)
        elif path in positive:
            drawn = rng.uniform(0.5, 1.5, array.shape)
        else:
            drawn = rng.normal(0, 0.3, array.shape)
        arrays[path] = drawn.astype(array.dtype)
    return arrays
