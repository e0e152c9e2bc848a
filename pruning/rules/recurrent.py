"""Recurrent layers: one unit is a column of every gate and a row of the recurrent kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from pruning.contract.errors import VerificationFailed
from pruning.graph import Op, snake_case
from pruning.nodes import refs
from pruning.rules import bias_add, layer, rule_of
from pruning.rules.activation import activate
from pruning.rules.extents import Extent, Ids, Value, channel_axis, places, replaced, size
from pruning.rules.merge import strung
from pruning.rules.trace import Trace
from pruning.rules.windows import numbers, slide, spatial

GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
STATES = {"SimpleRNN": 1, "GRU": 1, "LSTM": 2}


@layer("SimpleRNN", "GRU", "LSTM")
def recurrent(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """A cell over all steps."""
    value = inputs[0]
    steps = spatial(value[1], trace)
    units = _cell(op.config, GATES[op.class_name], "cell", steps, value[-1], trace)
    trace.width(units)
    states = _states(op, inputs, [units] * STATES[op.class_name], trace)
    return _outputs(op, (value[0], steps, units), states, trace)


@layer("RNN")
def of_cells(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """One cell, or several on top of each other in every step."""
    value = inputs[0]
    steps = spatial(value[1], trace)
    outer = op.config["cell"]
    stacked = outer["class_name"] == "StackedRNNCells"
    cells = outer["config"]["cells"] if stacked else [outer]
    used: dict[str, int] = {}
    state_units: list[Ids] = []
    feature: Extent = value[-1]
    for index, cell in enumerate(cells):
        kind = cell["class_name"].removesuffix("Cell")
        if cell.get("module") != "keras.layers" or kind not in GATES:
            raise VerificationFailed(f"{cell['class_name']} is a cell that no rule knows")
        used[kind] = used.get(kind, -1) + 1
        name = snake_case(cell["class_name"]) + (f"_{used[kind]}" if used[kind] else "")
        below = ("config", "cell", *(("config", "cells", index) if stacked else ()))
        path = f"{op.path}/cell/cells/{name}" if stacked else f"{op.path}/cell"
        trace.op = replace(op, config=cell["config"], path=path, location=(*op.location, *below))
        feature = _cell(cell["config"], GATES[kind], "", steps, feature, trace)
        state_units += [feature] * STATES[kind]
    trace.op = op
    trace.width(feature)
    return _outputs(op, (value[0], steps, feature), _states(op, inputs, state_units, trace), trace)


def _cell(config: Mapping[str, Any], gates: int, inner: str, steps: Extent, feature: Extent, trace: Trace) -> Ids:
    """kernel (features, gates * units), recurrent kernel (units, gates * units), bias (gates * units), GRU's (2, .).

    Gate g of unit j is column j + g * units. MACs: time * (features + units) * gates * units.
    """
    kernel, recurrent_kernel, bias = (trace.weight(index, inner) for index in range(3))
    width = config["units"]
    trace.expect(kernel, [size(feature), gates * width])
    trace.expect(recurrent_kernel, [width, gates * width])
    trace.bind(kernel, 0, feature, "consumer")
    units = _produce(kernel, width, trace)
    across = columns(units, gates)
    trace.bind(recurrent_kernel, 0, units, "consumer")
    trace.bind(recurrent_kernel, 1, across, "follower")
    if config["use_bias"]:
        trace.bind(bias, -1, across, "follower")
    trace.resize("units", units)
    trace.cost((steps,), (feature, across), kernel)
    trace.cost((steps,), (units, across), recurrent_kernel)
    for activation in ("activation", "recurrent_activation"):
        activate(config.get(activation), (units,), trace)
    return units


def columns(units: Ids, gates: int) -> Ids:
    """Where the units lie along the gates: gate g of unit j is column j + g * units."""
    return np.tile(units, gates)


def _produce(kernel: str, width: int, trace: Trace) -> Ids:
    """New units along the gates of a kernel's last axis; the same ones where the layer was called before."""
    axis = len(trace.shape(kernel)) - 1
    known = trace.axes.get((kernel, axis))
    if known is not None:
        return known.ids[:width]
    units = trace.new(width)
    trace.bind(kernel, axis, columns(units, trace.shape(kernel)[-1] // width), "producer")
    return units


def _states(op: Op, inputs: list[Value], units: list[Ids], trace: Trace, channels: int = -1) -> list[Value]:
    """The states of a layer; those that a call brings meet its units. What stateful layers keep is in no file."""
    tensors = dict(zip(op.inputs, inputs, strict=True))
    given = op.kwargs.get("initial_state")
    brought = [tensors[ref.tensor] for ref in refs((op.args[1:2], given))]
    for state, own in zip(brought, units, strict=False):
        trace.meet(state[channels], own)
    return [(inputs[0][0], own) for own in units]


def _outputs(op: Op, sequence: Value, states: list[Value], trace: Trace) -> Value | list[Value]:
    first = sequence if op.config["return_sequences"] else (sequence[0], *sequence[2:])
    return [first, *states] if op.config["return_state"] else first


@layer("Bidirectional")
def bidirectional(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """Both directions keep one width, so unit j of one goes with unit j of the other; `merge_mode` joins them.

    States that a call brings are the first direction's and then the other's, as are those that it returns.
    """
    found: list[Value] = []
    states: list[Value] = []
    brought = list(refs((op.args[1:2], op.kwargs.get("initial_state"))))
    halves = brought[: len(brought) // 2], brought[len(brought) // 2 :]
    for key, path, half in zip(("layer", "backward_layer"), ("forward_layer", "backward_layer"), halves, strict=True):
        with trace.inside(key, path) as inner:
            rule = rule_of(inner)
            if rule is None:
                trace.pin(inputs[0], "unknown_layer", f"{inner.class_name} is a layer that no rule knows")
                return inputs[0]
            given = replace(inner, args=inner.args[:1], kwargs={**inner.kwargs, "initial_state": half})
            output = rule(given, inputs, trace)
        first, *rest = output if isinstance(output, list) else [output]
        found.append(first)
        states += rest
    forward, backward = found
    channels = channel_axis(op.config["layer"]["config"], len(forward))
    if channels == 1 and op.config["layer"]["config"].get("return_sequences"):
        channels = 2
    trace.meet(forward[channels], backward[channels])
    mode = op.config["merge_mode"]
    if mode is None:
        return [forward, backward, *states]
    merged = strung(found, len(forward) - 1, trace) if mode == "concat" else forward
    return [merged, *states] if states else merged


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def conv_lstm(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """kernel (*window, channels, 4 * filters), recurrent kernel (*window, filters, 4 * filters), bias (4 * filters)."""
    value = inputs[0]
    frame = (value[0], *value[2:])
    channels = channel_axis(op.config, len(frame))
    kernel, inner, bias = (trace.weight(index, "cell") for index in range(3))
    window = numbers(op.config["kernel_size"], len(frame) - 2)
    width = op.config["filters"]
    trace.expect(kernel, [*window, size(frame[channels]), 4 * width])
    trace.bind(kernel, -2, frame[channels], "consumer")
    filters = _produce(kernel, width, trace)
    across = columns(filters, 4)
    trace.bind(inner, -2, filters, "consumer")
    trace.bind(inner, -1, across, "follower")
    if op.config["use_bias"]:
        trace.follow(bias, across)
    trace.resize("filters", filters)
    trace.width(filters)
    output = replaced(slide(op, "kernel_size", frame, trace), channels, filters)
    bias_add.of_channels(op, output, channels, trace)
    spaces = (spatial(value[1], trace), *places(output, channels))
    trace.cost(spaces, (frame[channels], across), kernel, prod(window))
    trace.cost(spaces, (filters, across), inner, prod(window))
    for activation in ("activation", "recurrent_activation"):
        activate(op.config.get(activation), (filters,), trace)
    states = [output for _ in _states(op, inputs, [filters, filters], trace, channels)]
    return _outputs(op, (value[0], spaces[0], *output[1:]), states, trace)
