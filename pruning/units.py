"""A graph's coupled units: rules trace it, a union of ids makes classes, sets of producers make groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from pruning.contract.errors import VerificationFailed
from pruning.graph import Graph, Op
from pruning.rules import rule_of, why_none
from pruning.rules.extents import FIXED, Ids, Value, shape_of
from pruning.rules.passing import passes_on
from pruning.rules.trace import (
    Avoided,
    Axis,
    Barrier,
    Constant,
    Cost,
    Hold,
    Mix,
    NormalizedAxes,
    Rescale,
    Resize,
    Role,
    Structure,
    Trace,
)
from pruning.tally import Tally

__all__ = [
    "Axis",
    "Barrier",
    "Constant",
    "Cost",
    "Group",
    "LayerEntry",
    "Rescale",
    "Resize",
    "Role",
    "Units",
    "find",
    "only",
]


@dataclass(frozen=True)
class Group:
    """Coupled units with one set of producers, on one side of every slice and split; prunable iff there is no barrier.

    `units`: their ids in the order of the first producer's axis. `id`: the first producer's layer.
    """

    id: str
    units: Ids
    producers: tuple[str, ...]
    layers: tuple[str, ...]
    coupled_because: str | None
    barrier: Barrier | None
    structure: Structure = "channel"


@dataclass(frozen=True)
class LayerEntry:
    """A layer and its arrays, in the model's order."""

    name: str
    class_name: str
    weights: tuple[str, ...]
    output_shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class Units:
    """All that pruning has to know of a model. Unit ids run from 0 to `count` - 1; -1 marks a place without a unit.

    `widths`: the ids on a layer's output axis: a user's index 7 is `widths[layer][7]`. `sizes`: the full shape of every
    array that is a weight of the model, each once. `scales`: arrays that are the gamma of a normalisation.
    `tensors`: the extents of every tensor of the graph. `vocabularies`: tensors that hold indices -> how many there
    are. `heads`: the ids of a layer's heads. `avoided`: axes of layers and how many units must not be left on them.
    `bfloat16`: arrays that the file holds so. `indices`: tensors that a table is read at.
    """

    count: int
    axes: tuple[Axis, ...]
    costs: tuple[Cost, ...]
    groups: tuple[Group, ...]
    barriers: tuple[Barrier, ...]
    widths: dict[str, Ids]
    sizes: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype[Any]]
    layers: tuple[LayerEntry, ...]
    resizes: tuple[Resize, ...]
    constants: tuple[Constant, ...]
    scales: frozenset[str]
    tensors: tuple[Value, ...]
    vocabularies: dict[int, int]
    heads: dict[str, Ids] = field(default_factory=dict)
    rescales: tuple[Rescale, ...] = ()
    holds: tuple[Hold, ...] = ()
    mixes: tuple[Mix, ...] = ()
    avoided: tuple[Avoided, ...] = ()
    bfloat16: frozenset[str] = frozenset()
    indices: frozenset[int] = frozenset()

    @cached_property
    def tally(self) -> Tally:
        """The model's costs as a function of what is kept."""
        return Tally(self)

    def itemsize(self, path: str) -> int:
        """Bytes of one element of an array in the file."""
        return 2 if path in self.bfloat16 else self.dtypes[path].itemsize

    @cached_property
    def owners(self) -> Ids:
        """Unit id -> index of its group in `groups`, -1 without one; the last entry stands for the id -1."""
        table = np.full(self.count + 1, FIXED, np.int64)
        for index, group in enumerate(self.groups):
            table[group.units] = index
        return table

    def gone(self, removed: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Unit id -> whether it is one of these; the last entry stands for the id -1, which stays."""
        flags = np.zeros(self.count + 1, bool)
        flags[np.asarray(removed, np.int64)] = True
        return flags


def only(units: Units, structure: str) -> Units:
    """The units as a job of one structure sees them: all others stay, and for heads the widths count heads.

    A structure whose units are not in groups, such as `weight`, sees them all.
    """
    if structure not in get_args(Structure):
        return units
    groups = tuple(
        group
        if group.barrier is not None or group.structure == structure
        else replace(group, barrier=_other(group.producers[0], group.structure))
        for group in units.groups
    )
    widths = {**units.widths, **units.heads} if structure == "head" else units.widths
    return replace(units, groups=groups, widths=widths)


def _other(layer: str, structure: Structure) -> Barrier:
    return Barrier(layer, "other_structure", f"structure {structure} removes these units")


def find(
    graph: Graph,
    arrays: Mapping[str, npt.NDArray[Any]],
    normalized_axes: NormalizedAxes = "keep",
    bfloat16: frozenset[str] = frozenset(),
) -> Units:
    """The units of a graph whose arrays have these shapes (values are not read).

    `normalized_axes`: whether units stay that a normalisation or a mean takes its statistics over.
    A call that its rule cannot read, such as one whose arrays have other shapes, is the barrier `misread`.
    """
    trace, tensors = traced(graph, arrays, normalized_axes)
    labels = trace.resolve(np.arange(trace.count, dtype=np.int64))
    roots = np.zeros(trace.count, bool)
    roots[labels] = True
    count = int(np.count_nonzero(roots))
    renamed = np.append((np.cumsum(roots) - 1)[labels], FIXED).astype(np.int64)

    known: dict[int, Ids] = {}

    def final(extent: Any) -> Any:
        if isinstance(extent, tuple):
            return tuple(final(part) for part in extent)
        if not isinstance(extent, np.ndarray):
            return extent
        # Most axes share one array of ids with others: they still do with the final ids, which saves time everywhere.
        if id(extent) not in known:
            known[id(extent)] = renamed[extent]
        return known[id(extent)]

    axes = tuple(Axis(at.weight, at.axis, final(at.ids), at.role, at.layer) for at in trace.axes.values())
    sizes = {path: shape for path, shape in trace.weights.items() if path not in trace.aliases}
    reasons = _reasons(trace, renamed, count)
    return Units(
        count=count,
        axes=axes,
        costs=tuple(replace(cost, axes=final(cost.axes)) for cost in trace.costs),
        groups=_groups(axes, reasons, trace, renamed),
        barriers=tuple(dict.fromkeys(trace.barriers)),
        widths={name: final(ids) for name, ids in trace.widths.items()},
        sizes=sizes,
        dtypes={path: arrays[path].dtype for path in sizes},
        layers=_entries(graph, sizes, tensors),
        constants=tuple(replace(constant, ids=final(constant.ids)) for constant in trace.constants.values()),
        resizes=tuple(replace(resize, value=final(resize.value)) for resize in trace.resizes.values()),
        scales=frozenset(trace.scales),
        tensors=tuple(final(value) for value in tensors),
        vocabularies=trace.vocabularies,
        heads={name: final(ids) for name, ids in trace.heads.items()},
        rescales=tuple(replace(rescale, ids=final(rescale.ids)) for rescale in trace.rescales.values()),
        holds=tuple(replace(hold, ids=final(hold.ids)) for hold in trace.holds),
        mixes=tuple(replace(mix, ids=final(mix.ids)) for mix in trace.mixes.values()),
        avoided=tuple(replace(one, ids=final(one.ids)) for one in trace.avoided.values()),
        bfloat16=bfloat16,
        indices=frozenset(trace.indices),
    )


def _is_weight(path: str) -> bool:
    """Not the optimizer's state, not the state of a random generator, not a metric."""
    parts = path.split("/")
    return parts[0] not in ("optimizer", "metrics") and "seed_generator" not in parts and "metrics" not in parts


def traced(
    graph: Graph, arrays: Mapping[str, npt.NDArray[Any]], normalized_axes: NormalizedAxes = "keep"
) -> tuple[Trace, list[Value]]:
    """All rules' notes and the extents of all tensors, before classes are made."""
    trace = Trace({path: array.shape for path, array in arrays.items() if _is_weight(path)}, normalized_axes)
    values: list[Value | None] = [None] * len(graph.shapes)
    for tensor in graph.inputs:
        values[tensor] = graph.shapes[tensor]
    for trace.at, op in enumerate(graph.ops):
        trace.op = op
        for tensor, value in zip(op.outputs, _call(op, graph, values, trace), strict=True):
            values[tensor] = value
    makers = {tensor: op for op in graph.ops for tensor in op.outputs}
    for tensor in graph.outputs:
        trace.op = makers.get(tensor, trace.op)
        trace.pin(values[tensor] or (), "model_output", "an output of the model")
    return trace, [value or () for value in values]


def _call(op: Op, graph: Graph, values: list[Value | None], trace: Trace) -> list[Value]:
    """One op's outputs by its rule, held against the shapes that the config records; a barrier where that fails."""
    inputs = [values[tensor] for tensor in op.inputs]
    recorded = [graph.shapes[tensor] for tensor in op.outputs]
    known = [value for value in inputs if value is not None]
    rule = rule_of(op)
    if rule is None:
        return _stop(op, known, recorded, trace, "unknown_layer", why_none(op))
    if _is_quantized(op.config.get("dtype")):
        return _stop(op, known, recorded, trace, "quantized", "its weights are quantized, with scales of their own")
    if len(known) < len(inputs):
        return _stop(op, known, recorded, trace, "unknown_shape", "the shape of what enters is not known")
    before = trace.count
    try:
        result = rule(op, known, trace)
    except (VerificationFailed, ArithmeticError, LookupError, TypeError, ValueError) as error:
        trace.op = op
        known.append((np.arange(before, trace.count),))
        reason = error.detail if isinstance(error, VerificationFailed) else f"{type(error).__name__}: {error}"
        return _stop(op, known, recorded, trace, "misread", f"its rule cannot read this call: {reason}")
    outputs = result if isinstance(result, list) else [result]
    for tensor in op.outputs if trace.rows else ():
        trace.rows.setdefault(tensor, trace.rows_of(op))
    if passes_on(op):
        trace.come_from(op.outputs, op.inputs)
    for value, shape in zip(outputs, recorded, strict=False):
        if shape is not None and not _agree(shape_of(value), shape):
            detail = f"its output was computed as {shape_of(value)}, the config records {shape}"
            return _stop(op, [*known, *outputs], recorded, trace, "shape_mismatch", detail)
    if len(outputs) < len(recorded):
        return _stop(op, [*known, *outputs], recorded, trace, "unused_output", "has more outputs than its rule knows")
    return outputs[: len(recorded)]


def _is_quantized(policy: Any) -> bool:
    """Whether a dtype policy, such as `int8_from_float32`, is one of weights that are quantized."""
    if isinstance(policy, Mapping):
        return policy.get("class_name") not in ("DTypePolicy", "FloatDTypePolicy")
    return isinstance(policy, str) and "_from_" in policy


def _stop(
    op: Op, values: list[Value], recorded: list[tuple[int | None, ...] | None], trace: Trace, code: str, detail: str
) -> list[Any]:
    """A barrier: all units that reach the op or lie in its arrays (by another call) stay, its outputs have none."""
    own = [(axis.ids,) for axis in trace.axes.values() if op.path and axis.weight.startswith(f"{op.path}/")]
    for value in [*values, *own]:
        trace.pin(value, code, detail)
    barrier = Barrier(op.name, code, detail)
    # Also where no units reach it: its own weights might have made some.
    if op.path and any(path.startswith(f"{op.path}/") for path in trace.weights) and barrier not in trace.barriers:
        trace.barriers.append(barrier)
    return list(recorded)


def _agree(computed: tuple[int | None, ...], recorded: tuple[int | None, ...]) -> bool:
    return computed == recorded or (
        len(computed) == len(recorded)
        and all(a is None or b is None or a == b for a, b in zip(computed, recorded, strict=True))
    )


def _reasons(trace: Trace, renamed: Ids, count: int) -> Ids:
    """For each class the first barrier that pins it, -1 for none; `normalized_axis` only where it is alone.

    That one an option lifts, which would be promised in vain to units that something else keeps as well.
    """
    reasons = np.full(count + 1, FIXED, np.int64)
    last_first = trace.pins[::-1]
    for ids, barrier in sorted(last_first, key=lambda pin: trace.barriers[pin[1]].code != "normalized_axis"):
        reasons[renamed[ids]] = barrier
    return reasons[:-1]


def _groups(axes: tuple[Axis, ...], reasons: Ids, trace: Trace, renamed: Ids) -> tuple[Group, ...]:
    """Classes with the same producers, parts and reason to stay, in the order of their first producers."""
    count = len(reasons)
    producers = [axis for axis in axes if axis.role == "producer" or (axis.weight, axis.axis) in trace.made]
    sets = [*(axis.ids for axis in producers), *(renamed[part] for part in trace.parts)]
    # The sum of one random number per producer stands for the set: equal sums of different sets have odds of 2**-64.
    keys = np.random.default_rng(0).integers(2**63, size=len(sets), dtype=np.uint64)
    sums = np.zeros(count + 1, np.uint64)
    for key, ids in zip(keys, sets, strict=True):
        sums[ids] += key  # an id that stands there twice counts once
    sums = sums[:-1] * np.uint64(2 * len(trace.barriers) + 3) + (reasons + 1).astype(np.uint64)
    # Classes of one group mostly stand together: each such run is looked at once.
    starts = np.flatnonzero(np.append(True, sums[1:] != sums[:-1])[:count])
    _, first, of_run = np.unique(sums[starts], return_index=True, return_inverse=True)
    order = np.argsort(first)
    group_of = np.append(np.repeat(np.argsort(order)[of_run], np.diff(starts, append=count)), FIXED)
    sizes = np.bincount(group_of[:-1], minlength=len(order))
    made_by = _touching(producers, group_of, len(order))
    touched = _touching(axes, group_of, len(order))
    because = _because(trace, renamed, group_of, len(order))
    heads = np.zeros(count, bool)
    of_heads = np.array([structure == "head" for structure in trace.structures], bool)
    heads[renamed[:-1][np.repeat(of_heads, np.array(trace.produced, np.int64))]] = True
    groups, used = [], dict[str, int]()
    for index, (makers, axes_of_group) in enumerate(zip(made_by, touched, strict=True)):
        lead = makers[0]
        units = lead.ids[group_of[lead.ids] == index]
        if len(units) > sizes[index]:
            _, at = np.unique(units, return_index=True)
            units = units[np.sort(at)]
        names = tuple(dict.fromkeys(axis.layer for axis in makers))
        used[lead.layer] = used.get(lead.layer, 0) + 1
        reason = int(reasons[units[0]])
        groups.append(
            Group(
                id=lead.layer if used[lead.layer] == 1 else f"{lead.layer}#{used[lead.layer]}",
                units=units,
                producers=names,
                layers=tuple(dict.fromkeys(axis.layer for axis in axes_of_group)),
                coupled_because=because[index] if len(names) > 1 else None,
                barrier=trace.barriers[reason] if reason != FIXED else None,
                structure="head" if heads[units[0]] else "channel",
            )
        )
    return tuple(groups)


def _touching(axes: Any, group_of: Ids, count: int) -> list[list[Axis]]:
    """For each group the axes that hold its units."""
    found: list[list[Axis]] = [[] for _ in range(count)]
    indices: dict[int, list[int]] = {}
    for axis in axes:
        if id(axis.ids) not in indices:
            seen = np.zeros(count + 1, bool)
            seen[group_of[axis.ids]] = True
            indices[id(axis.ids)] = np.flatnonzero(seen[:-1]).tolist()
        for index in indices[id(axis.ids)]:
            found[index].append(axis)
    return found


def _because(trace: Trace, renamed: Ids, group_of: Ids, count: int) -> list[str | None]:
    """For each group the first op that tied units of two producers."""
    owner = np.concatenate([np.full(n, i) for i, n in enumerate(trace.produced)]) if trace.produced else renamed[:0]
    found: list[str | None] = [None] * count
    for first, second, op in trace.ties:
        for index in np.unique(group_of[renamed[first[owner[first] != owner[second]]]]):
            found[index] = found[index] or f"{op.class_name} {op.name!r} needs them alike"
    return found


def _entries(graph: Graph, sizes: Mapping[str, tuple[int, ...]], tensors: list[Value]) -> tuple[LayerEntry, ...]:
    """Every layer with the arrays below its path; arrays of no layer belong to the model itself."""
    owners = {layer.path: layer.name for layer in reversed(graph.layers) if layer.path}
    weights: dict[str, list[str]] = {}
    for path in sizes:
        owner = path
        while owner and owner not in owners:
            owner = owner.rpartition("/")[0]
        weights.setdefault(owners.get(owner, ""), []).append(path)
    shapes = {op.name: shape_of(tensors[op.outputs[0]]) for op in reversed(graph.ops) if tensors[op.outputs[0]]}
    entries = [
        LayerEntry(layer.name, layer.class_name, tuple(weights.pop(layer.name, ())), shapes.get(layer.name))
        for layer in graph.layers
    ]
    left = tuple(path for paths in weights.values() for path in paths)
    return (*entries, LayerEntry("", "Model", left)) if left else tuple(entries)
