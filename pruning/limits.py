"""Constraints on widths: how many units a bucket may lose, whichever criterion chooses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruning.contract.spec import Constraints
from pruning.scopes import Counts, shares


@dataclass(frozen=True)
class Limits:
    """What may go of buckets of these `sizes`: at least `least` stay, in multiples of `round_to`, or all stay."""

    sizes: Counts
    least: Counts
    round_to: int = 1

    @classmethod
    def of(cls, sizes: Counts, constraints: Constraints) -> Limits:
        """`min_units` (all where there are fewer) and `max_ratio` of every bucket; one unit stays in any case."""
        by_ratio = sizes - shares(constraints.max_ratio, sizes, "floor")
        by_count = np.minimum(constraints.min_units, sizes)
        return cls(sizes, np.maximum(by_ratio, by_count), constraints.round_to)

    @property
    def removable(self) -> Counts:
        """The most that each bucket may lose, before any rounding."""
        return self.sizes - self.least

    def allowed(self, wanted: Counts) -> Counts:
        """The most that may go of each bucket within `wanted`, (..., buckets): kept counts are rounded up."""
        kept = np.maximum(self.sizes - wanted, self.least)
        kept = -(-kept // self.round_to) * self.round_to
        return np.asarray(self.sizes - np.minimum(kept, self.sizes), dtype=np.int64)
