"""Inputs of nested models: they pass what the call brings and record its shape."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import layer
from pruning.rules.extents import Value
from pruning.rules.trace import Trace


@layer("InputLayer")
def nested_input(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`batch_shape` is resized with the tensor that enters."""
    (value,) = inputs
    declared = op.config.get("batch_shape") or op.config["batch_input_shape"]
    key = "batch_shape" if "batch_shape" in op.config else "batch_input_shape"
    if len(declared) != len(value):
        trace.pin(value, "rank", f"enters a nested model that expects {declared}")
        return tuple(declared)
    trace.resize(key, tuple(None if n is None else extent for n, extent in zip(declared, value, strict=True)))
    return value
