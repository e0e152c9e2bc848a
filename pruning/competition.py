"""The competition of groups for what stays: their units in the order in which they go, their limits, their costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.contract.spec import Measure, Pruning
from pruning.limits import Limits
from pruning.scopes import Counts, order
from pruning.tally import Tally

if TYPE_CHECKING:
    from pruning.units import Group, Units

Floats: TypeAlias = NDArray[np.floating[Any]]
Scores: TypeAlias = Mapping[str, Floats]
Ids: TypeAlias = NDArray[np.int64]


class Competition:
    """Groups that lose their lowest units first; unit ids in `fixed` are gone in any case.

    A state is an int64 array, `counts`: how many of its lowest units each group loses.
    """

    def __init__(self, units: Units, groups: Sequence[Group], scores: Scores, pruning: Pruning, fixed: Ids) -> None:
        ranks = [np.argsort(scores[group.id], kind="stable") for group in groups]
        self.units = units
        self.scope = pruning.scope
        self.scores = [scores[group.id][rank] for group, rank in zip(groups, ranks, strict=True)]
        self.order = order(self.scores, pruning.scope)
        self.sizes = np.array([len(rank) for rank in ranks], dtype=np.int64)
        self.limits = Limits.of(self.sizes, pruning.constraints)
        self.tally = Tally(units)
        self._products = {
            "macs": self.tally.macs,
            "parameters": self.tally.elements,
            "size_bytes": self.tally.bytes,
        }
        self._fixed = fixed
        self._going = [group.units[rank] for group, rank in zip(groups, ranks, strict=True)]
        self._left = self.tally.kept(fixed)
        self._ranked = self.tally.ranked(self._going)
        self._shared = _shared_widths(units, groups, self.tally)
        self._width_limits = Limits.of(self.tally.lengths[self._shared], pruning.constraints)

    @property
    def none(self) -> Counts:
        """The state that removes nothing but what is fixed."""
        return np.zeros_like(self.sizes)

    def kept(self, counts: Counts) -> Counts:
        """Kept entries of every id array of `tally`, (..., arrays), in a state (..., groups)."""
        return self._left - self._ranked.lost(counts)

    def removed(self, counts: Counts) -> Ids:
        """The unit ids that are gone in a state."""
        return np.concatenate([self._fixed, *(ids[:n] for ids, n in zip(self._going, counts.tolist(), strict=True))])

    def cost(self, measure: Measure, counts: Counts) -> Counts:
        """MACs, parameters or bytes of all arrays in a state; (..., groups) -> (...)."""
        return np.asarray(self._products[measure](self.kept(counts)).sum(axis=-1), dtype=np.int64)

    def original(self, measure: Measure) -> int:
        """The same before anything is removed."""
        return int(self._products[measure](self.tally.lengths).sum())

    def after(self, n: int) -> Counts:
        """The state after the first `n` units of the order, as far as the constraints let them go."""
        return self.allowed(self.order.counts(n))

    def allowed(self, wanted: Counts) -> Counts:
        """The state nearest below `wanted` that holds the constraints of every group and of every layer's width."""
        counts = self.limits.allowed(wanted)
        while len(self._shared) and (bad := self._exceeded(counts)) is not None:
            on_width = self._ranked.buckets[self._ranked.columns == bad]
            counts[on_width[np.argmax(self.order.last(counts)[on_width])]] -= 1
            counts = self.limits.allowed(counts)
        return counts

    def _exceeded(self, counts: Counts) -> int | None:
        """A width shared by several groups on which the constraints do not hold and something can be put back."""
        lost = (self.tally.lengths - self.kept(counts))[self._shared]
        for column in self._shared[self._width_limits.allowed(lost) != lost]:
            if counts[self._ranked.buckets[self._ranked.columns == column]].any():
                return int(column)
        return None


def _shared_widths(units: Units, groups: Sequence[Group], tally: Tally) -> Counts:
    """The columns of producers' widths that are not one group's units once each: there the constraints hold again."""
    found = {
        tally.widths[layer]
        for group in groups
        for layer in group.producers
        if layer in units.widths and not np.array_equal(np.sort(units.widths[layer]), np.sort(group.units))
    }
    return np.array(sorted(found), dtype=np.int64)
