"""Preprocessing of images inside a model: sizes change, channels pass; augmentation does nothing at inference."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import layer
from pruning.rules.trace import Trace, Value, channel_axis, replaced, spatial


@layer("RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomShear", "RandomErasing")
def geometric(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Moves pixels, only while training."""
    return inputs[0]


@layer("RandomBrightness", "RandomContrast", "RandomHue", "RandomSaturation", "RandomColorJitter", "RandomGrayscale")
def colour(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Mixes or bounds colours, only while training: channels stay all the same."""
    value = inputs[0]
    trace.pin(value[channel_axis(op.config, len(value))], "mixes_channels", "works on colours")
    return value


@layer("Resizing", "CenterCrop", "RandomCrop")
def resize(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`height` x `width`."""
    value = inputs[0]
    rows = len(value) - 3 if channel_axis(op.config, len(value)) == len(value) - 1 else len(value) - 2
    for axis, key in ((rows, "height"), (rows + 1, "width")):
        spatial(value[axis], trace)
        value = replaced(value, axis, op.config[key])
    return value


@layer("Masking")
def masking(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A step is masked where all its features are `mask_value`: features are looked at together."""
    trace.pin(inputs[0][-1], "mixes_channels", "masks steps by all their features")
    return inputs[0]
