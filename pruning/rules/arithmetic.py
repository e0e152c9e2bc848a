"""`keras.ops` on elements: axes that meet are tied, constants lose the numbers of lost units."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from pruning.graph import Op
from pruning.nodes import Ref
from pruning.rules import bias_add, operation
from pruning.rules.extents import Extent, Ids, Value, replaced, size
from pruning.rules.merge import broadcast, strung
from pruning.rules.trace import Constant, Trace

Location: TypeAlias = tuple[str | int, ...]


# fmt: off
_UNARY = (
    "Abs", "Absolute", "Angle", "Arccos", "Arccosh", "Arcsin", "Arcsinh", "Arctan", "Arctanh", "Array", "BitwiseInvert",
    "BitwiseNot", "Cast", "Cbrt", "Ceil", "Clip", "Conj", "Conjugate", "ConvertToTensor", "Copy", "Cos", "Cosh",
    "Deg2rad", "Digitize", "Erf", "Erfc", "Erfinv", "Exp", "Exp2", "Expm1", "Fabs", "Floor", "I0",
    "Imag", "IsIn", "Isfinite", "Isinf", "Isnan", "Isneginf", "Isposinf", "Isreal", "Log", "Log10", "Log1p",
    "Log2", "LogicalNot", "NanToNum", "Negative", "OnesLike", "Rad2deg", "Real", "Reciprocal", "Round",
    "Rsqrt", "SaturateCast", "Sign", "Signbit", "Sin", "Sinc", "Sinh", "Sqrt", "Square", "StopGradient", "Tan", "Trunc",
    "ZerosLike",
)
# fmt: on


@operation(*_UNARY)
def unary(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """One tensor, each element on its own. What else comes (bins, a set) is the same for all elements and stays."""
    for key, value in op.config.items():
        if isinstance(value, list | dict):
            trace.pin(inputs[0], "constant", f"{key} is a constant with an axis")
    for value in inputs[1:]:
        trace.pin(value, "mixes_channels", f"{op.class_name} looks every element up in all of these")
    return inputs[0]


# fmt: off
_BINARY = (
    "Add", "Arctan2", "BitwiseAnd", "BitwiseLeftShift", "BitwiseOr", "BitwiseRightShift", "BitwiseXor", "Divide",
    "DivideNoNan", "Equal", "FloorDivide", "Fmax", "Fmin", "Fmod", "FullLike", "Gcd", "Greater", "GreaterEqual",
    "Heaviside", "Hypot", "Isclose", "Lcm", "Ldexp", "LeftShift", "Less", "LessEqual", "Logaddexp", "Logaddexp2",
    "LogicalAnd", "LogicalOr", "LogicalXor", "Maximum", "Minimum", "Mod", "Multiply", "Nextafter", "NotEqual", "Polar",
    "Power", "RightShift", "Subtract", "TrueDivide", "Where",
)
# fmt: on


@operation(*_BINARY)
def elementwise(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """NumPy's broadcasting: a lower rank gets axes of 1 in front. Constants lose the numbers of lost units."""
    given = operands(op, inputs)
    rank = max(len(value) for value, _ in given)
    values: list[Value] = [(*(1,) * (rank - len(value)), *value) for value, _ in given]
    output = broadcast([value for value, (_, where) in zip(values, given, strict=True) if where is None], trace)
    for shape, where in given:
        if where is not None:
            output = beside(output, shape, where, trace)
    if op.class_name == "Add":
        bias_add.of_sum(values, output, trace)
    return output


@operation("Select")
def select(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Lists of conditions and choices, all of one shape: numbers among them, no constants with axes."""
    conditions, choices, otherwise = op.args
    for given in (*conditions, *choices, otherwise):
        if not isinstance(given, Ref) and constant(given, ())[0]:
            for value in inputs:
                trace.pin(value, "constant", "chooses by or among constants")
    rank = max(len(value) for value in inputs)
    return broadcast([(*(1,) * (rank - len(value)), *value) for value in inputs], trace)


def beside(value: Value, shape: Value, where: Location, trace: Trace) -> Value:
    """A tensor that meets a constant of this shape, whose numbers stand at `where` in the config."""
    output = list(value)
    for axis, n in enumerate(reversed(shape), 1):
        extent = value[-axis]
        if isinstance(extent, np.ndarray) and len(extent) == n != 1:
            counts(where, len(shape) - axis, extent, trace)
        else:
            output[-axis] = broadcast([(extent,), (n,)], trace)[0]
    return tuple(output)


def met(extent: Extent, other: Extent, where: Location | None, axis: int, trace: Trace) -> Extent:
    """An axis that meets another one; of a constant, whose numbers stand at `where`, along its `axis`."""
    if where is not None and isinstance(extent, np.ndarray) and len(extent) == size(other):
        counts(where, axis, extent, trace)
        return extent
    return trace.meet(extent, other)


def counts(where: Location, axis: int, ids: Ids, trace: Trace) -> None:
    """The array at this place of the config has one number for each of these ids along an axis."""
    trace.tie(trace.constants.setdefault((where, axis), Constant(where, axis, ids)).ids, ids)


def operands(op: Op, inputs: list[Value]) -> list[tuple[Value, Location | None]]:
    """The arguments of a call: tensors as they are, constants by their shape and the place of their numbers."""
    tensors = dict(zip(op.inputs, inputs, strict=True))
    given: list[tuple[Any, Location]] = [(value, ("args", index)) for index, value in enumerate(op.args)]
    given += [(value, ("kwargs", key)) for key, value in op.kwargs.items()]
    return [
        (tensors[value.tensor], None) if isinstance(value, Ref) else constant(value, (*op.node, *where))
        for value, where in given
        if value is not None
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
