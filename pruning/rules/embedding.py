"""Embeddings: the output axis starts units; the vocabulary stays."""

from __future__ import annotations

from dataclasses import replace

from pruning.graph import Op
from pruning.rules import layer, operation, register
from pruning.rules.extents import Value, places
from pruning.rules.trace import Trace


@layer("Embedding")
def embedding(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """embeddings (input_dim, output_dim). Looking up costs no MACs."""
    return _looked_up(op, inputs, trace)


def _looked_up(op: Op, inputs: list[Value], trace: Trace) -> Value:
    table = trace.weight(0)
    trace.expect(table, [op.config["input_dim"], op.config["output_dim"]])
    trace.vocabulary(op.inputs[0], op.config["input_dim"])
    features = trace.produce(table, 1)
    trace.resize("output_dim", features)
    trace.width(features)
    return (*inputs[0], features)


@layer("ReversibleEmbedding")
@register("keras_hub.src.layers.modeling.reversible_embedding", "ReversibleEmbedding")
def reversible(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """As an embedding; in reverse its table, or one of its own (output_dim, input_dim), makes logits of what enters.

    A tied table makes units in one call and reads them in the other: whoever prunes one prunes the other.
    """
    tied = op.config.get("tie_weights", True)
    if not (op.kwargs.get("reverse") or (op.args[1:2] and op.args[1])):
        output = _looked_up(op, inputs, trace)
        if not tied:
            trace.bind(trace.weight(1), 0, output[-1], "consumer")
        return output
    (value,) = inputs
    table, axis = (trace.weight(0), 1) if tied else (trace.weight(1), 0)
    trace.bind(table, axis, value[-1], "consumer")
    reads(table, axis, trace)
    trace.cost(places((*value, op.config["input_dim"]), -1), (value[-1], op.config["input_dim"]), table)
    return (*value[:-1], op.config["input_dim"])


def reads(table: str, axis: int, trace: Trace) -> None:
    """An array reads the units that it makes along this axis in another call."""
    if trace.axes[table, axis].role == "producer":
        trace.axes[table, axis] = replace(trace.axes[table, axis], role="factor")


@operation("OneHot")
def one_hot(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """A new axis of `num_classes`; the numbers that enter are indices below it."""
    (value,) = inputs
    at = op.config["axis"] % (len(value) + 1)
    trace.vocabulary(op.inputs[0], op.config["num_classes"])
    return (*value[:at], op.config["num_classes"], *value[at:])
