"""Windows that slide over the spatial axes of a tensor: what sizes they leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pruning.graph import Op
from pruning.rules.extents import Extent, Value, replaced, size
from pruning.rules.trace import Trace


def spatial_axes(config: Mapping[str, Any], rank: int) -> range:
    """The axes between batch and channels."""
    return range(2, rank) if config.get("data_format") == "channels_first" else range(1, rank - 1)


def spatial(extent: Extent, trace: Trace) -> int | None:
    """The size of an axis that a window slides over; units there (after a Permute) must stay."""
    trace.pin(extent, "mixes_channels", "slides over an axis that has units")
    return size(extent)


def numbers(value: Any, count: int) -> tuple[int, ...]:
    """`3` or `[3, 3]` from a config as a tuple of `count` ints."""
    return (value,) * count if isinstance(value, int) else tuple(value)


def slide(op: Op, field: str, value: Value, trace: Trace) -> Value:
    """A tensor after a window, whose sizes config field `field` holds; unknown sizes stay unknown.

    ceil(n / s) for same and causal, floor((n - d * (k - 1) - 1) / s) + 1 for valid; without strides they are the
    window's.
    """
    axes = spatial_axes(op.config, len(value))
    window = numbers(op.config[field], len(axes))
    strides = numbers(op.config["strides"] or window, len(axes))
    dilation = numbers(op.config.get("dilation_rate", 1), len(axes))
    for axis, k, s, d in zip(axes, window, strides, dilation, strict=True):
        n = spatial(value[axis], trace)
        if n is not None:
            n = -(-n // s) if op.config["padding"] in ("same", "causal") else (n - d * (k - 1) - 1) // s + 1
        value = replaced(value, axis, n)
    return value


def spread(op: Op, value: Value, trace: Trace) -> Value:
    """A tensor after a transposed convolution, one input place to a window of output places."""
    axes = spatial_axes(op.config, len(value))
    window = numbers(op.config["kernel_size"], len(axes))
    strides = numbers(op.config["strides"], len(axes))
    dilation = numbers(op.config.get("dilation_rate", 1), len(axes))
    extra = op.config.get("output_padding")
    paddings = [None] * len(axes) if extra is None else numbers(extra, len(axes))
    for axis, k, s, d, pad in zip(axes, window, strides, dilation, paddings, strict=True):
        n = spatial(value[axis], trace)
        value = replaced(value, axis, None if n is None else _grown(n, d * (k - 1) + 1, s, pad, op.config["padding"]))
    return value


def _grown(n: int, window: int, stride: int, extra: int | None, padding: str) -> int:
    """One axis, as Keras computes it."""
    if extra is None:
        return n * stride if padding == "same" else n * stride + max(window - stride, 0)
    base = (n - 1) * stride + window + extra
    return base - 2 * (window // 2) if padding == "same" else base
