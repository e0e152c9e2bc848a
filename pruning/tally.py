"""What a model costs as a function of what is kept: built once, then evaluated for many plans at a time.

Every cost here is a sum of products of kept counts: MACs of a call, elements of an array. So a plan's cost needs only,
per distinct array of unit ids, how many of its entries stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from pruning.units import Units

Ids: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Products:
    """Rows of `multiplier * product of kept counts`; `columns` (rows, factors) index them, the last is 1."""

    multipliers: Counts
    columns: Counts

    def __call__(self, kept: Counts) -> Counts:
        """Each row's value, (..., rows), for kept counts (..., columns)."""
        one = np.ones((*kept.shape[:-1], 1), dtype=np.int64)
        result: Counts = np.concatenate([kept, one], axis=-1)[..., self.columns].prod(axis=-1) * self.multipliers
        return result


class Tally:
    """The distinct id arrays of a model and its costs as products over them."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self._column: dict[bytes, int] = {}
        # Most axes share one array with others; the units keep them all, so that no id is used again.
        self._seen: dict[int, int] = {}
        self.arrays: list[Ids] = []
        self._macs = [(cost.multiplier, [self.column(ids) for ids in cost.axes]) for cost in units.costs]
        self._elements = self._element_rows(units)
        self.widths = {layer: self.column(ids) for layer, ids in units.widths.items()}
        self.avoided = [(self.column(one.ids), one.count) for one in units.avoided]
        self._flat = np.concatenate([np.empty(0, dtype=np.int64), *self.arrays])
        self.lengths = np.array([len(ids) for ids in self.arrays], dtype=np.int64)
        self._column_of_entry = np.repeat(np.arange(len(self.arrays)), self.lengths)

    def column(self, ids: Ids) -> int:
        """The index of an id array among the distinct ones."""
        if (known := self._seen.get(id(ids))) is not None:
            return known
        index = self._column.setdefault(ids.tobytes(), len(self._column))
        if index == len(self.arrays):
            self.arrays.append(ids)
        self._seen[id(ids)] = index
        return index

    def _element_rows(self, units: Units) -> list[tuple[int, list[int]]]:
        axes: dict[str, dict[int, Ids]] = {weight: {} for weight in units.sizes}
        for axis in units.axes:
            axes.setdefault(axis.weight, {})[axis.axis] = axis.ids
        return [
            (
                prod(size for index, size in enumerate(shape) if index not in axes[weight]),
                [self.column(ids) for ids in axes[weight].values()],
            )
            for weight, shape in units.sizes.items()
        ]

    @cached_property
    def macs(self) -> Products:
        """MACs of each of `units.costs`."""
        return self._products(self._macs)

    @cached_property
    def elements(self) -> Products:
        """Elements of each of `units.sizes`."""
        return self._products(self._elements)

    @cached_property
    def bytes(self) -> Products:
        """Bytes of each of `units.sizes`."""
        sizes = [self.units.itemsize(weight) for weight in self.units.sizes]
        return self._products(
            [(size * factor, cols) for size, (factor, cols) in zip(sizes, self._elements, strict=True)]
        )

    def _products(self, rows: Sequence[tuple[int, list[int]]]) -> Products:
        width = max((len(columns) for _, columns in rows), default=0) or 1
        padded = [columns + [len(self.arrays)] * (width - len(columns)) for _, columns in rows]
        return Products(
            np.array([factor for factor, _ in rows], dtype=np.int64),
            np.array(padded, dtype=np.int64).reshape(len(rows), width),
        )

    def kept(self, removed: ArrayLike) -> Counts:
        """Kept entries of every id array when these unit ids are removed."""
        gone = self.units.gone(removed)
        lost = np.bincount(self._column_of_entry, gone[self._flat], minlength=len(self.arrays))
        return self.lengths - lost.astype(np.int64)

    def ranked(self, order: Sequence[Ids]) -> Ranked:
        """The same for plans that remove, of each bucket in `order` (unit ids, lowest first), the first few."""
        sizes = np.array([len(ids) for ids in order], dtype=np.int64)
        bucket = np.full(self.units.count + 1, -1, dtype=np.int64)
        rank = np.zeros(self.units.count + 1, dtype=np.int64)
        for index, ids in enumerate(order):
            bucket[ids] = index
            rank[ids] = np.arange(len(ids))
        entry = np.flatnonzero(bucket[self._flat] >= 0)
        ids = self._flat[entry]
        pair = self._column_of_entry[entry] * len(sizes) + bucket[ids]
        present, local = np.unique(pair, return_inverse=True)
        columns, buckets = np.divmod(present, max(len(sizes), 1))
        starts = np.concatenate([[0], np.cumsum(sizes[buckets] + 1)])
        # Per (array, bucket) a run of size + 1 running sums: entries lost when the k lowest units go.
        running = np.cumsum(np.bincount(starts[local] + rank[ids] + 1, minlength=int(starts[-1])))
        return Ranked(columns, buckets, starts[:-1], running, len(self.arrays))


@dataclass(frozen=True)
class Ranked:
    """Entries that each id array loses, by how many of the lowest units each bucket loses."""

    columns: Counts
    buckets: Counts
    starts: Counts
    running: Counts
    width: int

    def lost(self, counts: Counts) -> Counts:
        """(..., buckets) removed counts -> (..., arrays) lost entries."""
        result = np.zeros((*counts.shape[:-1], self.width), dtype=np.int64)
        if len(self.starts):
            each = self.running[self.starts + counts[..., self.buckets]] - self.running[self.starts]
            first = np.flatnonzero(np.diff(self.columns, prepend=-1))
            result[..., self.columns[first]] = np.add.reduceat(each, first, axis=-1)
        return result
