"""Peak memory of one forward pass, counted on the graph: no run, so the same figure everywhere."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from pruning.measures import elements
from pruning.rules.extents import size

if TYPE_CHECKING:
    from pruning.graph import Graph
    from pruning.units import Units

_ITEM_BYTES = 4


def peak_bytes(graph: Graph, units: Units) -> int:
    """Bytes of all weights plus the largest sum of activations alive at once, for one sample in float32.

    A tensor lives from the op that makes it to the last op that reads it; ops run in the graph's order and write into
    memory of their own. Free dimensions count as 1. Scratch memory of kernels is not counted.
    """
    sizes = [_ITEM_BYTES * prod(size(extent) or 1 for extent in value[1:]) for value in units.tensors]
    last = {tensor: at for at, op in enumerate(graph.ops) for tensor in op.inputs}
    last |= dict.fromkeys(graph.outputs, len(graph.ops))
    alive = {tensor: sizes[tensor] for tensor in graph.inputs}
    peak = sum(alive.values())
    for at, op in enumerate(graph.ops):
        alive |= {tensor: sizes[tensor] for tensor in op.outputs}
        peak = max(peak, sum(alive.values()))
        alive = {tensor: size for tensor, size in alive.items() if last.get(tensor, at) > at}
    counts = elements(units)
    return peak + sum(units.itemsize(path) * count for path, count in counts.items())
