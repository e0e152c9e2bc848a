"""Convolutions: the kernel's last axis starts units, the one before consumes the input's."""

from __future__ import annotations

from math import prod

import numpy as np

from pruning.graph import Op
from pruning.rules import bias_add, layer, operation
from pruning.rules.activation import activate
from pruning.rules.extents import Extent, Ids, Value, channel_axis, places, replaced, size
from pruning.rules.trace import Trace
from pruning.rules.windows import numbers, slide, spread


@layer("Conv1D", "Conv2D", "Conv3D")
def conv(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """kernel (*window, channels / groups, filters), bias (filters). MACs: positions * kernel size."""
    (value,) = inputs
    channels = channel_axis(op.config, len(value))
    kernel, groups = trace.weight(0), op.config.get("groups", 1)
    window = numbers(op.config["kernel_size"], len(value) - 2)
    width = size(value[channels])
    trace.expect(kernel, [*window, None if width is None else width // groups, op.config["filters"]])
    entering = value[channels]
    if groups == 1:
        filters = trace.produce(kernel, -1)
    elif isinstance(entering, np.ndarray) and groups == width:
        filters = _grouped_alone(op, entering, kernel, trace)
        entering = 1
    else:
        entering, filters = tied_groups(entering, kernel, groups, trace)
    trace.bind(kernel, -2, entering, "consumer")
    if op.config["use_bias"]:
        trace.follow(trace.weight(1), filters)
    trace.resize("filters", filters)
    trace.width(filters)
    output = replaced(slide(op, "kernel_size", value, trace), channels, filters)
    bias_add.of_channels(op, output, channels, trace)
    trace.cost(places(output, channels), (entering, filters), kernel, prod(window))
    return activate(op.config["activation"], output, trace)


def _grouped_alone(op: Op, entering: Ids, kernel: str, trace: Trace) -> Ids:
    """One input channel a group: like a depthwise convolution, a group goes with its channel."""
    filters = np.repeat(entering, op.config["filters"] // len(entering))
    trace.bind(kernel, -1, filters, "follower")
    trace.resize("groups", entering)
    return filters


def tied_groups(entering: Extent, kernel: str, groups: int, trace: Trace) -> tuple[Extent, Ids]:
    """Units of a grouped convolution: place j of every group is one unit, so that all groups stay alike."""
    per_group, filters = trace.shape(kernel)[-2:]
    first = trace.produce(kernel, -1)
    table = first.reshape(groups, filters // groups)
    trace.tie(np.broadcast_to(table[0], table.shape), table)
    if not isinstance(entering, np.ndarray):
        return per_group, first
    table = entering.reshape(groups, per_group)
    trace.tie(np.broadcast_to(table[0], table.shape), table)
    return table[0], first


@layer("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """kernel (*window, channels, multiplier), bias (channels * multiplier): output c * multiplier + j reads c."""
    (value,) = inputs
    channels = channel_axis(op.config, len(value))
    multiplier = op.config["depth_multiplier"]
    kernel = trace.weight(0)
    window = numbers(op.config["kernel_size"], len(value) - 2)
    trace.expect(kernel, [*window, size(value[channels]), multiplier])
    trace.bind(kernel, -2, value[channels], "follower")
    leaving = repeated(value[channels], multiplier)
    if op.config["use_bias"]:
        trace.follow(trace.weight(1), leaving)
    trace.width(leaving)
    output = replaced(slide(op, "kernel_size", value, trace), channels, leaving)
    bias_add.of_channels(op, output, channels, trace)
    trace.cost(places(output, channels), (leaving,), kernel, prod(window))
    return activate(op.config["activation"], output, trace)


@layer("SeparableConv1D", "SeparableConv2D")
def separable(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Depthwise kernel (*window, channels, multiplier), pointwise (1, channels * multiplier, filters), bias."""
    (value,) = inputs
    channels = channel_axis(op.config, len(value))
    multiplier = op.config["depth_multiplier"]
    kernel, pointwise = trace.weight(0), trace.weight(1)
    window = numbers(op.config["kernel_size"], len(value) - 2)
    trace.expect(kernel, [*window, size(value[channels]), multiplier])
    trace.bind(kernel, -2, value[channels], "follower")
    between = repeated(value[channels], multiplier)
    trace.expect(pointwise, [*(1 for _ in window), size(between), op.config["filters"]])
    trace.bind(pointwise, -2, between, "consumer")
    filters = trace.produce(pointwise, -1)
    if op.config["use_bias"]:
        trace.follow(trace.weight(2), filters)
    trace.resize("filters", filters)
    trace.width(filters)
    output = replaced(slide(op, "kernel_size", value, trace), channels, filters)
    bias_add.of_channels(op, output, channels, trace)
    trace.cost(places(output, channels), (between,), kernel, prod(window))
    trace.cost(places(output, channels), (between, filters), pointwise)
    return activate(op.config["activation"], output, trace)


@layer("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """kernel (*window, filters, channels), bias (filters). MACs: input positions * window * channels * filters."""
    (value,) = inputs
    channels = channel_axis(op.config, len(value))
    kernel = trace.weight(0)
    window = numbers(op.config["kernel_size"], len(value) - 2)
    trace.expect(kernel, [*window, op.config["filters"], size(value[channels])])
    trace.bind(kernel, -1, value[channels], "consumer")
    filters = trace.produce(kernel, -2)
    if op.config["use_bias"]:
        trace.follow(trace.weight(1), filters)
    trace.resize("filters", filters)
    trace.width(filters)
    trace.cost(places(value, channels), (value[channels], filters), kernel, prod(window))
    output = replaced(spread(op, value, trace), channels, filters)
    bias_add.of_channels(op, output, channels, trace)
    return activate(op.config["activation"], output, trace)


@operation("Repeat")
def repeat(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """[a, b] -> [a, a, b, b] along an axis."""
    (value,) = inputs
    axis = op.config["axis"]
    return replaced(value, axis, repeated(value[axis], op.config["repeats"]))


def repeated(extent: Extent, times: int) -> Extent:
    """[a, b] -> [a, a, b, b]: the outputs of a depthwise convolution."""
    if isinstance(extent, np.ndarray):
        return extent if times == 1 else np.repeat(extent, times)
    return None if extent is None else extent * times
