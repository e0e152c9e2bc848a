"""Filters that others can stand in for: those near the geometric median of their layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pruning.contract.criteria import FPGM
from pruning.criteria.comparable import MAKES, joined, prunable, slices
from pruning.criteria.evidence import Array, Evidence, Floats

if TYPE_CHECKING:
    from pruning.units import Units

_ROWS = 1024


def channels(criterion: FPGM, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Sum of Euclidean distances from a unit's weights to those of all units of its layer.

    He et al. 2019, arXiv:1811.00250, equation 7: the filter with the smallest sum lies nearest to the geometric median
    and its share is represented by the others. A producer counts if each unit owns equally many slices of it.
    """
    found: dict[tuple[str, str], list[Array]] = {}
    for group, axis, here, place in slices(units, (axis for axis in units.axes if axis.role in MAKES)):
        array = evidence.weights[axis.weight]
        rows = np.moveaxis(array, axis.axis, 0).reshape(len(here), -1)[here].astype(np.float64)
        if (np.bincount(place, minlength=len(group.units)) * len(group.units) == len(place)).all():
            rows = rows[np.argsort(place, kind="stable")].reshape(len(group.units), -1)
            found.setdefault((group.id, axis.layer), []).append(rows)
    rows_of = (
        (group, [distances(np.hstack(found[key])) for layer in group.producers if (key := (group.id, layer)) in found])
        for group in prunable(units)
    )
    return joined(criterion, rows_of)


def distances(points: Floats) -> Floats:
    """For each of n points the sum of its Euclidean distances to all: (n, d) -> (n,)."""
    scale = np.abs(points).max(initial=0.0)
    if not scale > 0:
        return np.zeros(len(points))
    points = points / scale
    squares = np.einsum("ij,ij->i", points, points)
    total = np.empty(len(points))
    for start in range(0, len(points), _ROWS):
        some = slice(start, start + _ROWS)
        between = squares[some, None] + squares[None] - 2 * points[some] @ points.T
        total[some] = np.sqrt(np.maximum(between, 0.0)).sum(axis=1)
    return np.asarray(total * scale)
