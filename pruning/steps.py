"""A model's graph one model at a time: its calls as steps, a model inside it as one step, and who reads what.

This is the view on which whole blocks are found and taken out: a block lies in one model, and so does its entry in the
config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pruning.graph import Graph, Model, Op

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Step:
    """One call of an entry of a model. `entry`, `node`: where it lies in the config; `ops`: its calls in the graph.

    `reads`: the tensors that enter it, in order, each once; `makes`: all tensors made in it. `op`: the call, None
    for a model inside. `several`: it stands for more than one call.
    """

    name: str
    entry: int
    node: int
    ops: tuple[int, ...]
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    op: Op | None
    location: Location = field(repr=False)
    several: bool = False


@dataclass(frozen=True)
class Level:
    """One model that is called once: its steps in the order in which they run."""

    model: Model
    steps: tuple[Step, ...]
    maker: Mapping[int, int] = field(repr=False)
    readers: Mapping[int, tuple[int, ...]] = field(repr=False)
    entrances: frozenset[int]

    @property
    def outputs(self) -> frozenset[int]:
        return frozenset(self.model.outputs)


@dataclass(frozen=True)
class Left:
    """What still runs: indices of ops, and the tensors that are read."""

    ops: frozenset[int]
    tensors: frozenset[int]


def levels(graph: Graph) -> tuple[Level, ...]:
    """Every model that is called once and stands in no wrapper, the whole model first."""
    calls: dict[Location, int] = {}
    for model in graph.models:
        calls[model.location] = calls.get(model.location, 0) + 1
    single = [model for model in graph.models if calls[model.location] == 1 and plain(model.location)]
    return tuple(_level(graph, model, calls) for model in sorted(single, key=lambda model: len(model.location)))


def plain(location: Location) -> bool:
    """Whether a place in the config is reached through models alone, not through a wrapper's `layer`."""
    return all(part == ("config", "layers")[index % 3] for index, part in enumerate(location) if index % 3 < 2)


def left(levels: Sequence[Level], stand_ins: Mapping[int, int]) -> Left:
    """What runs if each of these tensors is replaced by another wherever it is read."""
    inner = {level.model.location: level for level in levels}
    ops: set[int] = set()
    tensors: set[int] = set()

    def walk(level: Level) -> None:
        waiting = list(level.model.outputs)
        done: set[int] = set()
        while waiting:
            tensor = through(waiting.pop(), stand_ins)
            tensors.add(tensor)
            index = level.maker.get(tensor)
            if index is None or index in done:
                continue
            done.add(index)
            step = level.steps[index]
            waiting += step.reads
            if step.location in inner:
                walk(inner[step.location])
            else:
                ops.update(step.ops)

    walk(levels[0])
    return Left(frozenset(ops), frozenset(tensors))


def through(tensor: int, stand_ins: Mapping[int, int]) -> int:
    """The tensor that stands for another in the end."""
    while tensor in stand_ins:
        tensor = stand_ins[tensor]
    return tensor


def _level(graph: Graph, model: Model, calls: Mapping[Location, int]) -> Level:
    depth = len(model.location)
    found: dict[tuple[int, int], list[int]] = {}
    for index, op in enumerate(graph.ops):
        if op.location[:depth] == model.location:
            own = len(op.location) == depth + 3
            key = (int(op.location[depth + 2]), int(op.node[-1]) if own and op.node else 0)
            found.setdefault(key, []).append(index)
    names = {inside.location: inside.name for inside in graph.models}
    steps = tuple(
        sorted(
            (_step(graph, (*model.location, "config", "layers", key[0]), key, ops, calls, names)
             for key, ops in found.items()),
            key=lambda step: step.ops[-1],
        )
    )  # fmt: skip
    readers: dict[int, list[int]] = {}
    for index, step in enumerate(steps):
        for tensor in step.reads:
            readers.setdefault(tensor, []).append(index)
    entrances = set(model.inputs) if not depth else set[int]()
    for step in steps:
        if step.op is not None and step.op.class_name == "InputLayer":
            entrances |= set(step.makes)
    return Level(
        model=model,
        steps=steps,
        maker={tensor: index for index, step in enumerate(steps) for tensor in step.makes},
        readers={tensor: tuple(indices) for tensor, indices in readers.items()},
        entrances=frozenset(entrances or model.inputs),
    )


def _step(
    graph: Graph,
    location: Location,
    key: tuple[int, int],
    ops: list[int],
    calls: Mapping[Location, int],
    names: Mapping[Location, str],
) -> Step:
    makes = tuple(tensor for index in ops for tensor in graph.ops[index].outputs)
    reads = dict.fromkeys(tensor for index in ops for tensor in graph.ops[index].inputs if tensor not in set(makes))
    own = [graph.ops[index] for index in ops if graph.ops[index].location == location]
    entered = sum(op.class_name.endswith(".enter") for op in own)
    return Step(
        name=own[0].name if own else names[location],
        entry=key[0],
        node=key[1],
        ops=tuple(ops),
        reads=tuple(reads),
        makes=makes,
        op=own[0] if own else None,
        location=location,
        several=max(entered, calls.get(location, 1)) > 1,
    )
