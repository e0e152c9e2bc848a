"""`keras.ops.image` and what cuts images into patches: sizes change, channels pass or are put side by side."""

from __future__ import annotations

import numpy as np

from pruning.graph import Op
from pruning.rules import operation
from pruning.rules.convolution import repeated
from pruning.rules.extents import Extent, Value, channel_axis, replaced, size
from pruning.rules.reshaping import tie_across
from pruning.rules.trace import Trace
from pruning.rules.windows import numbers, slide, spatial


@operation("AffineTransform", "GaussianBlur", "PerspectiveTransform")
def moved(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Each channel on its own, over its pixels; what tells where they go has no units."""
    value = inputs[0]
    for axis in _pixels(op, value, trace):
        spatial(value[axis], trace)
    for given in inputs[1:]:
        trace.pin(given, "mixes_channels", f"{op.class_name} is told by these where pixels go")
    return value


@operation("CropImages", "PadImages", "Resize")
def resized(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Each channel on its own, to a size or by margins."""
    value = inputs[0]
    sides = (("top", "bottom", "height"), ("left", "right", "width"))
    for number, (axis, names) in enumerate(zip(_pixels(op, value, trace), sides, strict=True)):
        n = spatial(value[axis], trace)
        value = replaced(value, axis, op.config["size"][number] if "size" in op.config else _margins(op, n, *names))
    return value


def _margins(op: Op, n: int | None, before: str, after: str, side: str) -> int | None:
    """One axis: its target, or its size with both margins; one of the three may be left out."""
    if op.config[f"target_{side}"] is not None or n is None:
        return op.config[f"target_{side}"]  # type: ignore[no-any-return]
    kind, sign = ("cropping", -1) if op.class_name == "CropImages" else ("padding", 1)
    return n + sign * sum(op.config[f"{end}_{kind}"] or 0 for end in (before, after))


def _pixels(op: Op, value: Value, trace: Trace) -> range:
    """The axes of height and width. An image without a batch has its rows where samples are."""
    if len(value) != 4:
        trace.pin(value, "batch_axis", f"{op.class_name} of tensors with {len(value)} axes works along the batch")
    first = len(value) - 2 if op.config.get("data_format") == "channels_first" else len(value) - 3
    return range(first, first + 2)


@operation("ExtractPatches")
def patches(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The channels of all places of a window side by side: their ids again and again."""
    (value,) = inputs
    channels = channel_axis(op.config, len(value))
    window = numbers(op.config["size"], len(value) - 2)
    extent = value[channels]
    return replaced(slide(op, "size", value, trace), channels, _again(extent, int(np.prod(window))))


def _again(extent: Extent, times: int) -> Extent:
    if isinstance(extent, np.ndarray):
        return np.tile(extent, times)
    return None if extent is None else extent * times


@operation("Unfold")
def unfold(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(batch, channels, height, width) -> (batch, channels * window, positions): each id for all of a window."""
    (value,) = inputs
    window = int(np.prod(numbers(op.config["kernel_size"], 2)))
    extent = value[1]
    count = [spatial(extent, trace) for extent in value[2:]]
    return (value[0], repeated(extent, window), _positions(op, count))


def _positions(op: Op, sizes: list[int | None]) -> int | None:
    """How often the window fits."""
    fields = (numbers(op.config[key], 2) for key in ("kernel_size", "dilation", "padding", "stride"))
    found = 1
    for n, k, d, p, s in zip(sizes, *fields, strict=True):
        if n is None:
            return None
        found *= (n + 2 * p - d * (k - 1) - 1) // s + 1
    return found


@operation("Fold")
def fold(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(batch, channels * window, positions) -> an image: the places of a window stand and fall together."""
    (value,) = inputs
    window, extent = int(np.prod(numbers(op.config["kernel_size"], 2))), value[1]
    trace.pin(value[2], "mixes_channels", "units along the positions of a window")
    channels: Extent = None if extent is None else (size(extent) or 0) // window
    if isinstance(extent, np.ndarray):
        channels = tie_across(extent.reshape(-1, window), 0, trace)
    return (value[0], channels, *numbers(op.config["output_size"], 2))
