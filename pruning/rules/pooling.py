"""Pooling, padding, cropping, upsampling: spatial sizes change, channels pass."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import layer, operation
from pruning.rules.extents import Value, replaced
from pruning.rules.trace import Trace
from pruning.rules.windows import numbers, slide, spatial, spatial_axes


@layer("AveragePooling1D", "AveragePooling2D", "AveragePooling3D", "MaxPooling1D", "MaxPooling2D", "MaxPooling3D")
@operation("AveragePool", "MaxPool")
def pool(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A window over the spatial axes; each channel on its own."""
    (value,) = inputs
    return slide(op, "pool_size", value, trace)


@layer(
    "AdaptiveAveragePooling1D",
    "AdaptiveAveragePooling2D",
    "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D",
    "AdaptiveMaxPooling2D",
    "AdaptiveMaxPooling3D",
)
def adaptive_pool(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """To `output_size`, whatever entered; each channel on its own."""
    (value,) = inputs
    axes = spatial_axes(op.config, len(value))
    for axis, n in zip(axes, numbers(op.config["output_size"], len(axes)), strict=True):
        spatial(value[axis], trace)
        value = replaced(value, axis, n)
    return value


@layer(
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
)
def global_pool(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Spatial axes go, or stay as 1 with `keepdims`; a mask, which may come too, has no channels."""
    value = inputs[0]
    axes = spatial_axes(op.config, len(value))
    for axis in axes:
        spatial(value[axis], trace)
    if op.config.get("keepdims"):
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(value))
    return tuple(extent for axis, extent in enumerate(value) if axis not in axes)


@layer("Cropping1D", "Cropping2D", "Cropping3D", "ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def pad_or_crop(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Adds or takes from both ends of each spatial axis."""
    (value,) = inputs
    cropping = op.class_name.startswith("Cropping")
    axes = spatial_axes(op.config, len(value))
    amounts = op.config["cropping" if cropping else "padding"]
    pairs = [amounts] if len(axes) == 1 else amounts
    for axis, pair in zip(axes, pairs, strict=True):
        n = spatial(value[axis], trace)
        change = sum(numbers(pair, 2))
        value = replaced(value, axis, None if n is None else n - change if cropping else n + change)
    return value


@layer("UpSampling1D", "UpSampling2D", "UpSampling3D")
def upsample(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Repeats or interpolates along spatial axes."""
    (value,) = inputs
    axes = spatial_axes(op.config, len(value))
    for axis, times in zip(axes, numbers(op.config["size"], len(axes)), strict=True):
        n = spatial(value[axis], trace)
        value = replaced(value, axis, None if n is None else n * times)
    return value
