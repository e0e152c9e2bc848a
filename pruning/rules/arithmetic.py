"""`keras.ops` on elements and along axes: axes that meet are tied, constants as long as an axis keep its units."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from pruning.graph import Op
from pruning.nodes import Ref
from pruning.rules import operation
from pruning.rules.extents import Ids, Value, axes_of, replaced
from pruning.rules.merge import broadcast, strung
from pruning.rules.trace import Constant, Trace

Location: TypeAlias = tuple[str | int, ...]


# fmt: off
_UNARY = (
    "Abs", "Absolute", "Arccos", "Arccosh", "Arcsin", "Arcsinh", "Arctan", "Arctanh", "Cast", "Cbrt", "Ceil",
    "Clip", "Conj", "Conjugate", "ConvertToTensor", "Copy", "Cos", "Cosh", "Deg2rad", "Erf", "Erfc", "Erfinv",
    "Exp", "Exp2", "Expm1", "Fabs", "Floor", "I0", "Identity", "Isfinite", "Isinf", "Isnan", "Isneginf", "Isposinf",
    "Log", "Log10", "Log1p", "Log2", "LogicalNot", "NanToNum", "Negative", "OnesLike", "Positive", "Rad2deg",
    "Reciprocal", "Round", "Rsqrt", "SaturateCast", "Sign", "Signbit", "Sin", "Sinc", "Sinh", "Sqrt", "Square",
    "StopGradient", "Tan", "Trunc", "ZerosLike",
)
# fmt: on


@operation(*_UNARY)
def unary(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """One tensor, each element on its own. Bounds of Clip are numbers: what else they are stops the units."""
    for key, value in op.config.items():
        if isinstance(value, list | dict):
            trace.pin(inputs[0], "constant", f"{key} is a constant with an axis")
    return inputs[0]


# fmt: off
_BINARY = (
    "Add", "Arctan2", "Divide", "DivideNoNan", "Equal", "FloorDivide", "Fmax", "Fmin", "Fmod", "Greater",
    "GreaterEqual", "Heaviside", "Hypot", "Isclose", "Less", "LessEqual", "Logaddexp", "Logaddexp2", "LogicalAnd",
    "LogicalOr", "LogicalXor", "Maximum", "Minimum", "Mod", "Multiply", "NotEqual", "Power", "Subtract",
    "TrueDivide", "Where",
)
# fmt: on


@operation(*_BINARY)
def elementwise(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """NumPy's broadcasting: a lower rank gets axes of 1 in front. Constants lose the numbers of lost units."""
    given = operands(op, inputs)
    rank = max(len(value) for value, _ in given)
    output = broadcast([(*(1,) * (rank - len(value)), *value) for value, where in given if where is None], trace)
    for shape, where in given:
        if where is not None:
            output = beside(output, shape, where, trace)
    return output


def beside(value: Value, shape: Value, where: Location, trace: Trace) -> Value:
    """A tensor that meets a constant of this shape, whose numbers stand at `where` in the config."""
    output = list(value)
    # Keras adds any constant that squeezes to a vector as long as the last axis is as a bias, wherever its axis lies.
    if trace.op.class_name == "Add" and shape[-1:] == (1,) and sum(n != 1 for n in shape) == 1:
        trace.pin(value[-1], "constant", "a constant along another axis is added, which Keras could take for a bias")
    for axis, n in enumerate(reversed(shape), 1):
        extent = value[-axis]
        if isinstance(extent, np.ndarray) and len(extent) == n != 1:
            counts(where, len(shape) - axis, extent, trace)
        else:
            output[-axis] = broadcast([(extent,), (n,)], trace)[0]
    return tuple(output)


def counts(where: Location, axis: int, ids: Ids, trace: Trace) -> None:
    """The array at this place of the config has one number for each of these ids along an axis."""
    trace.tie(trace.constants.setdefault((where, axis), Constant(where, axis, ids)).ids, ids)


def operands(op: Op, inputs: list[Value]) -> list[tuple[Value, Location | None]]:
    """The arguments of a call: tensors as they are, constants by their shape and the place of their numbers."""
    tensors = dict(zip(op.inputs, inputs, strict=True))
    given: list[tuple[Any, Location]] = [(value, ("args", index)) for index, value in enumerate(op.args)]
    given += [(value, ("kwargs", key)) for key, value in op.kwargs.items() if value is not None]
    return [
        (tensors[value.tensor], None) if isinstance(value, Ref) else constant(value, (*op.node, *where))
        for value, where in given
    ]


def constant(value: Any, where: Location) -> tuple[Value, Location]:
    """The shape of a number, a nested list or an array in a config, and where its numbers stand."""
    if isinstance(value, dict) and "value" in value.get("config", {}):
        value, where = value["config"]["value"], (*where, "config", "value")
    return tuple(np.shape(value)), where


@operation("Stack")
def stack(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A new axis counts the tensors; all others meet."""
    at = op.config["axis"] % (len(inputs[0]) + 1)
    return strung([(*value[:at], 1, *value[at:]) for value in inputs], at, trace)


@operation(
    "All", "Amax", "Amin", "Any", "Logsumexp", "Max", "Mean", "Median", "Min", "Norm", "Prod", "Std", "Sum", "Var"
)
def reduce(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Axes go, or stay as 1 with `keepdims`. Sum, norm and Any over units go on without those that are gone.

    What else looks at all units along an axis (a mean divides by their number) does so over those that are left, or
    keeps them, as `normalized_axes` says.
    """
    (value,) = inputs
    gone = axes_of(op.config.get("axis"), len(value))
    for axis in gone:
        if op.class_name in ("Sum", "Any") or (op.class_name == "Norm" and _adds_up(op.config.get("ord"), len(gone))):
            trace.mix(0, axis, value[axis])
        elif op.class_name == "Norm":
            trace.pin(value[axis], "mixes_channels", f"a norm of order {op.config['ord']} over an axis that has units")
        else:
            trace.normalize(value[axis], [(0, axis)])
    if op.config.get("keepdims"):
        return tuple(1 if axis in gone else extent for axis, extent in enumerate(value))
    return tuple(extent for axis, extent in enumerate(value) if axis not in gone)


def _adds_up(order: Any, axes: int) -> bool:
    """Whether a norm is the same without elements that are zero."""
    return order in (None, "fro") or (axes == 1 and isinstance(order, int | float) and order > 0)


@operation("Matmul")
def matmul(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(..., m, k) x (..., k, n): m, n and what is before pass, k is tied. MACs: all of them multiplied."""
    first, second = inputs if len(inputs) == 2 else [value for value, _ in operands(op, inputs)[:2]]
    if min(len(first), len(second)) < 2:
        trace.pin((*first, *second), "unsupported_option", "a product with a vector")
        return first[:-1] if len(second) == 1 else second[1:]
    summed = trace.meet(first[-1], second[-2])
    trace.mix(0, len(first) - 1, summed)
    rank = max(len(first), len(second))
    heads = [(*(1,) * (rank - len(value)), *value[:-2]) for value in (first, second)]
    output = (*broadcast(heads, trace), first[-2], second[-1])
    trace.cost(output[1:], (summed,), None)
    return output


@operation("Glu")
def gated(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The first half of an axis times the sigmoid of the second: a unit goes with its gate."""
    (value,) = inputs
    axis = op.config.get("axis", -1)
    extent = value[axis]
    if isinstance(extent, np.ndarray):
        first, second = np.split(extent, 2)
        trace.tie(first, second)
        return replaced(value, axis, first)
    return replaced(value, axis, None if extent is None else extent // 2)
