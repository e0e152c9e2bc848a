"""Widths that a layer with channels first must not have: there Keras adds its bias along the last axis."""

from __future__ import annotations

import numpy as np

from pruning.contract.errors import ContradictorySpec
from pruning.contract.result import Warning
from pruning.rules.extents import Ids
from pruning.units import Units

_WHY = "channels come first, and Keras adds a bias along the last axis where that is as long as there are channels"


def refuse(units: Units, removed: Ids) -> None:
    """Raises `ContradictorySpec` where rules of `layers` or a plan leave a layer with such a width."""
    gone = units.gone(removed)
    for layer, avoided in units.avoided:
        if np.count_nonzero(~gone[units.widths[layer]]) == avoided:
            raise ContradictorySpec(f"{layer!r} would have {avoided} channels: {_WHY}. Keep one unit more or less")


def kept(units: Units, removed: Ids) -> list[Warning]:
    """`bias_axis` for each layer that has one unit more than such a width."""
    gone = units.gone(removed)
    free = np.append([group.barrier is None for group in units.groups], False)
    found = []
    for layer, avoided in units.avoided:
        left = (ids := units.widths[layer])[~gone[ids]]
        left_free = left[free[units.owners[left]]]
        # A unit may hold several channels of a layer.
        widest = int(np.unique(left_free, return_counts=True)[1].max(initial=0))
        if avoided < len(left) <= avoided + widest:
            detail = (
                f"{layer!r} has {len(left)} channels and must not have {avoided}: {_WHY}. So a unit may have stayed "
                "that scores no higher than those that went"
            )
            found.append(Warning(code="bias_axis", detail=detail))
    return found
