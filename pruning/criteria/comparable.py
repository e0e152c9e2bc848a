"""What makes scores comparable: what several layers say of a unit joined, and a scale common to all groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from pruning import threads
from pruning.contract.criteria import Comparable
from pruning.criteria.evidence import Array, Floats

if TYPE_CHECKING:
    from pruning.rules.extents import Ids
    from pruning.units import Axis, Group, Units

Aggregation = Literal["mean", "max", "none"]
Normalization = Literal["auto", "none", "mean", "max", "standard", "sum", "lamp"]
Values = Callable[["Axis"], Floats]
# A factor is both: the query's side of a product of two activations.
MAKES, READS = ("producer", "factor"), ("consumer", "factor")


def prunable(units: Units) -> list[Group]:
    """The groups that compete."""
    return [group for group in units.groups if group.barrier is None]


def slices(units: Units, axes: Iterable[Axis]) -> Iterator[tuple[Group, Axis, Array, Ids]]:
    """(group, axis, flag per index of the axis, places in the group of the flagged) of all prunable groups."""
    place = np.zeros(units.count + 1, dtype=np.int64)
    for group in units.groups:
        place[group.units] = np.arange(len(group.units))
    known: dict[int, list[tuple[Group, Array, Ids]]] = {}  # most axes share one array of ids with others
    for axis in axes:
        if (found := known.get(id(axis.ids))) is None:
            owner = units.owners[axis.ids]
            there = np.flatnonzero(np.bincount(owner + 1)[1:])
            groups = [(units.groups[index], owner == index) for index in there]
            found = [(group, here, place[axis.ids[here]]) for group, here in groups if group.barrier is None]
            known[id(axis.ids)] = found
        for group, here, at in found:
            yield group, axis, here, at


def by_group(
    units: Units, axes: Iterable[Axis], values: Values, *, mean: bool = False
) -> list[tuple[Group, dict[str, Floats]]]:
    """For each prunable group, by layer, the sums (or means) of `values`, one per index of an axis, over its units.

    A unit may own several indices of an axis, and a layer several axes. Layers that miss some of a group's units are
    left out.
    """
    parts = list(slices(units, axes))
    read = list({id(axis): axis for _, axis, _, _ in parts}.values())
    found_on = threads.each(values, read, lambda axis: prod(units.sizes[axis.weight]))
    known = {id(axis): found for axis, found in zip(read, found_on, strict=True)}
    sums: dict[tuple[str, str], Floats] = {}
    counts: dict[tuple[str, str], Array] = {}
    for group, axis, here, place in parts:
        key, size = (group.id, axis.layer), len(group.units)
        sums[key] = sums.get(key, 0.0) + np.bincount(place, known[id(axis)][here], minlength=size)
        counts[key] = counts.get(key, 0) + np.bincount(place, minlength=size)
    found: dict[str, dict[str, Floats]] = {group.id: {} for group in prunable(units)}
    for (group_id, layer), total in sums.items():
        if counts[group_id, layer].all():
            found[group_id][layer] = total / counts[group_id, layer] if mean else total
    return [(group, found[group.id]) for group in prunable(units)]


def read_by(
    units: Units, values: Values, known: Callable[[Axis], bool], *, mean: bool = False
) -> list[tuple[Group, list[Floats]]]:
    """For each prunable group what the weights that read its units say, one row per layer.

    These are the weights that surgery cuts off from the rest of the model. Where no weight reads a unit, such as in a
    product of two activations, those of its producers stand in. `known`: whether there is evidence on an axis.
    """
    by_role = [
        by_group(units, [axis for axis in units.axes if axis.role in roles and known(axis)], values, mean=mean)
        for roles in (READS, MAKES)
    ]
    return [(group, list((rows or others).values())) for (group, rows), (_, others) in zip(*by_role, strict=True)]


def joined(criterion: Comparable, rows_of: Iterable[tuple[Group, Sequence[Floats]]]) -> dict[str, Floats]:
    """Scores by group id from one row per layer; a group without rows is left out."""
    return {
        group.id: normalize(aggregate(rows, criterion.aggregation), criterion.normalization)
        for group, rows in rows_of
        if rows
    }


def aggregate(rows: Sequence[Floats], how: Aggregation) -> Floats:
    """One score per unit from one row per layer: their mean, their maximum, or the first layer's alone."""
    if how == "none" or len(rows) == 1:
        return rows[0]
    return np.asarray(np.mean(rows, axis=0) if how == "mean" else np.max(rows, axis=0))


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


def of_weights(criterion: Comparable, scores: Floats) -> Floats:
    """Scores of one kernel's weights in float32, normalised; `auto` compares them as they are.

    With a scale per kernel ResNet8 at half its weights, scored by |w|, falls to 17 %, else to 65 %.
    """
    how = "none" if criterion.normalization == "auto" else criterion.normalization
    return normalize(scores.astype(np.float32), how)


def slice_sums(array: Array, axis: int, power: Literal[1, 2] = 1) -> Floats:
    """Sum of absolute values or of squares of the slice at each index of `axis`, float64 (size of that axis)."""
    kind = array.dtype if array.dtype in (np.float32, np.float64) else np.dtype(np.float32)
    matrix = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]).astype(kind, copy=False)
    total = _sums(matrix, power)
    if kind == np.float32 and not (np.isfinite(total).all() and total.min(initial=1.0) > 1e-30):
        return _sums(matrix.astype(np.float64), power)  # squares of large or small numbers leave float32's range
    return total.astype(np.float64)


def _sums(matrix: Array, power: int) -> Floats:
    with np.errstate(over="ignore", under="ignore"):
        if power == 2:
            return np.asarray(np.einsum("ij,ij->j", matrix, matrix))
        return np.asarray(np.einsum("ij->j", np.abs(matrix)))
