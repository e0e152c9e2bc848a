"""A model as the engine sees it, and what was decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning import block_finder
from pruning.archive import Archive
from pruning.blocks import Block, Blocks
from pruning.contract.plan import Plan
from pruning.graph import Graph
from pruning.units import Units

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A model as the engine sees it: its archive (without optimizer state), graph and units."""

    archive: Archive
    graph: Graph
    units: Units

    @cached_property
    def blocks(self) -> Blocks:
        """What could go as a whole."""
        return block_finder.find(self.graph, self.units, self.archive.arrays)

    @property
    def vocabularies(self) -> tuple[int | None, ...]:
        """For each input of the model how many indices it takes; None for one that takes numbers."""
        return tuple(self.units.vocabularies.get(tensor) for tensor in self.graph.inputs)


@dataclass(frozen=True)
class Decision:
    """What goes: the plan, and as `removed` unit ids or, for weights, `masks` by array path (True stays).

    `blocks` go as a whole (layer). `reasons`: why groups stay, by group id; of structures layer and weight
    why layers do, by name.
    """

    plan: Plan
    removed: Ids
    masks: Mapping[str, NDArray[np.bool_]]
    reasons: Mapping[str, str]
    blocks: tuple[Block, ...] = ()
