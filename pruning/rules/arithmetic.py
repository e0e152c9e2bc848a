"""`keras.ops` on elements and along axes: axes that meet are tied, constants as long as an axis keep its units."""

from __future__ import annotations

from typing import Any

import numpy as np

from pruning.graph import Op
from pruning.nodes import Ref
from pruning.rules import operation
from pruning.rules.merge import broadcast, strung
from pruning.rules.trace import Trace, Value, axes_of


@operation(
    "Abs",
    "Absolute",
    "Cast",
    "Ceil",
    "Clip",
    "Conj",
    "Cos",
    "Erf",
    "Exp",
    "Expm1",
    "Floor",
    "Identity",
    "Isfinite",
    "Isnan",
    "Log",
    "Log1p",
    "LogicalNot",
    "NanToNum",
    "Negative",
    "OnesLike",
    "Positive",
    "Reciprocal",
    "Round",
    "Rsqrt",
    "Sign",
    "Sin",
    "Sqrt",
    "Square",
    "StopGradient",
    "Tan",
    "ZerosLike",
)
def unary(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """One tensor, each element on its own. Bounds of Clip are numbers: what else they are stops the units."""
    for key, value in op.config.items():
        if isinstance(value, list | dict):
            trace.pin(inputs[0], "constant", f"{key} is a constant with an axis")
    return inputs[0]


@operation(
    "Add",
    "Divide",
    "DivideNoNan",
    "Equal",
    "Greater",
    "GreaterEqual",
    "Less",
    "LessEqual",
    "LogicalAnd",
    "LogicalOr",
    "Maximum",
    "Minimum",
    "Mod",
    "Multiply",
    "NotEqual",
    "Power",
    "Subtract",
    "TrueDivide",
    "Where",
)
def elementwise(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """NumPy's broadcasting: a lower rank gets axes of 1 in front."""
    values = operands(op, inputs)
    rank = max(len(value) for value in values)
    return broadcast([(*(1,) * (rank - len(value)), *value) for value in values], trace)


def operands(op: Op, inputs: list[Value]) -> list[Value]:
    """The arguments of a call: tensors as they are, constants by their shape."""
    tensors = dict(zip(op.inputs, inputs, strict=True))
    given = [*op.args, *(value for value in op.kwargs.values() if value is not None)]
    return [tensors[value.tensor] if isinstance(value, Ref) else constant_shape(value) for value in given]


def constant_shape(value: Any) -> Value:
    """The shape of a number, a nested list or an array in a config."""
    if isinstance(value, dict) and "value" in value.get("config", {}):
        value = value["config"]["value"]
    return tuple(np.shape(value))


@operation("Stack")
def stack(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A new axis counts the tensors; all others meet."""
    at = op.config["axis"] % (len(inputs[0]) + 1)
    return strung([(*value[:at], 1, *value[at:]) for value in inputs], at, trace)


@operation(
    "Max", "Mean", "Min", "Prod", "Std", "Sum", "Var", "Amax", "Amin", "Logsumexp", "All", "Any", "Median", "Norm"
)
def reduce(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Axes go, or stay as 1 with `keepdims`; units along them are mixed. A sum goes on without those that are gone."""
    (value,) = inputs
    gone = axes_of(op.config.get("axis"), len(value))
    for axis in gone:
        if op.class_name == "Sum":
            trace.mix(0, axis, value[axis])
        else:
            trace.pin(value[axis], "mixes_channels", f"{op.class_name} over an axis that has units")
    if op.config.get("keepdims"):
        return tuple(1 if axis in gone else extent for axis, extent in enumerate(value))
    return tuple(extent for axis, extent in enumerate(value) if axis not in gone)


@operation("Matmul")
def matmul(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(..., m, k) x (..., k, n): m, n and what is before pass, k is tied. MACs: all of them multiplied."""
    first, second = inputs if len(inputs) == 2 else operands(op, inputs)[:2]
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
