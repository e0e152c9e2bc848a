"""Recurrent layers: one unit is a column of every gate and a row of the recurrent kernel."""

from __future__ import annotations

from math import prod

import numpy as np

from pruning.graph import Op
from pruning.nodes import refs
from pruning.rules import layer, rule_of
from pruning.rules.activation import activate
from pruning.rules.trace import Extent, Ids, Trace, Value, channel_axis, numbers, places, replaced, size, spatial
from pruning.rules.windows import slide

GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


@layer("SimpleRNN", "GRU", "LSTM")
def recurrent(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """kernel (features, gates * units), recurrent kernel (units, gates * units), bias (gates * units), GRU's (2, .).

    Gate g of unit j is column j + g * units. MACs: time * (features + units) * gates * units.
    """
    value = inputs[0]
    steps = spatial(value[1], trace)
    gates = GATES[op.class_name]
    kernel, inner, bias = (trace.weight(index, "cell") for index in range(3))
    width = op.config["units"]
    trace.expect(kernel, [size(value[-1]), gates * width])
    trace.expect(inner, [width, gates * width])
    trace.bind(kernel, 0, value[-1], "consumer")
    units = _produce(kernel, width, trace)
    across = columns(units, gates)
    trace.bind(inner, 0, units, "consumer")
    trace.bind(inner, 1, across, "follower")
    if op.config["use_bias"]:
        trace.bind(bias, -1, across, "follower")
    trace.resize("units", units)
    trace.width(units)
    trace.cost((steps,), (value[-1], across), kernel)
    trace.cost((steps,), (units, across), inner)
    for activation in ("activation", "recurrent_activation"):
        activate(op.config.get(activation), (units,), trace)
    return _outputs(op, (value[0], steps, units), _states(op, inputs, units, trace), trace)


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


def _states(op: Op, inputs: list[Value], units: Ids, trace: Trace) -> list[Value]:
    """The states of a layer; those that a call brings meet its units. A stateful layer keeps them between calls."""
    tensors = dict(zip(op.inputs, inputs, strict=True))
    given = op.kwargs.get("initial_state")
    brought = [tensors[ref.tensor] for ref in refs((op.args[1:2], given))]
    for state in brought:
        trace.meet(state[-1], units)
    if op.config.get("stateful"):
        trace.pin(units, "stateful", "keeps its states between calls")
    return [(inputs[0][0], units)] * (2 if op.class_name in ("LSTM", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D") else 1)


def _outputs(op: Op, sequence: Value, states: list[Value], trace: Trace) -> Value | list[Value]:
    first = sequence if op.config["return_sequences"] else (sequence[0], *sequence[2:])
    return [first, *states] if op.config["return_state"] else first


@layer("Bidirectional")
def bidirectional(op: Op, inputs: list[Value], trace: Trace) -> Value | list[Value]:
    """Both directions keep one width, so unit j of one goes with unit j of the other; `merge_mode` joins them."""
    found: list[Value] = []
    for key in ("layer", "backward_layer"):
        path = "forward_layer" if key == "layer" else "backward_layer"
        with trace.inside(key, path) as inner:
            rule = rule_of(inner)
            states = list(refs((op.args[1:2], op.kwargs.get("initial_state"))))
            if rule is None or inner.config.get("return_state") or states:
                trace.pin(inputs[0], "unsupported_option", f"{inner.class_name} in both directions with states")
                return inputs[0]
            output = rule(inner, inputs, trace)
        assert isinstance(output, tuple)
        found.append(output)
    forward, backward = found
    trace.meet(forward[-1], backward[-1])
    if op.config["merge_mode"] is None:
        return [forward, backward]
    if op.config["merge_mode"] != "concat":
        return forward
    joined: Extent = (
        np.concatenate([forward[-1], backward[-1]]) if isinstance(forward[-1], np.ndarray) else 2 * (forward[-1] or 0)
    )
    return replaced(forward, -1, joined)


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
    spaces = (spatial(value[1], trace), *places(output, channels))
    trace.cost(spaces, (frame[channels], across), kernel, prod(window))
    trace.cost(spaces, (filters, across), inner, prod(window))
    for activation in ("activation", "recurrent_activation"):
        activate(op.config.get(activation), (filters,), trace)
    states = [output for _ in _states(op, inputs, filters, trace)]
    return _outputs(op, (value[0], spaces[0], *output[1:]), states, trace)
