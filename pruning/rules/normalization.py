"""Normalisations: per-channel vectors follow the channels; what mixes channels keeps them."""

from __future__ import annotations

import numpy as np

from pruning.graph import Op
from pruning.rules import layer
from pruning.rules.trace import Trace, Value, axes_of, places, size


@layer("BatchNormalization")
def batch_normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """gamma, beta, moving mean and variance, all (channels): follow. A mask, which may come too, has no channels."""
    value = inputs[0]
    extent = value[op.config["axis"]]
    count = 2 + op.config["scale"] + op.config["center"]
    for index in range(count):
        trace.follow(trace.weight(index), extent)
    if op.config.get("renorm"):
        trace.pin(extent, "unsupported_option", "batch renormalisation keeps statistics that no rule binds")
    if op.config["scale"]:
        trace.scales.add(trace.weight(0))
    return value


@layer("Rescaling")
def rescaling(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """x * scale + offset; a scale per channel keeps the channels."""
    if any(isinstance(op.config.get(key), list | tuple | dict) for key in ("scale", "offset")):
        trace.pin(inputs[0], "constant", "scale or offset is a list in the config, one number a channel")
    return inputs[0]


@layer("Normalization")
def normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(x - mean) / sqrt(variance), given by the training data of the inputs: keeps its channels."""
    for extent in inputs[0]:
        if isinstance(extent, np.ndarray):
            trace.pin(extent, "constant", "mean and variance were taken from data, one number a channel")
    return inputs[0]


@layer("LayerNormalization", "RMSNormalization", "UnitNormalization")
def layer_normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Mean and variance over `axis`: what lies there is mixed."""
    (value,) = inputs
    for axis in axes_of(op.config["axis"], len(value)):
        trace.pin(value[axis], "normalized_axis", f"{op.class_name} takes its statistics over these units")
    return value


@layer("GroupNormalization")
def group_normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Statistics over groups of channels; with one channel a group (-1, or as many groups) each is on its own."""
    (value,) = inputs
    channels = op.config["axis"] % len(value)
    extent = value[channels]
    trace.pin(places(value, channels), "normalized_axis", "GroupNormalization takes its statistics over these units")
    if op.config["groups"] not in (-1, size(extent)):
        trace.pin(extent, "normalized_axis", "GroupNormalization takes its statistics over groups of these units")
        return value
    vectors = [trace.weight(index) for index in range(op.config["scale"] + op.config["center"])]
    for vector in vectors:
        trace.follow(vector, extent)
    if op.config["scale"]:
        trace.scales.add(vectors[0])
    if op.config["groups"] != -1:
        trace.resize("groups", extent)
    return value
