"""The layers of its own that `keras.applications` uses beyond `keras.layers`."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import register
from pruning.rules.extents import Value
from pruning.rules.merge import broadcast
from pruning.rules.trace import Trace


@register("src.applications.convnext", "LayerScale")
def layer_scale(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """gamma (channels) on the last axis: follows. `projection_dim` is its length."""
    (value,) = inputs
    trace.follow(trace.weight(0), value[-1])
    trace.resize("projection_dim", value[-1])
    return value


@register("src.applications.inception_resnet_v2", "CustomScaleLayer")
def custom_scale(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """first + scale * second, with a number for the scale."""
    return broadcast(inputs, trace)
