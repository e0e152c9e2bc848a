"""Preprocessing inside a model: of images sizes change and channels pass, categories and text become numbers.

Augmentation does nothing at inference.
"""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import layer
from pruning.rules.extents import Value, channel_axis, replaced, size
from pruning.rules.trace import Trace
from pruning.rules.windows import spatial


@layer(
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomPerspective",
    "RandomRotation",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
)
def geometric(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Moves pixels, only while training."""
    return inputs[0]


@layer(
    "AugMix",
    "AutoContrast",
    "ContrastLimitedAdaptiveHistogramEqualization",
    "CutMix",
    "Equalization",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPosterization",
    "RandomSaturation",
    "RandomSharpness",
    "Solarization",
)
def colour(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Mixes or bounds colours, most of them only while training: channels stay all the same."""
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


@layer("CategoryEncoding", "Discretization", "HashedCrossing", "Hashing", "IntegerLookup", "StringLookup")
def encode(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Numbers or words become indices of the same shape, or an axis at the end that counts or marks them."""
    value, mode = inputs[0], op.config.get("output_mode", "int")
    for each in inputs:
        trace.pin(each, "constant", "works on numbers and words of the data")
    if mode == "int":
        return value
    if mode != "one_hot" and op.class_name == "Discretization":
        return (value[0], *value[2:], _many(op))
    appended = mode == "one_hot" and op.class_name != "Hashing" and size(value[-1]) != 1
    return (*(value if appended else value[:-1]), _many(op))


def _many(op: Op) -> int | None:
    """How many categories the layer tells apart; a vocabulary is as large as its config says."""
    config = op.config
    if op.class_name == "Discretization":
        bounds = config.get("bin_boundaries")
        found = config.get("num_bins") if bounds is None else len(bounds) + 1
    elif "vocabulary_size" in config:
        found = config["max_tokens" if config.get("pad_to_max_tokens") else "vocabulary_size"]
    else:
        found = config.get("num_tokens", config.get("num_bins"))
    return found if isinstance(found, int) else None


@layer("TextVectorization")
def text(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(batch, 1) of text -> (batch, `output_sequence_length`) indices; other modes give an axis of the vocabulary."""
    (value,) = inputs
    trace.pin(value, "constant", "works on the text of the data")
    if op.config["output_mode"] == "int":
        return (value[0], op.config["output_sequence_length"])
    return (*(value if op.config.get("split") else value[:-1]), _many(op))


@layer("Masking")
def masking(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A step is masked where all its features are `mask_value`: features are looked at together."""
    trace.pin(inputs[0][-1], "mixes_channels", "masks steps by all their features")
    return inputs[0]
