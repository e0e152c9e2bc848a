"""Which buckets are of one kind: the same layers coupled in the same way, whatever their widths."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pruning.units import Axis, Group, Units

Kind = Hashable


def of_groups(units: Units, groups: Sequence[Group]) -> list[Kind]:
    """For each group what its units are made of: the class of each layer, the axis that they lie on and in what role,
    and the rest of that array's shape, without other widths.

    Fang et al. 2024, arXiv:2407.04616, section 3.2: sub-structures compete only with isomorphic ones.
    """
    places = _Places(units)
    found: dict[str, list[Hashable]] = {group.id: [] for group in units.groups}
    for axis in units.axes:
        owners = units.owners[axis.ids]
        for index in np.unique(owners[owners >= 0]):
            found[units.groups[index].id].append((places.kind(axis.weight), axis.axis, axis.role))
    return [(group.structure, tuple(sorted(found[group.id], key=repr))) for group in groups]


def of_kernels(units: Units, paths: Sequence[str]) -> list[Kind]:
    """For each kernel the class of its layer and its shape without widths."""
    places = _Places(units)
    return [places.kind(path) for path in paths]


class _Places:
    """What each array is to its layer: the class, its number there, and its sizes along axes that carry no units."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self.axes: dict[str, list[Axis]] = {}
        for axis in units.axes:
            self.axes.setdefault(axis.weight, []).append(axis)
        self.roles = {
            path: (entry.class_name, number) for entry in units.layers for number, path in enumerate(entry.weights)
        }

    def kind(self, path: str) -> Kind:
        """The same for arrays that differ in widths alone."""
        widths = {axis.axis for axis in self.axes.get(path, ())}
        shape = self.units.sizes.get(path, ())
        rest = tuple(size for axis, size in enumerate(shape) if axis not in widths)
        return (*self.roles.get(path, ("", 0)), len(shape), rest)
