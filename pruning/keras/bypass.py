"""The original with blocks left out, run call by call: what surgery on blocks is proven against.

Nothing is rewired here. Every call of the live model runs on what its arguments name; only where a block's last tensor
is read, the one that entered the block is handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from pruning.blocks import Block
from pruning.graph import Graph
from pruning.keras import live
from pruning.keras.calls import as_input, called, live_layers
from pruning.steps import Location, through

Tensors = dict[int, Any]
Run = Callable[[Sequence[Any]], Tensors]


def runner(model: keras.Model, config: Mapping[str, Any], graph: Graph, gone: Iterable[Block] = ()) -> Run:
    """A function of the model's inputs, in order, that returns every tensor of the graph, in inference mode.

    `model`: of this config, whose graph this is. Tensors that leave a block in `gone` are those that entered it.
    """
    layers = live_layers(model, config)
    blocks = list(gone)
    stand_ins = {block.leaves: block.enters for block in blocks}
    # They do not run at all: an attention takes the masks from the tensors that it is given.
    without = frozenset(index for block in blocks for index in block.ops)

    def run(inputs: Sequence[Any]) -> Tensors:
        found: Tensors = {}

        def forward() -> list[Any]:
            found.update(_run(graph, layers, stand_ins, without, inputs, model))
            return [found[tensor] for tensor in graph.outputs]

        _Inference(forward)(inputs[0], training=False)
        return found

    if not live.needs_xla(model):
        return run
    compiled = tf.function(run, autograph=False, jit_compile=True)
    return lambda inputs: compiled([tf.convert_to_tensor(array) for array in inputs])


class _Inference(keras.layers.Layer):  # type: ignore[misc]
    """Calls made inside learn from this one that nothing is trained."""

    def __init__(self, forward: Callable[[], list[Any]]) -> None:
        super().__init__(name="inference", autocast=False)
        self.forward = forward

    def call(self, _first: Any, training: bool = False) -> list[Any]:  # noqa: ARG002
        return self.forward()


def _run(
    graph: Graph,
    layers: Mapping[Location, Any],
    stand_ins: Mapping[int, int],
    without: frozenset[int],
    inputs: Sequence[Any],
    model: keras.Model,
) -> Tensors:
    given = [keras.ops.convert_to_tensor(array, like.dtype) for array, like in zip(inputs, model.inputs, strict=True)]
    values: Tensors = dict(zip(graph.inputs, given, strict=True))
    entered: dict[Location, Any] = {}
    for index, op in enumerate(graph.ops):
        if index in without:
            made = [None for _ in op.outputs]
        elif op.class_name.endswith(".leave"):
            made = [entered[op.location]]
        elif op.class_name.endswith(".enter"):
            # A wrapper runs as a whole; what it wraps has no call of its own here, as nothing that it reads is there.
            entered[op.location] = called(layers[op.location], op, values)
            continue
        elif not values.keys() >= set(op.inputs):
            continue
        elif op.class_name == "InputLayer":
            made = [as_input(values[op.inputs[0]], layers.get(op.location))]
        elif op.location not in layers:
            continue
        else:
            made = keras.tree.flatten(called(layers[op.location], op, values))
        for tensor, value in zip(op.outputs, made, strict=False):
            # Of a block inside another one that goes, not even what entered it is there, and nothing reads it.
            source = through(tensor, stand_ins)
            found = value if source == tensor else values.get(source)
            if found is not None:
                values[tensor] = found
    return values
