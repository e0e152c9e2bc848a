"""`keras.ops` that look along axes: sums and statistics, also running ones, and which place is the largest."""

from __future__ import annotations

from typing import Any

from pruning.graph import Op
from pruning.rules import operation
from pruning.rules.arithmetic import Location, beside, operands
from pruning.rules.extents import Value, axes_of, replaced, size
from pruning.rules.merge import broadcast
from pruning.rules.trace import Trace


@operation(
    "All", "Amax", "Amin", "Any", "CountNonzero", "Logsumexp", "Max", "Mean", "Median", "Min", "Nanmax",
    "Nanmean", "Nanmedian", "Nanmin", "Nanpercentile", "Nanprod", "Nanquantile", "Nanstd", "Nansum", "Nanvar", "Norm",
    "Percentile", "Prod", "Ptp", "Quantile", "Std", "Sum", "Var",
)  # fmt: skip
def reduce(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Axes go, or stay as 1 with `keepdims`. Sum, norm and Any over units go on without those that are gone.

    What else looks at all units along an axis (a mean divides by their number) does so over those that are left, or
    keeps them, as `normalized_axes` says. Quantiles stand along an axis of their own in front.
    """
    value = inputs[0]
    gone = axes_of(op.config.get("axis"), len(value))
    for axis in gone:
        if op.class_name in _SUMS or (op.class_name == "Norm" and _adds_up(op.config.get("ord"), len(gone))):
            trace.mix(0, axis, value[axis])
        elif op.class_name == "Norm":
            trace.pin(value[axis], "mixes_channels", f"a norm of order {op.config['ord']} over an axis that has units")
        else:
            trace.normalize(value[axis], [(0, axis)])
    for other in inputs[1:]:
        trace.pin(other, "mixes_channels", "units among the quantiles asked for")
    return (*_asked(op, inputs), *_left(value, gone, op))


_SUMS = ("Any", "CountNonzero", "Nansum", "Sum")
_QUANTILES = ("Nanpercentile", "Nanquantile", "Percentile", "Quantile")


def _adds_up(order: Any, axes: int) -> bool:
    """Whether a norm is the same without elements that are zero."""
    return order in (None, "fro") or (axes == 1 and isinstance(order, int | float) and order > 0)


def _asked(op: Op, inputs: list[Value]) -> Value:
    """The axis of the quantiles that are asked for, where there are several."""
    return operands(op, inputs)[1][0] if op.class_name in _QUANTILES else ()


def _left(value: Value, gone: tuple[int, ...], op: Op) -> Value:
    if op.config.get("keepdims"):
        return tuple(1 if axis in gone else extent for axis, extent in enumerate(value))
    return tuple(extent for axis, extent in enumerate(value) if axis not in gone)


@operation("Average")
def average(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A mean; with weights, units along the axis that goes stay, and weights of the tensor's shape are tied to it.

    Else the weights are a vector along the axis.
    """
    given = operands(op, inputs)
    value, weighted = given[0][0], len(given) > 1
    if weighted:
        value = _weighted(given, trace)
    gone = axes_of(op.config.get("axis"), len(value))
    for axis in gone:
        if weighted:
            trace.pin(value[axis], "mixes_channels", "an average with weights over an axis that has units")
        else:
            trace.normalize(value[axis], [(0, axis)])
    return _left(value, gone, op)


def _weighted(given: list[tuple[Value, Location | None]], trace: Trace) -> Value:
    """The tensor beside its weights, either of which may be a constant."""
    (value, _), (weights, _) = given
    if len(weights) != len(value):
        trace.pin(weights, "mixes_channels", "units among the weights of an average")
        return value
    output = broadcast([each for each, where in given if where is None], trace)
    for each, where in given:
        output = output if where is None else beside(output, each, where, trace)
    return output


@operation("Moments")
def moments(op: Op, inputs: list[Value], trace: Trace) -> list[Value]:
    """Mean and variance along axes, which go or stay as 1 with `keepdims`; over units as other statistics."""
    (value,) = inputs
    gone = axes_of(op.config["axes"], len(value))
    for axis in gone:
        trace.normalize(value[axis], [(0, axis)])
    return [_left(value, gone, op)] * 2


@operation("Cumprod", "Cumsum", "Nancumprod", "Nancumsum")
def running(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A running sum passes over units that are gone; a product does under `normalized_axes: prune`."""
    (value,) = inputs
    if op.config.get("axis") is None:
        trace.pin(value, "batch_axis", f"{op.class_name} runs through the samples of a batch")
        return (None,)
    (axis,) = axes_of(op.config["axis"], len(value))
    if op.class_name.endswith("sum"):
        trace.mix(0, axis, value[axis])
    else:
        trace.normalize(value[axis], [(0, axis)])
    return value


@operation("Argmax", "Argmin", "Nanargmax", "Nanargmin")
def place(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A number of a place along an axis, whose units stay: without one of them places behind it have other numbers."""
    (value,) = inputs
    gone = axes_of(op.config.get("axis"), len(value))
    trace.pin(tuple(value[axis] for axis in gone), "takes_one", f"{op.class_name} gives the number of a unit")
    return _left(value, gone, op)


@operation("Argpartition", "Argsort", "Sort")
def order(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Along an axis, whose units stay: which of them stands where depends on the data."""
    (value,) = inputs
    if op.config.get("axis", -1) is None:
        trace.pin(value, "batch_axis", f"{op.class_name} mixes the samples of a batch")
        return (None,)
    for axis in axes_of(op.config.get("axis", -1), len(value)):
        trace.pin(value[axis], "takes_one", f"{op.class_name} puts units in an order that depends on the data")
    return value


@operation("TopK")
def largest(op: Op, inputs: list[Value], trace: Trace) -> list[Value]:
    """The k largest along the last axis and their places; units there stay."""
    (value,) = inputs
    trace.pin(value[-1], "takes_one", "TopK chooses units by the data")
    return [replaced(value, -1, op.config["k"])] * 2


@operation("Diff")
def differences(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Of neighbours along an axis, `n` times; units there stay."""
    (value,) = inputs
    (axis,) = axes_of(op.config["axis"], len(value))
    trace.pin(value[axis], "mixes_channels", "Diff subtracts neighbouring units")
    length = size(value[axis])
    return replaced(value, axis, None if length is None else max(0, length - op.config["n"]))
