"""What makes scores comparable: evidence of several producers joined per unit, and a scale common to all groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pruning.units import Axis, Group, Units

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Floats: TypeAlias = NDArray[np.floating[Any]]
Aggregation = Literal["mean", "max", "none"]
Normalization = Literal["auto", "none", "mean", "max", "standard", "sum", "lamp"]


def by_group(
    units: Units, axes: Iterable[Axis], values: Callable[[Axis], Floats]
) -> list[tuple[Group, dict[str, Floats]]]:
    """For each prunable group, by layer, the sums of `values` (one per index of an axis) over the group's units.

    A unit may own several indices of an axis, and a layer several axes. Layers that miss some of a group's units are
    left out.
    """
    owner = np.full(units.count + 1, -1, dtype=np.int64)
    place = np.zeros(units.count + 1, dtype=np.int64)
    for index, group in enumerate(units.groups):
        owner[group.units] = index if group.barrier is None else -1
        place[group.units] = np.arange(len(group.units))
    sums: dict[int, dict[str, Floats]] = {}
    covered: dict[tuple[int, str], Array] = {}
    for axis in axes:
        if not (owner[axis.ids] >= 0).any():
            continue
        found = values(axis)
        for index in np.unique(owner[axis.ids]):
            if index >= 0:
                here = owner[axis.ids] == index
                size = len(units.groups[index].units)
                total = np.bincount(place[axis.ids[here]], found[here], minlength=size)
                seen = np.bincount(place[axis.ids[here]], minlength=size)
                of_group, key = sums.setdefault(int(index), {}), (int(index), axis.layer)
                of_group[axis.layer] = of_group.get(axis.layer, 0.0) + total
                covered[key] = covered.get(key, 0) + seen
    return [
        (group, {layer: total for layer, total in sums.get(index, {}).items() if covered[index, layer].all()})
        for index, group in enumerate(units.groups)
        if group.barrier is None
    ]


def aggregate(evidence: Sequence[Floats], how: Aggregation) -> Floats:
    """One score per unit from one row per producer: their mean, their maximum, or the first producer's alone."""
    if how == "none":
        return evidence[0]
    return np.asarray(np.mean(evidence, axis=0) if how == "mean" else np.max(evidence, axis=0))


def normalize(scores: Floats, how: Normalization) -> Floats:
    """Scores of one group (or one kernel, of any shape) on a scale common to all; the order within it stays.

    `mean` (also `auto`), `max`, `sum`: divided by it. `standard`: minus the mean, over the standard deviation. `lamp`:
    see `lamp`. Scores that are all zero (for `standard`: all equal) become zeros.
    """
    if how == "none" or not scores.size:
        return scores
    if how == "lamp":
        return lamp(scores)
    if how == "standard":
        return _over(scores - scores.mean(dtype=np.float64), float(scores.std(dtype=np.float64))).astype(scores.dtype)
    scale = scores.max() if how == "max" else scores.mean(dtype=np.float64) * (scores.size if how == "sum" else 1)
    return _over(scores, float(scale)).astype(scores.dtype)


def _over(scores: Floats, scale: float) -> Floats:
    return scores / scale if scale > np.finfo(np.float64).tiny else np.zeros_like(scores)


def lamp(scores: Floats) -> Floats:
    """score(u)^2 / sum of score(v)^2 over all v that are not below u.

    Lee et al. 2021, arXiv:2010.07611, equation 2: the relative distortion that the removal of u costs after all lower
    ones have gone; the last one of every group scores 1, so no group is emptied. Ties count in their order.
    """
    rank = np.argsort(scores, axis=None, kind="stable")
    peak = np.abs(scores).max()
    if not peak > 0:
        return np.zeros_like(scores)
    squares = (scores.ravel()[rank].astype(np.float64) / peak) ** 2
    result = np.empty(scores.size, dtype=scores.dtype)
    remaining = np.maximum(np.cumsum(squares[::-1])[::-1], np.finfo(np.float64).tiny)
    result[rank] = squares / remaining
    return result.reshape(scores.shape)
