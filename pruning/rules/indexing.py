"""Slices, splits and the like: NumPy's indexing on the ids; places written in the config move with what goes."""

from __future__ import annotations

from typing import Any

import numpy as np

from pruning.graph import Op
from pruning.rules import operation
from pruning.rules.arithmetic import beside, operands
from pruning.rules.extents import Extent, Ids, Value, axes_of, replaced, size
from pruning.rules.merge import broadcast, strung
from pruning.rules.trace import Trace


@operation("GetItem")
def get_item(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """x[key]: slices cut the ids, integers take one element of an axis, None adds an axis."""
    (value,) = inputs
    tuples = isinstance(op.args[1], list | tuple)
    keys = list(op.args[1]) if tuples else [op.args[1]]
    at = next((i for i, key in enumerate(keys) if _is(key, "__ellipsis__")), len(keys))
    used = sum(key is not None for key in keys) - (at < len(keys))
    whole = [_WHOLE] * (len(value) - used)
    places = [*range(at), *[None] * len(whole), *range(at + 1, len(keys))]
    output: list[Extent] = []
    axis = 0
    for key, place in zip([*keys[:at], *whole, *keys[at + 1 :]], places, strict=True):
        if key is None:
            output.append(1)
            continue
        extent = value[axis]
        axis += 1
        if _is(key, "__slice__"):
            where = (*op.node, "args", 1, *(() if not tuples else (place or 0,)), "config")
            output.append(_sliced(extent, key["config"], None if place is None else where, trace))
        else:
            trace.pin(extent, "takes_one", "takes single elements of an axis that has units")
            if not isinstance(key, int):
                trace.pin(value, "unknown_index", f"an index of type {type(key).__name__}")
    return tuple(output)


_WHOLE = {"class_name": "__slice__", "config": {"start": None, "stop": None, "step": None}}


def _is(key: Any, class_name: str) -> bool:
    return isinstance(key, dict) and key.get("class_name") == class_name


def _sliced(extent: Extent, given: dict[str, Any], where: tuple[str | int, ...] | None, trace: Trace) -> Extent:
    """One axis cut by a slice; `where` its numbers stand in the config."""
    bounds = slice(given["start"], given["stop"], given["step"])
    length = size(extent)
    if bounds == slice(None):
        return extent
    if length is None or not all(n is None or isinstance(n, int) for n in (bounds.start, bounds.stop, bounds.step)):
        trace.pin(extent, "unknown_size", "a slice whose bounds are not known")
        return None
    if not isinstance(extent, np.ndarray) or where is None:
        return len(range(*bounds.indices(length)))
    if bounds.step not in (None, 1, -1):
        trace.pin(extent, "unsupported_option", f"every {bounds.step}th unit is taken")
    elif bounds.step != -1:
        start, stop, _ = bounds.indices(length)
        for key, bound in (("start", start), ("stop", stop)):
            if given[key] is not None:
                trace.resize_at((*where, key), extent[:bound])
    elif bounds != slice(None, None, -1):
        trace.pin(extent, "unsupported_option", "a slice that runs backwards")
    return trace.part(extent[bounds])


@operation("ArraySplit", "Dsplit", "Hsplit", "Split", "Vsplit")
def split(op: Op, inputs: list[Value], trace: Trace) -> list[Value]:
    """Cut along `axis` into sections or at indices; the config is given indices where units may go."""
    (value,) = inputs
    axis, given = op.config.get("axis", _SPLIT_ALONG.get(op.class_name)), op.config["indices_or_sections"]
    extent = value[axis]
    length = size(extent)
    if length is None:
        count = given if isinstance(given, int) else len(given) + 1
        return [replaced(value, axis, None)] * count
    cuts = _evenly(length, given) if isinstance(given, int) else list(given)
    if isinstance(extent, np.ndarray) and op.class_name == "ArraySplit":
        extent = _alike(extent, given, trace)
    elif isinstance(extent, np.ndarray):
        trace.resize("indices_or_sections", tuple(extent[:cut] for cut in cuts))
    bounds = zip([0, *cuts], [*cuts, length], strict=True)
    parts = [extent[a:b] if isinstance(extent, np.ndarray) else b - a for a, b in bounds]
    return [replaced(value, axis, trace.part(part)) for part in parts]


_SPLIT_ALONG = {"Vsplit": 0, "Hsplit": 1, "Dsplit": 2}


def _alike(extent: Ids, count: Any, trace: Trace) -> Extent:
    """An axis cut into a number of parts, which stay of one length."""
    if not isinstance(count, int):
        trace.pin(extent, "unsupported_option", "is cut at places, where Keras takes a number of parts")
        return len(extent)
    if len(extent) % count:
        trace.pin(extent, "unsupported_option", f"is cut into {count} parts of unlike length")
        return len(extent)
    table = extent.reshape(count, -1)
    trace.tie(np.broadcast_to(table[0], table.shape), table)
    return extent


def _evenly(length: int, count: int) -> list[int]:
    """Where `count` parts begin, the first of which are longer where the length does not divide."""
    return [length // count * i + min(i, length % count) for i in range(1, count)]


@operation("Unstack")
def unstack(op: Op, inputs: list[Value], trace: Trace) -> list[Value]:
    """A tensor for each place along `axis`, whose units stay."""
    (value,) = inputs
    (axis,) = axes_of(op.config["axis"], len(value))
    trace.pin(value[axis], "takes_one", "takes single elements of an axis that has units")
    count = op.config["num"] or size(value[axis]) or len(op.outputs)
    return [(*value[:axis], *value[axis + 1 :]) for _ in range(count)]


@operation("Flip", "Fliplr", "Flipud")
def flip(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The ids of an axis turned round."""
    (value,) = inputs
    for axis in axes_of(op.config.get("axis", {"Flipud": 0, "Fliplr": 1}.get(op.class_name)), len(value)):
        value = replaced(value, axis, _turned(value[axis]))
    return value


def _turned(extent: Extent) -> Extent:
    return extent[::-1] if isinstance(extent, np.ndarray) else extent


@operation("Rot90")
def quarter_turns(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`k` quarter turns from the first of two axes to the second."""
    (value,) = inputs
    first, second = (axis % len(value) for axis in op.config["axes"])
    if op.config["k"] % 4 == 2:
        trace.pin((value[first], value[second]), "unsupported_option", "Keras makes something else of two turns")
        return value
    for _ in range(op.config["k"] % 4):
        value = replaced(replaced(value, first, _turned(value[second])), second, value[first])
    return value


@operation("Roll")
def roll(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A shift that is a number of places: units along the axis stay."""
    (value,) = inputs
    axes = axes_of(op.config["axis"], len(value))
    trace.pin(tuple(value[axis] for axis in axes), "unsupported_option", "rolls an axis that has units")
    return value


@operation("Tile")
def tile(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The ids of an axis again and again."""
    (value,) = inputs
    given = op.config["repeats"]
    times = list(given) if isinstance(given, list | tuple) else [given]
    value = (*(1,) * (len(times) - len(value)), *value)
    times = [1] * (len(value) - len(times)) + times
    for axis, n in enumerate(times):
        if axis and n != 1:
            value = replaced(value, axis, strung([(value[axis],)] * n, 0, trace)[0])
    return value


@operation("Pad")
def pad(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Constants before and after; other modes copy elements, which keeps the units of a padded axis."""
    (value,) = inputs
    given = op.config["pad_width"]
    widths = [(given, given)] * len(value) if isinstance(given, int) else [tuple(pair) for pair in given]
    widths = widths * len(value) if len(widths) == 1 else widths
    for axis, (before, after) in enumerate(widths):
        if not before and not after:
            continue
        extent = value[axis]
        if op.config.get("mode", "constant") != "constant":
            trace.pin(extent, "unsupported_option", f"{op.config['mode']} padding of an axis that has units")
        value = replaced(value, axis, strung([(before,), (extent,), (after,)], 0, trace)[0])
    return value


@operation("BroadcastTo")
def broadcast_to(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """To `shape`, whose numbers are resized where units lie; axes of 1 are spread."""
    (value,) = inputs
    target = op.config["shape"]
    wide = [(*(1,) * (len(target) - len(value)), *value), tuple(None if n == -1 else n for n in target)]
    output = tuple(
        extent if isinstance(extent, np.ndarray) and len(extent) == n != 1 else broadcast([(extent,), (n,)], trace)[0]
        for extent, n in zip(*wide, strict=True)
    )
    if any(isinstance(extent, np.ndarray) for extent in output):
        trace.resize("shape", tuple(-1 if n == -1 else e for n, e in zip(target, output, strict=True)))
    return output


@operation("TakeAlongAxis")
def take_along_axis(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """For each place one element along `axis`, whose units stay; the other axes of tensor and indices meet."""
    (value, _), (indices, where) = operands(op, inputs)
    if op.config["axis"] is None or len(value) != len(indices):
        trace.pin(value, "batch_axis", "takes elements of the flattened tensor")
        return indices
    (axis,) = axes_of(op.config["axis"], len(value))
    trace.pin((value[axis], indices[axis]), "takes_one", "takes single elements of an axis that has units")
    around = (*value[:axis], 1, *value[axis + 1 :]), (*indices[:axis], 1, *indices[axis + 1 :])
    output = broadcast(around, trace) if where is None else beside(around[0], around[1], where, trace)
    return replaced(output, axis, size(indices[axis]))


@operation("Take")
def take(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """x[..., indices, ...] along `axis`: the indices' axes stand where that axis was. Units along it stay."""
    given = operands(op, inputs)
    (value, _), (indices, _) = given
    if op.config.get("axis") is None:
        trace.pin(value, "unsupported_option", "takes elements of the flattened tensor")
        return indices
    axis = op.config["axis"] % len(value)
    trace.pin(value[axis], "takes_one", "takes single elements of an axis that has units")
    return (*value[:axis], *indices, *value[axis + 1 :])
