"""Convolutions of `keras.ops`, whose kernels are constants in the config (a blur, Sobel's) or tensors of the graph."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from pruning.graph import Op
from pruning.rules import operation
from pruning.rules.arithmetic import Location, met, operands
from pruning.rules.convolution import repeated
from pruning.rules.extents import Extent, Value, channel_axis, places, replaced, shape_of, size
from pruning.rules.trace import Trace
from pruning.rules.windows import slide


@operation("Conv")
def conv(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """kernel (*window, channels / groups, filters): a constant makes no units, a tensor's filters pass."""
    (value, _), (kernel, where) = operands(op, inputs)
    channels = channel_axis(op.config, len(value))
    entering, filters = _read(value, channels, kernel, where, trace), kernel[-1]
    if size(entering) != size(value[channels]):
        trace.pin(filters, "unsupported_option", "a convolution in groups with a kernel that is no weight")
    output = replaced(slide(_with_window(op, kernel, trace), "kernel_size", value, trace), channels, filters)
    trace.cost(places(output, channels), (entering, filters), None, _window(kernel))
    return output


@operation("DepthwiseConv")
def depthwise(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """kernel (*window, channels, multiplier): follows."""
    (value, _), (kernel, where) = operands(op, inputs)
    return _depthwise(op, value, kernel, where, trace)[1]


def _depthwise(op: Op, value: Value, kernel: Value, where: Location | None, trace: Trace) -> tuple[Extent, Value]:
    """The channels that enter, as they met the kernel's, and what leaves. MACs: its places and channels * window."""
    channels = channel_axis(op.config, len(value))
    extent = met(value[channels], kernel[-2], where, len(kernel) - 2, trace)
    trace.pin(kernel[-1], "unsupported_option", "units along the multiplier of a kernel that is no weight")
    leaving = repeated(extent, size(kernel[-1]) or 1)
    output = replaced(slide(_with_window(op, kernel, trace), "kernel_size", value, trace), channels, leaving)
    trace.cost(places(output, channels), (leaving,), None, _window(kernel))
    return extent, output


@operation("SeparableConv")
def separable(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Depthwise kernel (*window, channels, multiplier), then one (1, channels * multiplier, filters)."""
    (value, _), (kernel, where), (pointwise, other) = operands(op, inputs)
    channels = channel_axis(op.config, len(value))
    entering, output = _depthwise(op, value, kernel, where, trace)
    trace.mix(0, channels, entering)
    between = met(output[channels], pointwise[-2], other, len(pointwise) - 2, trace)
    trace.cost(places(output, channels), (between, pointwise[-1]), None)
    return replaced(output, channels, pointwise[-1])


def _read(value: Value, channels: int, kernel: Value, where: Location | None, trace: Trace) -> Extent:
    """The units that are summed over: fed zeros in the masked original. With groups they stay."""
    if size(value[channels]) != size(kernel[-2]):
        trace.pin((value[channels], kernel[-2]), "unsupported_option", "groups, with a kernel that is no weight")
        return size(kernel[-2])
    extent = met(value[channels], kernel[-2], where, len(kernel) - 2, trace)
    trace.mix(0, channels, extent)
    return extent


def _with_window(op: Op, kernel: Value, trace: Trace) -> Op:
    """The call with its window as a layer's config has it."""
    trace.pin(kernel[:-2], "mixes_channels", "units along the window of a kernel")
    return replace(op, config={**op.config, "kernel_size": shape_of(kernel[:-2])})


def _window(kernel: Value) -> int:
    return prod(size(extent) or 1 for extent in kernel[:-2])
