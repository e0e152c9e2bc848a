"""Widths that a layer must not be left with: there Keras adds its bias along another axis (`rules.bias_add`)."""

from __future__ import annotations

import numpy as np

from pruning.contract.errors import ContradictorySpec
from pruning.contract.result import Warning
from pruning.rules.extents import FIXED, Ids
from pruning.rules.trace import Avoided
from pruning.units import Units


def spared(units: Units, removed: Ids) -> Ids:
    """`removed` without the units whose loss would leave a layer with such a width."""
    while True:
        gone = units.gone(removed)
        met = [one for one in units.avoided if gone[one.ids].any() and np.count_nonzero(~gone[one.ids]) == one.count]
        if not met:
            return removed
        removed = np.setdiff1d(removed, met[0].ids[gone[met[0].ids]][:1])


def refuse(units: Units, removed: Ids) -> None:
    """Raises `ContradictorySpec` where rules of `layers` or a plan leave a layer with such a width."""
    gone = units.gone(removed)
    for one in units.avoided:
        if np.count_nonzero(~gone[one.ids]) == one.count:
            detail = f"{_named(one, units)} would have {one.count} {one.what}: {one.why}. Keep one unit more or less"
            raise ContradictorySpec(detail)


def kept(units: Units, removed: Ids) -> list[Warning]:
    """`bias_axis` for each layer that has one unit more than such a width."""
    gone = units.gone(removed)
    free = np.append([group.barrier is None for group in units.groups], False)
    found = []
    for one in units.avoided:
        left = one.ids[~gone[one.ids]]
        left_free = left[free[units.owners[left]]]
        # A unit may hold several channels of a layer.
        widest = int(np.unique(left_free, return_counts=True)[1].max(initial=0))
        if one.count < len(left) <= one.count + widest:
            detail = (
                f"{_named(one, units)} has {len(left)} {one.what} and must not have {one.count}: {one.why}. "
                "So a unit may have stayed that scores no higher than those that went"
            )
            found.append(Warning(code="bias_axis", detail=detail))
    return found


def _named(one: Avoided, units: Units) -> str:
    """The layer, and where it only passes units on the one that makes them."""
    owners = units.owners[one.ids]
    makers = units.groups[owners[owners != FIXED][0]].producers
    return repr(one.layer) if one.layer in makers else f"{one.layer!r} (units of {makers[0]!r})"
