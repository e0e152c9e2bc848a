"""Fourier transforms and sums by segment: the axis that is transformed keeps its units, the others pass."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import operation
from pruning.rules.extents import Value, replaced, size
from pruning.rules.merge import broadcast
from pruning.rules.trace import Trace


@operation("FFT", "FFT2", "IFFT2")
def fourier(op: Op, inputs: list[Value], trace: Trace) -> list[Value]:
    """Real and imaginary part, over the last axis or the last two."""
    value = broadcast(inputs, trace)
    _whole(value[-1:] if op.class_name == "FFT" else value[-2:], trace)
    return [value, value]


@operation("RFFT")
def real_fourier(op: Op, inputs: list[Value], trace: Trace) -> list[Value]:
    """Half of the last axis and one more, as real and imaginary part."""
    (value,) = inputs
    _whole(value[-1:], trace)
    length = op.config["fft_length"] or size(value[-1])
    return [replaced(value, -1, None if length is None else length // 2 + 1)] * 2


@operation("IRFFT")
def inverse_real_fourier(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Real and imaginary part back to `fft_length`, or twice the last axis less two."""
    value = broadcast(inputs, trace)
    _whole(value[-1:], trace)
    length = size(value[-1])
    return replaced(value, -1, op.config["fft_length"] or (None if length is None else 2 * (length - 1)))


def _whole(value: Value, trace: Trace) -> None:
    trace.pin(value, "mixes_channels", f"{trace.op.class_name} makes every number out of all units of an axis")


@operation("ViewAsComplex", "ViewAsReal")
def view(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A last axis of real and imaginary part, or a number of both."""
    (value,) = inputs
    if op.class_name == "ViewAsReal":
        return (*value, 2)
    trace.pin(value[-1], "fixed_axis", "ViewAsComplex takes two numbers for one")
    return value[:-1]


@operation("SegmentMax", "SegmentMin", "SegmentProd", "SegmentSum")
def segments(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Rows of the first axis put together by number; what lies in a row passes."""
    value = inputs[0]
    if op.config["num_segments"] and len(op.inputs) > 1:
        trace.vocabulary(op.inputs[1], op.config["num_segments"])
    trace.pin((value[0], *(extent for each in inputs[1:] for extent in each)), "mixes_channels", "units along segments")
    return (op.config["num_segments"], *value[1:])
