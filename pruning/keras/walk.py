"""A model run op by op on all samples at once, so that two models can be followed side by side.

A tensor is dropped after the last op that reads it: memory holds what is alive, not what was ever computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

from pruning.graph import Graph, Op
from pruning.keras.calls import as_input, called, live_layers
from pruning.keras.data import Samples
from pruning.keras.private import mask_of, with_mask
from pruning.products import KNOWN

Place = tuple[str | int, ...]
# What the tensors that are alive at once may take, whatever the samples asked for.
_ALIVE_BYTES = 2**30


class Stuck(Exception):
    """An op cannot be called outside its model."""


class Walk:
    """`values[tensor]`: what the ops that ran so far made of `inputs` and is still needed. `alive`: bytes it takes."""

    def __init__(
        self, graph: Graph, config: Mapping[str, Any], model: keras.Model, inputs: Sequence[NDArray[Any]]
    ) -> None:
        self.graph, self._layers = graph, live_layers(model, config)
        self.values: dict[int, Any] = {
            tensor: tf.constant(array) for tensor, array in zip(graph.inputs, inputs, strict=True)
        }
        self._readers = [0] * len(graph.shapes)
        for op in graph.ops:
            for tensor in set(op.inputs):
                self._readers[tensor] += 1
        self._entered = _pairs(graph.ops)
        # What a TimeDistributed took away, by the tensor that it left: batch and steps, and the mask.
        self._times: dict[int, tuple[Any, Any]] = {}

    def run(self, index: int) -> None:
        """Run one op, all of whose inputs are there, in inference mode. Raises `Stuck` where that does not go."""
        op = self.graph.ops[index]
        try:
            found = keras.tree.flatten(self._call(op, index))
        except Exception as error:
            # A layer of anyone's may refuse what its model prepared for it: no reason to lose the run.
            raise Stuck(f"layer {op.name!r} cannot be called by itself: {error}") from error
        self.values |= dict(zip(op.outputs, found, strict=False))

    def forget(self, index: int) -> None:
        """Drop what no op but this one had still to read; outputs of the model stay."""
        op = self.graph.ops[index]
        for tensor in set(op.inputs):
            self._readers[tensor] -= 1
        for tensor in {*op.inputs, *op.outputs}:
            if not self._readers[tensor] and tensor not in self.graph.outputs:
                self.values.pop(tensor, None)

    @property
    def alive(self) -> int:
        return sum(int(tf.size(value)) * value.dtype.size for value in self.values.values())

    def _call(self, op: Op, index: int) -> Any:
        if op.class_name == "InputLayer":
            return as_input(self.values[op.inputs[0]], self._layers.get(op.location))
        if op.class_name == "TimeDistributed.enter":
            value = self.values[op.inputs[0]]
            self._times[op.outputs[0]] = tf.shape(value)[:2], mask_of(value)
            return tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], 0))
        if op.class_name == "TimeDistributed.leave":
            value = self.values[op.inputs[0]]
            shape, mask = self._times.pop(self._entered[index])
            return with_mask(tf.reshape(value, tf.concat([shape, tf.shape(value)[1:]], 0)), mask)
        return called(self._layers[op.location], op, self.values)


def sample(
    graph: Graph,
    config: Mapping[str, Any],
    model: keras.Model,
    train: Samples,
    count: int,
    networks: int,
    seed: int,
) -> list[NDArray[Any]]:
    """Up to `count` training inputs, drawn by the seed: as many as `networks` walks have room for at their widest."""
    probe = Walk(graph, config, model, train.batch(slice(0, 1))[0])
    widest = 1
    with suppress(Stuck):
        for index in range(len(graph.ops)):
            probe.run(index)
            widest = max(widest, probe.alive)
            probe.forget(index)
    room = max(1, _ALIVE_BYTES // (networks * widest))
    return train.few(min(count, room), seed).batch(slice(None))[0]


def _pairs(ops: Sequence[Op]) -> dict[int, int]:
    """For each op that puts a time axis back the tensor that was left when it was taken away."""
    open_: list[int] = []
    found = {}
    for index, op in enumerate(ops):
        if op.class_name == "TimeDistributed.enter":
            open_.append(op.outputs[0])
        elif op.class_name == "TimeDistributed.leave":
            found[index] = open_.pop()
    return found


def steps(graph: Graph) -> list[tuple[int, ...]]:
    """The ops in an order in which they can run, the calls of a shared layer together where none waits for another.

    What multiplies by weights waits for all else that can run, the longest-waiting first: of the terms of a sum each
    is whole before the next is made, and a short cut before the longer way.
    """
    ops = graph.ops
    makers = {tensor: index for index, op in enumerate(ops) for tensor in op.outputs}
    calls: dict[Place, list[int]] = {}
    readers: dict[int, set[int]] = {}
    for index, op in enumerate(ops):
        calls.setdefault(op.location, []).append(index)
        for tensor in op.inputs:
            readers.setdefault(tensor, set()).add(index)
    lacking = [sum(tensor in makers for tensor in set(op.inputs)) for op in ops]
    turns = count()
    ready = [(op.class_name in KNOWN, next(turns), index) for index, op in enumerate(ops) if not lacking[index]]
    heapify(ready)
    done: set[int] = set()
    order: list[tuple[int, ...]] = []

    def before(index: int) -> set[int]:
        """What has to run before this op can."""
        found: set[int] = set()
        waiting = [index]
        while waiting:
            for tensor in ops[waiting.pop()].inputs:
                maker = makers.get(tensor)
                if maker is not None and maker not in done and maker not in found:
                    found.add(maker)
                    waiting.append(maker)
        return found

    def visit(index: int, busy: frozenset[int]) -> None:
        if index in done:
            return
        together = [index]
        for other in calls[ops[index].location]:
            if other in done or other in together or ops[other].class_name != ops[index].class_name:
                continue
            needed = before(other)
            if needed & {*busy, *together}:
                continue
            for op in sorted(needed):
                visit(op, busy | set(together))
            together.append(other)
        order.append(tuple(sorted(together)))
        done.update(together)
        for tensor in (tensor for op in together for tensor in ops[op].outputs):
            for reader in sorted(readers.get(tensor, ())):
                lacking[reader] -= 1
                if not lacking[reader]:
                    heappush(ready, (ops[reader].class_name in KNOWN, next(turns), reader))

    while ready:
        visit(heappop(ready)[-1], frozenset())
    return order
