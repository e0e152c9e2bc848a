"""The competition for what stays: buckets that lose their lowest units first, their limits, what is left to pay for.

A bucket is a group of coupled units or a kernel. A state is an int64 array, `counts`: how many of its lowest units each
bucket loses. Targets (`targets`) need no more than this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.contract.plan import Plan
from pruning.contract.spec import Measure, Pruning
from pruning.isomorphism import of_groups
from pruning.limits import Limits
from pruning.rules.trace import Structure
from pruning.scopes import Counts, Order, classes, order
from pruning.surgery import plan_of
from pruning.tally import Tally

if TYPE_CHECKING:
    from pruning.units import Group, Units

Floats: TypeAlias = NDArray[np.floating[Any]]
Scores: TypeAlias = Mapping[str, Floats]
Ids: TypeAlias = NDArray[np.int64]
FileBytes: TypeAlias = Callable[[Ids], int]


def least(total: int, fits: Callable[[int], bool]) -> int:
    """The smallest n of 0 ... total with `fits(n)`, which holds for `total` and for all n above one that fits."""
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low


class Competition(ABC):
    """Buckets with their scores in ascending order, and of which kind each is (see `isomorphism`).

    `decided`: whether rules have removed something already. `scored`: whether the criterion scores anything at all.
    `classes`: in which class each bucket competes.
    """

    def __init__(
        self, scores: Sequence[Floats], pruning: Pruning, kinds: Sequence[Hashable], *, decided: bool, scored: bool
    ) -> None:
        self.scores = scores
        self._criterion = pruning.criterion.name
        self._scored = scored
        self.scope = pruning.scope
        self.classes = classes(pruning.scope, kinds)
        self.decided = decided
        self.sizes = np.array([len(bucket) for bucket in scores], dtype=np.int64)
        self.limits = Limits.of(self.sizes, pruning.constraints)

    @cached_property
    def order(self) -> Order:
        """The order in which the units of all buckets go."""
        return order(self.scores, self.classes)

    @property
    def none(self) -> Counts:
        """The state in which nothing goes."""
        return np.zeros_like(self.sizes)

    def after(self, n: int) -> Counts:
        """The state after the first `n` units of the order, as far as the constraints let them go."""
        return self.allowed(self.order.counts(n))

    def allowed(self, wanted: Counts) -> Counts:
        """The state nearest below `wanted` that holds the constraints."""
        return self.limits.allowed(wanted)

    @property
    def most(self) -> int:
        """How many units may go at most."""
        return int(self.limits.removable.sum())

    def within(self, wanted: int) -> Counts:
        """The state in which most go, but no more than `wanted` in all."""
        total = self.order.total
        return self.after(least(total + 1, lambda n: n > total or int(self.after(n).sum()) > wanted) - 1)

    def nothing(self) -> str:
        """Why nothing goes, as a sentence."""
        if not self._scored:
            return f"criterion {self._criterion} finds nothing in this model to score by: take another"
        if not len(self.sizes):
            return "nothing competes: `layers` decides it all, or the criterion has no scores for the rest"
        return self.idle()

    def idle(self) -> str:
        """Why nothing that competes may go, as a sentence."""
        return f"min_units, max_ratio and round_to keep all units: the widths are {sorted(set(self.sizes.tolist()))}"

    def beyond(self, share: float, asked: float) -> str:
        """Why only this share may go, as a sentence."""
        return f"min_units and max_ratio let a share of {share:.4g} go under scope {self.scope}, not {asked}"

    @abstractmethod
    def cost(self, measure: Measure, counts: Counts) -> Counts:
        """The whole model's measure in a state; (..., buckets) -> (...)."""

    @abstractmethod
    def original(self, measure: Measure) -> int:
        """The same for the model as it came."""

    def file_bytes(self, _counts: Counts) -> int | None:
        """The exact size of the delivered file in a state, None where `cost` is exact."""
        return None

    @abstractmethod
    def plan(self, counts: Counts) -> Plan:
        """The plan of a state."""


class Channels(Competition):
    """Groups of coupled units. `fixed` unit ids are gone in any case."""

    def __init__(
        self,
        units: Units,
        groups: Sequence[Group],
        scores: Scores,
        pruning: Pruning,
        fixed: Ids,
        file_bytes: FileBytes | None,
    ) -> None:
        ranks = [np.argsort(scores[group.id], kind="stable") for group in groups]
        super().__init__(
            [scores[group.id][rank] for group, rank in zip(groups, ranks, strict=True)],
            pruning,
            of_groups(units, groups) if pruning.scope == "isomorphic" else groups,
            decided=len(fixed) > 0,
            scored=bool(scores),
        )
        self._units = units
        self._structure: Structure = "head" if pruning.structure == "head" else "channel"
        self._fixed = fixed
        self._going = [group.units[rank] for group, rank in zip(groups, ranks, strict=True)]
        self._file_bytes = file_bytes
        self._file_sizes: dict[bytes, int] = {}
        self._tally = units.tally
        self._left = self._tally.kept(fixed)
        self._ranked = self._tally.ranked(self._going)
        self._products = {
            "macs": self._tally.macs,
            "parameters": self._tally.elements,
            "size_bytes": self._tally.bytes,
        }
        self._shared = _shared_widths(units, groups, self._tally)
        self._width_limits = Limits.of(self._tally.lengths[self._shared], pruning.constraints)

    def allowed(self, wanted: Counts) -> Counts:
        """The state nearest below `wanted` that holds the constraints of every group and of every layer's width."""
        counts = self.limits.allowed(wanted)
        while (len(self._shared) or self._tally.avoided) and (width := self._exceeded(counts)) is not None:
            on_width = self._ranked.buckets[self._ranked.columns == width]
            counts[on_width[np.argmax(self.order.last(counts)[on_width])]] -= 1
            counts = self.limits.allowed(counts)
        return counts

    def _exceeded(self, counts: Counts) -> int | None:
        """A width on which something has to be put back, and can be: the constraints do not hold, or it is avoided."""
        kept = self._kept(counts)
        lost = (self._tally.lengths - kept)[self._shared]
        avoided = [column for column, n in self._tally.avoided if kept[column] == n]
        for column in [*self._shared[self._width_limits.allowed(lost) != lost], *avoided]:
            if counts[self._ranked.buckets[self._ranked.columns == column]].any():
                return int(column)
        return None

    def _kept(self, counts: Counts) -> Counts:
        """Kept entries of every id array of the tally, (..., arrays)."""
        return self._left - self._ranked.lost(counts)

    def cost(self, measure: Measure, counts: Counts) -> Counts:
        """MACs, parameters, or bytes of all arrays."""
        return np.asarray(self._products[measure](self._kept(counts)).sum(axis=-1), dtype=np.int64)

    def original(self, measure: Measure) -> int:
        """The same with every unit in place; bytes are the file's where they can be told."""
        if measure == "size_bytes" and (size := self._file_size(np.empty(0, dtype=np.int64))) is not None:
            return size
        return int(self._products[measure](self._tally.lengths).sum())

    def file_bytes(self, counts: Counts) -> int | None:
        """What the caller says of the file without these units."""
        return self._file_size(self._removed(counts))

    def _file_size(self, removed: Ids) -> int | None:
        key = np.sort(removed).tobytes()
        if self._file_bytes is not None and key not in self._file_sizes:
            self._file_sizes[key] = self._file_bytes(removed)
        return self._file_sizes.get(key)

    def plan(self, counts: Counts) -> Plan:
        """The groups with the positions that stay."""
        return plan_of(self._removed(counts), self._units, self._structure)

    def _removed(self, counts: Counts) -> Ids:
        return np.concatenate([self._fixed, *(ids[:n] for ids, n in zip(self._going, counts.tolist(), strict=True))])


def _shared_widths(units: Units, groups: Sequence[Group], tally: Tally) -> Counts:
    """The columns of producers' widths that are not one group's units once each: there the constraints hold again."""
    found = {
        tally.widths[layer]
        for group in groups
        for layer in group.producers
        if layer in units.widths and not np.array_equal(np.sort(units.widths[layer]), np.sort(group.units))
    }
    return np.array(sorted(found), dtype=np.int64)
