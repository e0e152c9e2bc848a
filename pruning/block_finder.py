"""The search for blocks on a graph.

A *branch* is what a sum or product adds to its shortcut: `Add([x, f(x)])` becomes x, so does `Multiply([x, g(x)])`. A
*chain* is the shortest run of layers from one with a kernel to a tensor of the shape that entered, with what follows
without a kernel (normalisation, activation, dropout). In a branch it lies there as a whole and leaves another layer
with a kernel: without any, the branch would add its input to itself. Both are proven on the graph: nothing else of a
block is read outside it, and both tensors have one shape, at any length of free axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy.typing as npt

from pruning import lengths
from pruning import steps as leveled
from pruning.blocks import Block, Blocks
from pruning.graph import Graph, Op
from pruning.rules.passing import kinds
from pruning.rules.trace import Barrier
from pruning.steps import Level, Location, Step
from pruning.units import Units

_MERGES = {"layers": ("Add", "Average", "Multiply", "Subtract"), "ops": ("Add", "Multiply", "Subtract")}
# What stands between the layer that makes an output and the output: that layer is the model's head.
_PASSING = {"Activation", "Softmax", "ReLU", "Flatten", "Reshape", "Permute", "Identity", "Dropout", "Concatenate"}
_PASSING |= {"TimeDistributed.leave"}


def find(graph: Graph, units: Units, arrays: Mapping[str, npt.NDArray[Any]]) -> Blocks:
    """The blocks of a graph whose arrays have these shapes (values are not read).

    Heads stay, and so does what a model inside that is called several times is made of. Of two blocks that overlap, one
    not inside the other, the smaller one is offered.
    """
    levels = leveled.levels(graph)
    finder = _Finder(graph, units, arrays, levels)
    branches = [block for level in levels for block in finder.branches(level)]
    candidates = [block for block in branches if not any(_empties(block, other) for other in branches)]
    candidates += [block for level in levels for block in finder.chains(level, branches)]
    found: list[Block] = []
    for block in sorted(candidates, key=lambda block: (len(block.ops), min(block.ops))):
        if all(_apart(block.ops, other.ops) for other in found):
            found.append(block)
    blocks = Blocks(tuple(_named(found)), tuple(dict.fromkeys(finder.barriers)), graph, levels)
    alone = [block for block in blocks.found if blocks.feasible([block])]
    unread = [
        Barrier(block.id, "model_input", "an input of the model would have no reader without it")
        for block in blocks.found
        if block not in alone
    ]
    return replace(blocks, found=tuple(_named(alone)), barriers=(*blocks.barriers, *unread))


def _empties(block: Block, branch: Block) -> bool:
    """Whether a part of a branch is all of it that has a kernel."""
    return block.ops < branch.ops and block.kernels == branch.kernels


def _apart(first: frozenset[int], second: frozenset[int]) -> bool:
    return not first & second or first < second or second < first


def _named(blocks: Sequence[Block]) -> list[Block]:
    """In the order of their last ops, each with the smallest block around it."""
    return [
        replace(
            block,
            inside=next(
                (other.id for other in sorted(blocks, key=lambda b: len(b.ops)) if block.ops < other.ops), None
            ),
        )
        for block in sorted(blocks, key=lambda block: (max(block.ops), len(block.ops)))
    ]


class _Finder:
    """One search; `barriers` collects why merges that look like blocks stay."""

    def __init__(
        self, graph: Graph, units: Units, arrays: Mapping[str, npt.NDArray[Any]], levels: Sequence[Level]
    ) -> None:
        self.graph = graph
        self.shapes = lengths.shapes(graph, units, arrays)
        self.kinds = kinds(graph.ops)
        self.inner = {level.model.location for level in levels}
        self.barriers = _called_often(graph)
        costly = {cost.op for cost in units.costs}
        matrices = {path for path, shape in units.sizes.items() if len(shape) > 1}
        unknown = {barrier.layer for barrier in units.barriers if barrier.code in ("unknown_layer", "misread")}
        unknown &= {entry.name for entry in units.layers if matrices.intersection(entry.weights)}
        # Whether an op has a kernel or, for a class that no rule knows, holds a matrix.
        self.multiplies = [index in costly or op.name in unknown for index, op in enumerate(graph.ops)]
        self.heads = _heads(graph, self.multiplies)
        self.indices = units.indices
        self.calls: dict[str, set[int]] = {}
        for index, op in enumerate(graph.ops):
            self.calls.setdefault(op.name, set()).add(index)

    # --- what a step is ----------------------------------------------------------------------------------------

    def computes(self, step: Step) -> bool:
        return any(self.multiplies[index] for index in step.ops)

    def fixed(self, step: Step) -> str | None:
        """Why a step stays in any case."""
        if not self.heads.isdisjoint(step.ops):
            return "makes an output of the model"
        if step.several or (step.op is None and step.location not in self.inner):
            return "is called several times, which are pruned together"
        if step.op is not None and step.op.class_name == "InputLayer":
            return "is an input of the model"
        return None

    def same(self, first: int, second: int) -> bool:
        """Whether two tensors have one shape, whatever the free axes are, and are known to be of one kind."""
        kind, other = (self.kinds.get(tensor, "float") for tensor in (first, second))
        if kind != other or kind == "unknown":
            return False
        return all(shapes[first] == shapes[second] and None not in shapes[first][1:] for shapes in self.shapes)

    def may_leave(self, level: Level, enters: int, leaves: int) -> bool:
        """No output of the whole model, and no model inside may become empty."""
        if leaves not in level.outputs:
            return True
        return bool(level.model.location) and enters not in level.entrances and enters not in level.model.inputs

    # --- branches ----------------------------------------------------------------------------------------------

    def branches(self, level: Level) -> list[Block]:
        """What merges add to a shortcut."""
        found = []
        for index, step in enumerate(level.steps):
            if step.op is None or not _is_merge(step.op) or len(step.reads) < 2:
                continue
            operands = step.op.inputs[:1] if step.op.class_name == "Subtract" else step.reads
            for enters in operands:
                if self.same(enters, step.makes[0]) and (block := self._branch(level, index, enters)):
                    found.append(block)
                    break
        return found

    def _branch(self, level: Level, at: int, enters: int) -> Block | None:
        merge = level.steps[at]
        gone = _dead(level, at, enters)
        others = [index for index in gone if index != at]
        if not any(self.computes(level.steps[index]) for index in others) or not self._fed(level, others, enters):
            return None
        reason = next((why for index in gone if (why := self.fixed(level.steps[index]))), None)
        if reason is None and not self.may_leave(level, enters, merge.makes[0]):
            reason = "makes an output of the model"
        if reason is not None:
            self.barriers.append(Barrier(merge.name, "block_kept", f"what it adds cannot go: a layer there {reason}"))
            return None
        followers = self._alike(level, enters, merge.makes[0])
        leaves = followers[-1].makes[0] if followers else merge.makes[0]
        return self._block("branch", level, [*(level.steps[index] for index in gone), *followers], enters, leaves)

    def _fed(self, level: Level, others: Sequence[int], enters: int) -> bool:
        """Whether a branch is computed from what enters, or from that from which the shortcut is, and is the longer."""
        made = {tensor for index in others for tensor in level.steps[index].makes}
        outside = {tensor for index in others for tensor in level.steps[index].reads} - made
        if enters in outside:
            descends = {enters}
            for index in others:
                if descends.intersection(level.steps[index].reads):
                    descends.update(level.steps[index].makes)
                elif self.computes(level.steps[index]):
                    return False
            return True
        if len(outside) != 1:
            return False
        between = _between(level, outside.pop(), enters)
        if between is None:
            return False
        return self._depth(level, others) > self._depth(level, between)

    def _depth(self, level: Level, indices: Sequence[int]) -> int:
        """How many layers with a kernel the longest way through these steps has."""
        depth: dict[int, int] = {}
        for index in indices:
            step = level.steps[index]
            here = max((depth.get(tensor, 0) for tensor in step.reads), default=0) + self.computes(step)
            depth |= dict.fromkeys(step.makes, here)
        return max(depth.values(), default=0)

    def _alike(self, level: Level, enters: int, leaves: int) -> list[Step]:
        """What follows a merge and is of the kinds that also made what enters: post-normalisation, activations."""
        after: list[Step] = []
        while (step := self._follower(level, enters, after[-1].makes[0] if after else leaves)) is not None:
            after.append(step)
        before: list[Step] = []
        tensor = enters
        while len(before) < len(after) and (at := level.maker.get(tensor)) is not None:
            step = level.steps[at]
            if len(step.reads) != 1 or len(step.makes) != 1 or self.computes(step):
                break
            before.insert(0, step)
            tensor = step.reads[0]
        for count in range(len(before), 0, -1):
            if [_kind(step) for step in after[:count]] == [_kind(step) for step in before[-count:]]:
                return after[:count]
        return []

    # --- chains ------------------------------------------------------------------------------------------------

    def chains(self, level: Level, branches: Sequence[Block]) -> list[Block]:
        """Runs of layers from one with a kernel to a tensor of the shape that entered, each a part of its branch."""
        found = []
        for index, step in enumerate(level.steps):
            if self.computes(step) and (block := self._chain(level, index)):
                around = [branch for branch in branches if not branch.ops.isdisjoint(step.ops)]
                if all(block.ops < branch.ops and not _empties(block, branch) for branch in around):
                    found.append(block)
        return found

    def _chain(self, level: Level, at: int) -> Block | None:
        """From the layer itself, else from what pads its input."""
        kernel = at
        while len(level.steps[at].reads) == 1:
            enters = level.steps[at].reads[0]
            if enters in self.indices:
                # Words are no features, though there may be as many of both.
                return None
            if (region := self._grown(level, at, kernel, enters)) is not None:
                steps, leaves = region
                while (step := self._follower(level, enters, leaves)) is not None:
                    steps, leaves = [*steps, step], step.makes[0]
                return self._block("chain", level, steps, enters, leaves)
            before = level.maker.get(enters)
            if before is None or len(level.readers[enters]) > 1 or self.computes(level.steps[before]):
                return None
            at = before
        return None

    def _grown(self, level: Level, at: int, kernel: int, enters: int) -> tuple[list[Step], int] | None:
        """The smallest region from a step on over one with a kernel that one tensor leaves, of the shape that entered.

        `waiting`: tensors made inside -> readers that are not inside; one that has a reader for good outside leaves.
        """
        if self.fixed(level.steps[at]):
            return None
        region: list[Step] = []
        made: set[int] = set()
        waiting: dict[int, int] = {}
        leaving: set[int] = set()
        for index in range(at, len(level.steps)):
            step = level.steps[index]
            if index != at and made.isdisjoint(step.reads):
                continue
            if self.fixed(step) or not made.issuperset(tensor for tensor in step.reads if tensor != enters):
                leaving |= made.intersection(step.reads)
                if len(leaving) > 1:
                    return None
                continue
            for tensor in made.intersection(step.reads):
                waiting[tensor] -= 1
                if not waiting[tensor] and tensor not in level.outputs:
                    del waiting[tensor]
            region.append(step)
            made.update(step.makes)
            waiting |= {
                t: len(level.readers.get(t, ())) for t in step.makes if t in level.readers or t in level.outputs
            }
            if len(waiting) == 1 and index >= kernel:
                (tensor,) = waiting
                if leaving <= {tensor} and self.same(enters, tensor) and self.may_leave(level, enters, tensor):
                    return region, tensor
        return None

    def _follower(self, level: Level, enters: int, leaves: int) -> Step | None:
        """The only reader of a tensor, if it reads nothing else, has no kernel and keeps the shape."""
        readers = level.readers.get(leaves, ())
        if len(readers) != 1 or leaves in level.outputs:
            return None
        step = level.steps[readers[0]]
        if self.computes(step) or self.fixed(step) or len(step.reads) != 1 or len(step.makes) != 1:
            return None
        fits = self.same(enters, step.makes[0]) and self.may_leave(level, enters, step.makes[0])
        return step if fits else None

    def _block(
        self, kind: Literal["branch", "chain"], level: Level, steps: Iterable[Step], enters: int, leaves: int
    ) -> Block:
        ops = frozenset(index for step in steps for index in step.ops)
        names = dict.fromkeys(self.graph.ops[index].name for index in sorted(ops))
        last = level.steps[level.maker[leaves]]
        call = sorted(self.calls[last.name]).index(last.ops[-1]) if last.op is not None and not last.several else 0
        return Block(
            id=last.name if not call else f"{last.name}#{call + 1}",
            kind=kind,
            layers=tuple(name for name in names if self.calls[name] <= ops),
            ops=ops,
            kernels=frozenset(index for index in ops if self.multiplies[index]),
            enters=enters,
            leaves=leaves,
            location=level.model.location,
        )


def _is_merge(op: Op) -> bool:
    family = "ops" if op.module.startswith("keras.src.ops.") else op.module.removeprefix("keras.")
    return op.class_name in _MERGES.get(family, ())


def _kind(step: Step) -> tuple[str, Any]:
    return (step.op.class_name, str(step.op.config.get("activation"))) if step.op else ("", step.location)


def _heads(graph: Graph, multiplies: Sequence[bool]) -> frozenset[int]:
    """The ops that end in an output of the model: back from it to the first layer of its own, over one merge."""
    maker = {tensor: index for index, op in enumerate(graph.ops) for tensor in op.outputs}
    found: set[int] = set()
    waiting = [(tensor, False) for tensor in graph.outputs]
    while waiting:
        tensor, merged = waiting.pop()
        index = maker.get(tensor)
        if index is None or (merged and not multiplies[index]):
            continue
        op = graph.ops[index]
        if _is_merge(op):
            waiting += [(tensor, True) for tensor in op.inputs]
        elif index not in found:
            found.add(index)
            waiting += [(tensor, False) for tensor in op.inputs if op.class_name in _PASSING]
    return frozenset(found)


def _called_often(graph: Graph) -> list[Barrier]:
    """Models inside whose blocks are not offered."""
    count: dict[Location, int] = {}
    for model in graph.models:
        count[model.location] = count.get(model.location, 0) + 1
    return list(
        dict.fromkeys(
            Barrier(
                model.name, "shared_model", f"a model that is called {count[model.location]} times keeps its blocks"
            )
            if count[model.location] > 1
            else Barrier(model.name, "wrapped_model", "a model inside a wrapper keeps its blocks")
            for model in graph.models
            if count[model.location] > 1 or not leveled.plain(model.location)
        )
    )


def _dead(level: Level, at: int, enters: int) -> list[int]:
    """The steps, in order, that nothing needs once the readers of a merge read `enters`."""
    gone = {at}
    waiting = {tensor for tensor in level.steps[at].reads if tensor != enters}
    for index in range(at - 1, -1, -1):
        step = level.steps[index]
        if waiting.isdisjoint(step.makes) or enters in step.makes:
            continue
        needed = any(
            tensor in level.outputs or not gone.issuperset(level.readers.get(tensor, ())) for tensor in step.makes
        )
        if not needed:
            gone.add(index)
            waiting.update(tensor for tensor in step.reads if tensor != enters)
    return sorted(gone)


def _between(level: Level, source: int, enters: int) -> list[int] | None:
    """The steps on all ways from `source` to `enters`; None where one comes from elsewhere."""
    waiting, found = [enters], set[int]()
    while waiting:
        tensor = waiting.pop()
        if tensor == source:
            continue
        index = level.maker.get(tensor)
        if index is None or tensor in level.entrances:
            return None
        if index not in found:
            found.add(index)
            waiting += level.steps[index].reads
    return sorted(found)
