"""Embeddings: the output axis starts units; the vocabulary stays."""

from __future__ import annotations

from pruning.graph import Op
from pruning.rules import layer
from pruning.rules.trace import Trace, Value


@layer("Embedding")
def embedding(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """embeddings (input_dim, output_dim). Looking up costs no MACs."""
    table = trace.weight(0)
    trace.expect(table, [op.config["input_dim"], op.config["output_dim"]])
    trace.vocabulary(op.inputs[0], op.config["input_dim"])
    features = trace.produce(table, 1)
    trace.resize("output_dim", features)
    trace.width(features)
    return (*inputs[0], features)
