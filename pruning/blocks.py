"""Whole layers and blocks that can go: what reads the tensor that leaves one can read a tensor that enters it instead.

`block_finder.find` finds them; here is what is known of them: what goes along, what is left, what that costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal

from pruning import steps as leveled
from pruning.contract.errors import ContradictorySpec
from pruning.graph import Graph
from pruning.rules.trace import Barrier
from pruning.steps import Left, Level, Location
from pruning.units import Units


@dataclass(frozen=True)
class Block:
    """`id`: the name of its last layer, with `#2` for a second call. `layers`: those that go with it, as no other call
    needs them. `ops`: indices of the calls that go, `kernels`: of those with a kernel. What reads the tensor `leaves`
    reads `enters` instead.

    `inside`: the smallest block around it, which takes it along.
    """

    id: str
    kind: Literal["branch", "chain"]
    layers: tuple[str, ...]
    ops: frozenset[int] = field(repr=False)
    kernels: frozenset[int] = field(repr=False)
    enters: int
    leaves: int
    location: Location = field(repr=False)
    inside: str | None = None


@dataclass(frozen=True)
class Blocks:
    """The blocks of a model in the order in which they run, what keeps others, and the view they were found on."""

    found: tuple[Block, ...]
    barriers: tuple[Barrier, ...]
    graph: Graph = field(repr=False)
    levels: tuple[Level, ...] = field(repr=False)

    @cached_property
    def by_id(self) -> dict[str, Block]:
        return {block.id: block for block in self.found}

    def named(self, ids: Iterable[str]) -> tuple[Block, ...]:
        """The blocks of a plan. Raises `ContradictorySpec` where the plan is one of another model."""
        wanted = list(ids)
        if unknown := [name for name in wanted if name not in self.by_id]:
            raise ContradictorySpec(f"the plan's block {unknown[0]!r} is not in this model")
        return tuple(self.by_id[name] for name in dict.fromkeys(wanted))

    def closed(self, chosen: Iterable[Block]) -> frozenset[str]:
        """The ids of these blocks, of all inside them, and of branches whose layers with a kernel all go with them."""
        gone, size = {block.id for block in chosen}, -1
        while size < (size := len(gone)):
            kernels = frozenset[int]().union(*(self.by_id[id].kernels for id in gone))
            for block in self.found:
                if block.inside in gone or (block.kind == "branch" and block.kernels <= kernels):
                    gone.add(block.id)
        return frozenset(gone)

    def called(self, block: Block) -> list[str]:
        """The names of the layers that are called in a block, also of those that are called elsewhere."""
        return list(dict.fromkeys(self.graph.ops[index].name for index in sorted(block.ops)))

    def left(self, chosen: Iterable[Block]) -> Left:
        """What still runs without these blocks."""
        return leveled.left(self.levels, {block.leaves: block.enters for block in chosen})

    def feasible(self, chosen: Iterable[Block]) -> bool:
        """Whether every input of the model, and of each model inside that is left, still has a reader."""
        now, before = self.left(chosen), self._whole
        return all(
            tensor in now.tensors
            for level in self.levels
            if not level.model.location or any(now.ops.intersection(step.ops) for step in level.steps)
            for tensor in level.entrances
            if tensor in before.tensors
        )

    def macs(self, units: Units, chosen: Iterable[Block]) -> dict[str, int]:
        """MACs per layer of what is left for one sample; a layer that went has none."""
        ops = self.left(chosen).ops
        found: dict[str, int] = {}
        for cost in units.costs:
            if cost.op in ops:
                macs = cost.multiplier * prod(len(ids) for ids in cost.axes)
                found[cost.layer] = found.get(cost.layer, 0) + macs
        return found

    def layers(self, chosen: Iterable[Block]) -> frozenset[str]:
        """The names of the layers that are left: those with a call that still runs, and inputs."""
        ops = self.left(chosen).ops
        return frozenset(
            op.name for index, op in enumerate(self.graph.ops) if index in ops or op.class_name == "InputLayer"
        )

    def lost(self, chosen: Iterable[Block]) -> frozenset[str]:
        """The names of the layers that go."""
        return frozenset(op.name for op in self.graph.ops) - self.layers(chosen)

    @cached_property
    def _whole(self) -> Left:
        return self.left(())
