"""Dense layers: the kernel's last axis starts units, the first consumes the input's last axis."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import layer
from pruning.rules.activation import activate
from pruning.rules.extents import Value, places, replaced, size
from pruning.rules.trace import Trace


@layer("Dense")
def dense(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """kernel (features, units), bias (units). MACs: positions * features * units."""
    (value,) = inputs
    kernel = trace.weight(0)
    trace.expect(kernel, [size(value[-1]), op.config["units"]])
    trace.bind(kernel, 0, value[-1], "consumer")
    units = trace.produce(kernel, 1)
    if op.config["use_bias"]:
        trace.follow(trace.weight(1), units)
    trace.resize("units", units)
    trace.width(units)
    output = replaced(value, -1, units)
    trace.cost(places(output, -1), (value[-1], units), kernel)
    return activate(op.config["activation"], output, trace)
