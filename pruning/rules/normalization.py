"""Normalisations: per-channel vectors follow the channels; what mixes channels keeps them."""

from __future__ import annotations

import numpy as np

from pruning.graph import Op
from pruning.rules import layer, operation
from pruning.rules.arithmetic import beside, constant, met, operands
from pruning.rules.extents import Value, axes_of, places, replaced, size
from pruning.rules.merge import broadcast
from pruning.rules.trace import Trace


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
    """x * scale + offset; a scale for each channel is a list in the config, which loses the numbers of lost units."""
    value = inputs[0]
    for key in ("scale", "offset"):
        value = beside(value, *constant(op.config[key], (*op.location, "config", key)), trace)
    return value


@layer("Normalization")
def normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(x - mean) / sqrt(variance), given by the training data of the inputs: keeps its channels."""
    for extent in inputs[0]:
        if isinstance(extent, np.ndarray):
            trace.pin(extent, "constant", "mean and variance were taken from data, one number a channel")
    return inputs[0]


@layer("LayerNormalization", "RMSNormalization")
def layer_normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Statistics over `axis`: what lies there is mixed. gamma and beta have the shape of these axes: follow."""
    (value,) = inputs
    axes = axes_of(op.config["axis"], len(value))
    count = op.config.get("scale", True) + op.config.get("center", False)
    if op.config.get("rms_scaling") or list(axes) != sorted(axes):
        detail = "rms_scaling, or axes out of order, which Keras scales by its own rules"
        trace.pin(tuple(value[axis] for axis in axes), "unsupported_option", detail)
    for index in range(count):
        vector = trace.weight(index)
        trace.expect(vector, [size(value[axis]) for axis in axes])
        for place, axis in enumerate(axes):
            trace.bind(vector, place, value[axis], "follower")
    for axis in axes:
        trace.normalize(value[axis], [(0, axis)])
    return value


@operation("LayerNorm", "RMSNorm")
def layer_norm(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Statistics over `axis`, as the layers'. Scale and offset (tensors or constants) multiply by the last axis."""
    given = operands(op, inputs)
    value = given[0][0]
    axes = axes_of(op.config["axis"], len(value))
    if op.config.get("rms_scaling") or (len(given) > 1 and axes != (len(value) - 1,)):
        detail = "rms_scaling, or a scale over other axes than the last"
        trace.pin(tuple(extent for each in inputs for extent in each), "unsupported_option", detail)
    for vector, where in given[1:]:
        if where is None:
            value = broadcast([value, (*(1,) * (len(value) - len(vector)), *vector)], trace)
        else:
            value = beside(value, vector, where, trace)
    for axis in axes:
        trace.normalize(value[axis], [(0, axis)])
    return value


@operation("BatchNorm")
def batch_norm(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Mean, variance, offset and scale (channels), tensors or constants: follow."""
    given = operands(op, inputs)
    value, axis = given[0][0], op.config["axis"] % len(given[0][0])
    for vector, where in given[1:]:
        value = replaced(value, axis, met(value[axis], vector[0], where, 0, trace))
    return value


@layer("UnitNormalization")
@operation("Normalize")
def unit_normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Divided by the norm over `axis`, which is mixed; of whatever order it is, zeros add nothing."""
    (value,) = inputs
    for axis in axes_of(op.config["axis"], len(value)):
        trace.normalize(value[axis], [(0, axis)])
    return value


@layer("GroupNormalization")
def group_normalization(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Statistics over groups of channels; with one channel a group (-1, or as many groups) each is on its own.

    A whole group goes without a trace in the others. Under `normalized_axes: prune` all groups stay, equally wide: the
    channels at one place of all of them go together.
    """
    (value,) = inputs
    channels = op.config["axis"] % len(value)
    extent, groups = value[channels], op.config["groups"]
    trace.pin(places(value, channels), "normalized_axis", "GroupNormalization takes its statistics over these units")
    vectors = [trace.weight(index) for index in range(op.config["scale"] + op.config["center"])]
    for vector in vectors:
        trace.follow(vector, extent)
    if groups in (-1, size(extent)):
        if op.config["scale"]:
            trace.scales.add(vectors[0])
        if groups != -1:
            trace.resize("groups", extent)
    elif isinstance(extent, np.ndarray) and groups > 1 and trace.normalized_axes == "keep":
        table = extent.reshape(groups, -1)
        trace.tie(np.broadcast_to(table[:, :1], table.shape), table)
        trace.resize("groups", table[:, 0])
    else:
        if isinstance(extent, np.ndarray):
            table = extent.reshape(groups, -1)
            trace.tie(np.broadcast_to(table[0], table.shape), table)
        trace.normalize(extent, [(0, channels)])
    return value
