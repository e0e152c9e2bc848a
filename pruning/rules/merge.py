"""Merges: element-wise ones tie the axes that meet, Concatenate strings ids together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruning.graph import Op
from pruning.rules import bias_add, layer, operation
from pruning.rules.extents import FIXED, Extent, Value, size
from pruning.rules.trace import Trace


@layer("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract")
def elementwise(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Inputs of a lower rank get axes of 1 after the batch, as Keras does it; sizes of 1 are broadcast."""
    rank = max(len(value) for value in inputs)
    values = [(*value[:1], *(1,) * (rank - len(value)), *value[1:]) for value in inputs]
    output = broadcast(values, trace)
    if op.class_name in ("Add", "Average"):
        bias_add.of_sum(values, output, trace)
    return output


def broadcast(values: Sequence[Value], trace: Trace) -> Value:
    """One element-wise operation on tensors of one rank: axes of equal size meet, axes of size 1 are spread."""
    return tuple(_spread(extents, trace) for extents in zip(*values, strict=True))


def _spread(extents: tuple[Extent, ...], trace: Trace) -> Extent:
    wide = [extent for extent in extents if size(extent) != 1] or list(extents)
    if len(wide) < len(extents):
        trace.pin(
            tuple(extent for extent in extents if size(extent) == 1), "broadcast", "one unit is spread over an axis"
        )
    return _meet(wide, trace)


@layer("Concatenate")
@operation("Concatenate")
def concatenate(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Ids are strung together along `axis` and meet along the others."""
    return strung(inputs, op.config["axis"], trace)


@operation("Append", "Dstack", "Hstack", "Vstack")
def stacked(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A concatenation along `axis`, or along the first, second or third of tensors that have that many."""
    along = op.config.get("axis", {"Vstack": 0, "Hstack": 1, "Dstack": 2}.get(op.class_name))
    if along is None:
        for value in inputs:
            trace.pin(value, "batch_axis", f"{op.class_name} strings the samples of a batch together")
        return (None,)
    return strung([(*value, *(1,) * (along + 1 - len(value))) for value in inputs], along, trace)


def strung(values: Sequence[Value], along: int, trace: Trace) -> Value:
    """Tensors of one rank put together along one axis."""
    along %= len(values[0])
    return tuple(
        _string(extents, trace) if axis == along else _meet(extents, trace)
        for axis, extents in enumerate(zip(*values, strict=True))
    )


def _string(extents: tuple[Extent, ...], trace: Trace) -> Extent:
    if any(extent is None for extent in extents):
        trace.pin(extents, "unknown_size", "stands beside an axis of unknown size")
        return None
    if not any(isinstance(extent, np.ndarray) for extent in extents):
        return sum(extent for extent in extents if isinstance(extent, int))
    return np.concatenate([e if isinstance(e, np.ndarray) else np.full(e or 0, FIXED, np.int64) for e in extents])


def _meet(extents: Sequence[Extent], trace: Trace) -> Extent:
    kept = extents[0]
    for extent in extents[1:]:
        kept = trace.meet(kept, extent)
    return kept
