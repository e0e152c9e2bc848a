"""Flatten, Reshape, Permute, RepeatVector: the same NumPy operation on the ids as on the values.

A reshape is cut into the smallest runs of axes with equal products, so only a run that holds units is ever spread out.
Both sides of a run are rectangular after the removal and in C order: the same elements are kept in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, takewhile
from math import prod
from operator import mul

import numpy as np

from pruning.contract.errors import VerificationFailed
from pruning.graph import Op
from pruning.rules import layer, operation
from pruning.rules.extents import FIXED, Extent, Ids, Value, axes_of, channel_axis, replaced, shape_of, size
from pruning.rules.trace import Trace
from pruning.rules.union import unite
from pruning.rules.windows import spatial, spatial_axes


@layer("Flatten")
def flatten(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(batch, ...) -> (batch, product); channels_first is brought to channels_last before."""
    (value,) = inputs
    if op.config.get("data_format") == "channels_first" and len(value) > 2:
        value = (value[0], *value[2:], value[1])
    return (value[0], *reshape(value[1:], [product(value[1:])], trace))


@layer("Reshape")
def reshape_layer(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`target_shape` without the batch, one -1 allowed; its numbers are resized where their axes lose units."""
    (value,) = inputs
    given = list(op.config["target_shape"])
    target: list[int | None] = [None if n == -1 else n for n in given]
    total = product(value[1:])
    if total is not None and None in target:
        target[target.index(None)] = total // prod(n for n in target if n is not None)
    output = reshape(value[1:], target, trace)
    if any(isinstance(extent, np.ndarray) for extent in output):
        trace.resize("target_shape", tuple(-1 if n == -1 else e for n, e in zip(given, output, strict=True)))
    return (value[0], *output)


@layer("Permute")
def permute(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`dims` counts from 1, the batch stays."""
    (value,) = inputs
    return (value[0], *(value[axis] for axis in op.config["dims"]))


@layer("RepeatVector")
def repeat_vector(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(batch, features) -> (batch, n, features)."""
    (value,) = inputs
    return (value[0], op.config["n"], value[1])


@operation("Reshape")
def reshape_operation(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`newshape` with the batch; axes at the end that keep together pass also where the batch changes (windows)."""
    (value,) = inputs
    given = list(op.config["newshape"])
    if isinstance(value[0], np.ndarray):
        return _without_batch(value, given, trace)
    first, total = value[0], product(value[1:])
    rest = [None if n in (-1, None) else n for n in given[1:]]
    whole = None not in rest and total == prod(n for n in rest if n is not None)
    if given and ((whole and given[0] in (-1, None)) or (given[0] == first and first is not None)):
        if total is not None and None in rest:
            rest[rest.index(None)] = total // prod(n for n in rest if n is not None)
        return (first, *_renewed(reshape(value[1:], rest, trace), given, trace))
    kept, made = _known_end(value[1:], rest)
    trace.pin(value[: len(value) - kept], "batch_axis", f"a reshape to {given} may move elements between samples")
    if given and given[0] in (-1, None) and None not in rest and total is not None:
        rows = trace.rows_of(op) * total // prod(n for n in rest if n is not None)
        trace.rows[op.outputs[0]] = max(1, rows)
    plain = tuple(None if n == -1 else n for n in given[: len(given) - made])
    tail = _reshape_part(value[len(value) - kept :], rest[len(rest) - made :], trace)
    return (*plain, *_renewed(tail, given, trace))


def _renewed(output: Value, given: list[int | None], trace: Trace) -> Value:
    """The last axes of what is reshaped to `given`, whose numbers are resized where these have units."""
    if any(isinstance(extent, np.ndarray) for extent in output):
        count = len(given) - len(output)
        new = tuple(-1 if n in (-1, None) else e for n, e in zip(given[count:], output, strict=True))
        trace.resize("newshape", (*given[:count], *new))
    return output


def _without_batch(value: Value, given: list[int], trace: Trace) -> Value:
    """A reshape of a tensor that has lost its batch, such as a mean over samples."""
    total = product(value)
    target = [None if n == -1 else n for n in given]
    if total is not None and None in target:
        target[target.index(None)] = total // prod(n for n in target if n is not None)
    return _renewed(reshape(value, target, trace), list(given), trace)


@operation("Transpose")
def transpose(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """All axes, the batch among them."""
    (value,) = inputs
    return tuple(value[axis] for axis in op.config["axes"] or reversed(range(len(value))))


@operation("Swapaxes")
def swap_axes(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Two axes change places."""
    value = list(inputs[0])
    first, second = op.config["axis1"], op.config["axis2"]
    value[first], value[second] = value[second], value[first]
    return tuple(value)


@operation("Moveaxis")
def move_axis(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """As NumPy's."""
    order = np.moveaxis(np.zeros(range(len(inputs[0]))), op.config["source"], op.config["destination"]).shape
    return tuple(inputs[0][axis] for axis in order)


@operation("ExpandDims")
def expand_dims(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """New axes of 1."""
    value = inputs[0]
    given = op.config["axis"]
    count = len(given) if isinstance(given, list | tuple) else 1
    for axis in sorted(axes_of(given, len(value) + count)):
        value = (*value[:axis], 1, *value[axis:])
    return value


@operation("Squeeze")
def squeeze(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Axes of 1 go."""
    (value,) = inputs
    given = op.config["axis"]
    if given is None:
        gone = {axis for axis, extent in enumerate(value) if size(extent) == 1}
    else:
        gone = set(axes_of(given, len(value)))
    trace.pin(tuple(value[axis] for axis in gone), "takes_one", "an axis of one unit is taken away")
    return tuple(extent for axis, extent in enumerate(value) if axis not in gone)


@operation("DepthToSpace")
def depth_to_space(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Channels (row, column, c) of a pixel become a block of pixels of channels c, which need all of theirs."""
    (value,) = inputs
    times, channels = op.config["block_size"], channel_axis(op.config, len(value))
    extent = value[channels]
    value = _resampled(op, value, lambda n: n * times, trace)
    if isinstance(extent, np.ndarray):
        return replaced(value, channels, tie_across(extent.reshape(times * times, -1), 1, trace))
    return replaced(value, channels, None if extent is None else extent // times**2)


@operation("SpaceToDepth")
def space_to_depth(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The other way round: the ids of the channels again and again."""
    (value,) = inputs
    times, channels = op.config["block_size"], channel_axis(op.config, len(value))
    extent = value[channels]
    value = _resampled(op, value, lambda n: n // times, trace)
    if isinstance(extent, np.ndarray):
        return replaced(value, channels, np.tile(extent, times * times))
    return replaced(value, channels, None if extent is None else extent * times**2)


def _resampled(op: Op, value: Value, resize: Callable[[int], int], trace: Trace) -> Value:
    """The same with other sizes between batch and channels; unknown ones stay unknown."""
    for axis in spatial_axes(op.config, len(value)):
        n = spatial(value[axis], trace)
        value = replaced(value, axis, None if n is None else resize(n))
    return value


def reshape(extents: Value, target: list[int | None], trace: Trace) -> Value:
    """A tensor (without batch) reshaped to `target` in C order. Units that no axis can carry are pinned."""
    if None in target or None in shape_of(extents):
        return _reshape_unknown(extents, target, trace)
    output: list[Extent] = []
    for before, after in _runs(shape_of(extents), target):
        output += _reshape_run(extents[before], [n for n in target[after] if n is not None], trace)
    return tuple(output)


def product(extents: Value) -> int | None:
    sizes = shape_of(extents)
    return None if None in sizes else prod(n for n in sizes if n is not None)


def _reshape_unknown(extents: Value, target: list[int | None], trace: Trace) -> Value:
    """Where a size is unknown, what is known at the end and at the start is reshaped by itself; units between stay."""
    tail, after = _known_end(extents, target)
    rest, left = extents[: len(extents) - tail], target[: len(target) - after]
    head, before = _known_end(rest[::-1], left[::-1])
    trace.pin(rest[head:], "unknown_size", "a reshape of an axis of unknown size")
    start = _reshape_part(rest[:head], left[:before], trace, at_start=True)
    return (*start, *left[before:], *_reshape_part(extents[len(rest) :], target[len(left) :], trace))


def _reshape_part(extents: Value, target: list[int | None], trace: Trace, *, at_start: bool = False) -> Value:
    """Axes at one end, all known, reshaped to as many numbers.

    What one side has more of is the axis beside them, of unknown size: units that tell places along it apart stay.
    """
    if not target:
        return ()
    have, want = product(extents) or 1, product(tuple(target)) or 1
    if have > want:
        spare = have // want
        output = reshape(extents, [*target, spare] if at_start else [spare, *target], trace)
        why = f"a reshape spreads {spare} parts of an axis along one of unknown size"
        trace.pin(output[-1] if at_start else output[0], "unknown_size", why)
        return output[:-1] if at_start else output[1:]
    given: Value = () if have == want else (want // have,)
    return reshape((*extents, *given) if at_start else (*given, *extents), target, trace)


def _known_end(extents: Value, target: list[int | None]) -> tuple[int, int]:
    """How many of the last axes make how many of the target's last: (None, 8, 4) -> (-1, 32), (-1, 64), (-1, 2): 2, 1.

    In C order these axes keep together where one side's are as many numbers as the other's or a multiple: there are
    then so many times more places in front.
    """
    known = list(accumulate(takewhile(bool, reversed(shape_of(extents))), mul))
    wanted = list(accumulate(takewhile(bool, reversed(target)), mul))
    for count in range(len(known), 0, -1):
        for other, numbers in enumerate(wanted, 1):
            if numbers % known[count - 1] == 0:
                return count, other
    for count, numbers in enumerate(known, 1):
        for other in range(len(wanted), 0, -1):
            if numbers % wanted[other - 1] == 0:
                return count, other
    return 0, 0


def _runs(before: tuple[int | None, ...], after: list[int | None]) -> list[tuple[slice, slice]]:
    """The smallest runs of axes whose products are equal: (4, 4, 8) -> (16, 2, 4) is (4, 4)|(8) -> (16)|(2, 4)."""
    left, right = [n or 0 for n in before], [n or 0 for n in after]
    if prod(left) != prod(right):
        raise VerificationFailed(f"a reshape from {left} to {right} changes the number of elements")
    runs, i, j = [], 0, 0
    while i < len(left) or j < len(right):
        start, other = i, j
        i, j = min(i + 1, len(left)), min(j + 1, len(right))
        while prod(left[start:i]) != prod(right[other:j]):
            if prod(left[start:i]) < prod(right[other:j]):
                i += 1
            else:
                j += 1
        runs.append((slice(start, i), slice(other, j)))
    return runs


def _reshape_run(extents: Value, target: list[int], trace: Trace) -> list[Extent]:
    """One run: its ids, spread over all its elements, are reshaped and read off the axis that tells them apart."""
    holders = [axis for axis, extent in enumerate(extents) if isinstance(extent, np.ndarray)]
    if not holders:
        return list(target)
    if [size(e) for e in extents if size(e) != 1] == [n for n in target if n != 1]:
        return _unit_axes(extents, target)
    holder = max(holders, key=lambda axis: (size(extents[axis]), axis))
    trace.pin(tuple(extents[axis] for axis in holders if axis != holder), "two_unit_axes", _MERGED)
    along = [1] * len(extents)
    along[holder] = -1
    ids = extents[holder]
    assert isinstance(ids, np.ndarray)
    full = np.broadcast_to(ids.reshape(along), [size(e) or 0 for e in extents]).reshape(target)
    axis = _telling_axis(full, trace)
    output: list[Extent] = list(target)
    output[axis] = tie_across(full, axis, trace)
    return output


_MERGED = (
    "a reshape merges axes that both have units: a place of what comes out belongs to one of each and cannot go with "
    "either, so the longer axis alone loses units"
)


def _unit_axes(extents: Value, target: list[int]) -> list[Extent]:
    """A run in which only axes of 1 come or go."""
    left = iter([extent for extent in extents if size(extent) != 1])
    return [1 if n == 1 else next(left) for n in target]


def _telling_axis(full: Ids, trace: Trace) -> int:
    """The axis along which alone ids differ as far as ties are known; failing that the one that keeps most apart."""
    if full.ndim == 1:
        return 0
    known = trace.resolve(full)
    for axis in reversed(range(full.ndim)):
        first = known[tuple(slice(None) if a == axis else slice(1) for a in range(full.ndim))]
        if full.shape[axis] > 1 and (known == first).all():
            return axis
    return max(range(full.ndim), key=lambda axis: (_classes(known, axis), axis))


def _classes(known: Ids, axis: int) -> int:
    """How many units are left when all that share a place along the axis are tied."""
    found, numbers = np.unique(known, return_inverse=True)
    table = np.moveaxis(numbers.reshape(known.shape), axis, 0).reshape(known.shape[axis], -1)
    labels = np.arange(len(found))
    unite(labels, np.repeat(table[:, 0], table.shape[1]), table.ravel())
    return len(np.unique(labels))


def tie_across(full: Ids, axis: int, trace: Trace) -> Extent:
    """The ids along one axis, after tying all that share a place on it."""
    table = np.moveaxis(full, axis, -1).reshape(-1, full.shape[axis])
    differs = (table != table[0]).any(axis=1)
    if differs.any():
        rows = table[differs]
        trace.tie(np.broadcast_to(table[0], rows.shape), rows)
    return table[0] if (table[0] != FIXED).any() else len(table[0])
