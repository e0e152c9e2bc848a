"""Where scores compete: the order in which units go under a scope.

A *bucket* is what has a width of its own: a group of coupled units, or the array of a kernel.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pruning.contract.spec import Scope

Counts = NDArray[np.int64]
Rounding = Literal["half_up", "floor"]
_ROUNDINGS = {"half_up": ROUND_HALF_UP, "floor": ROUND_FLOOR}


def share(value: float, count: int, rounding: Rounding = "half_up") -> int:
    """`value * count` as an integer, computed in decimals: 0.29 of 50 is 14.5 and rounds half up to 15."""
    return int((Decimal(repr(float(value))) * int(count)).to_integral_value(_ROUNDINGS[rounding]))


def shares(value: float, sizes: Counts, rounding: Rounding = "half_up") -> Counts:
    """`share` of every size."""
    return np.array([share(value, size, rounding) for size in sizes.tolist()], dtype=np.int64)


class Order:
    """The order in which the units of several buckets go: `counts(n)` says how many of each are among the first n.

    Built from each bucket's keys in ascending order. Units with equal keys go evenly from their buckets, in shares of
    the tied units, so that a tie does not strip the first bucket. Within a bucket the lowest keys go first.
    """

    def __init__(self, keys: Sequence[NDArray[np.floating]]) -> None:
        self._keys = keys
        self._all = np.sort(np.concatenate(keys)) if keys else np.empty(0)
        self._ties: dict[float, Counts] = {}

    @property
    def total(self) -> int:
        """How many units there are in all buckets together."""
        return len(self._all)

    def counts(self, n: int) -> Counts:
        """Per bucket, how many of its units are among the first `n` to go; int64, sums to n, grows with n."""
        if n <= 0:
            return np.zeros(len(self._keys), dtype=np.int64)
        last = self._all[n - 1]
        below = self.below(last)
        tied = np.array([key.searchsorted(last, "right") for key in self._keys], dtype=np.int64) - below
        wanted = n - int(below.sum())
        if wanted == int(tied.sum()):
            return below + tied
        return below + np.bincount(self._spread(float(last), tied)[:wanted], minlength=len(tied))

    def below(self, cut: float) -> Counts:
        """Per bucket, how many units have a key below `cut`."""
        return np.array([key.searchsorted(cut, "left") for key in self._keys], dtype=np.int64)

    def last(self, counts: Counts) -> NDArray[np.float64]:
        """Per bucket, the key of the last of its first `counts` units; -inf where that is none."""
        return np.array(
            [key[count - 1] if count else -np.inf for key, count in zip(self._keys, counts.tolist(), strict=True)]
        )

    def _spread(self, tie: float, tied: Counts) -> Counts:
        """The buckets of the units tied at one key, in the order in which they go."""
        if tie not in self._ties:
            place = np.concatenate([relative_ranks(int(count)) for count in tied])
            bucket = np.repeat(np.arange(len(tied)), tied)
            self._ties[tie] = bucket[np.argsort(place, kind="stable")]
        return self._ties[tie]


def relative_ranks(size: int) -> NDArray[np.float64]:
    """(k + 1/2) / size for k = 0 ... size - 1: the k-th unit goes as soon as a share rounded half up reaches it."""
    return (np.arange(size) + 0.5) / max(size, 1)


def classes(scope: Scope, kinds: Sequence[Hashable]) -> Counts:
    """For each bucket the class in which its units compete: one for all, one for each, or one for each kind."""
    if scope == "global":
        return np.zeros(len(kinds), dtype=np.int64)
    numbers: dict[Hashable, int] = {}
    names = range(len(kinds)) if scope == "layer" else kinds
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def order(keys: Sequence[NDArray[np.floating]], classes: Counts) -> Order:
    """The order in which units go, from each bucket's scores in ascending order.

    In one class by score. Of several every class loses the same share, and its n-th unit by score goes by its rank.
    """
    if not classes.any():
        return Order(keys)
    ranks: dict[int, NDArray[np.float64]] = {}
    for number in range(int(classes.max()) + 1):
        members = np.flatnonzero(classes == number).tolist()
        ranks |= dict(zip(members, pooled_ranks([keys[member] for member in members]), strict=True))
    return Order([ranks[index] for index in range(len(keys))])


def pooled_ranks(keys: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
    """`relative_ranks` of every unit among those of all these buckets together; ties go evenly from their buckets."""
    if len(keys) == 1:
        return [relative_ranks(len(keys[0]))]
    places = []
    for key in keys:
        first, end = key.searchsorted(key, "left"), key.searchsorted(key, "right")
        places.append((np.arange(len(key)) - first + 0.5) / (end - first))
    going = np.lexsort((np.concatenate(places), np.concatenate(keys)))
    ranks = np.empty(len(going))
    ranks[going] = relative_ranks(len(going))
    return np.split(ranks, np.cumsum([len(key) for key in keys])[:-1])
