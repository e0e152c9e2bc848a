"""Wrappers: TimeDistributed runs what it wraps once per step, SpectralNormalization scales its kernel."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import layer, rule_of
from pruning.rules.extents import Value, size
from pruning.rules.trace import Trace


@layer("TimeDistributed.enter")
def enter_time(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(batch, time, ...) -> (batch, ...); what runs until the axis comes back runs once per step."""
    value = inputs[0]
    trace.pin(value[1], "mixes_channels", "units lie along the time axis")
    trace.repeats.append(size(value[1]))
    return (value[0], *value[2:])


@layer("TimeDistributed.leave")
def leave_time(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The time axis again."""
    (value,) = inputs
    return (value[0], trace.repeats.pop(), *value[1:])


@layer("SpectralNormalization")
def spectral(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """The kernel is divided by its largest singular value while training: at inference the layer is what it wraps.

    The wrapper's arrays: the kernel once more, and vector_u (1, output), which follows the kernel's last axis.
    """
    value = inputs[0]
    with trace.inside("layer", "layer") as inner:
        rule = rule_of(inner)
        if rule is None:
            trace.pin(value, "unknown_layer", f"{inner.class_name} is a layer that no rule knows")
            return value
        output = rule(inner, [value], trace)
        kernel = trace.weight(0)
    twin, vector = trace.weight(0), trace.weight(1)
    trace.aliases.add(twin)
    rank = len(trace.shape(kernel))
    for axis in [trace.axes[kernel, axis] for axis in range(rank) if (kernel, axis) in trace.axes]:
        trace.bind(twin, axis.axis, axis.ids, "consumer" if axis.role == "consumer" else "follower")
        if axis.axis == rank - 1:
            trace.bind(vector, 1, axis.ids, "follower")
    return output
