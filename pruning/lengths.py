"""The shapes of a model's tensors where its free axes have lengths that the model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy.typing as npt

from pruning import units as unit_finder
from pruning.graph import Graph, Op
from pruning.rules.extents import shape_of
from pruning.units import Units

Shape: TypeAlias = tuple[int | None, ...]
_MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 24, 32)
_PRIMES = (11, 13, 17, 19, 23, 29, 31, 37, 41, 53, 59, 97, 101)
_LEAST = 96
_ELEMENTWISE = {"Add", "Subtract", "Multiply", "Divide", "Average", "Maximum", "Minimum"}


def shapes(graph: Graph, units: Units, arrays: Mapping[str, npt.NDArray[Any]]) -> list[list[Shape]]:
    """The shape of every tensor; where the model has free axes, at two lengths: what is alike at both is so at any.

    A model that puts two steps side by side, or halves an image and doubles it again for a skip, takes multiples of
    some number alone. The lengths are two primes times the least such number, so that a stride that is undone again
    does not pass for an identity. If none fits, they are those at which the least is amiss.
    """
    if not graph.unknown_dimensions:
        return [[shape_of(value) for value in units.tensors]]
    found: list[list[Shape]] = []
    least = None
    for multiple in _MULTIPLES:
        primes = [prime for prime in _PRIMES if prime * multiple >= _LEAST][:2]
        pair = [_at(prime * multiple, graph, arrays) for prime in primes]
        amiss = sum(_amiss(graph.ops, tensors) for tensors in pair)
        if least is None or amiss < least:
            found, least = pair, amiss
        if not least:
            break
    return found


def _at(length: int, graph: Graph, arrays: Mapping[str, npt.NDArray[Any]]) -> list[Shape]:
    known = list(graph.shapes)
    for tensor in graph.inputs:
        sizes = known[tensor] or ()
        known[tensor] = (*sizes[:1], *(length if size is None else size for size in sizes[1:]))
    _, values = unit_finder.traced(replace(graph, shapes=tuple(known)), arrays)
    return [shape_of(value) for value in values]


def _amiss(ops: Sequence[Op], tensors: Sequence[Shape]) -> int:
    """How many shapes are not known, and how many calls are given shapes that do not fit each other."""
    unknown = sum(None in shape[1:] for shape in tensors)
    return unknown + sum(not _fit(op, [tensors[tensor] for tensor in op.inputs]) for op in ops)


def _fit(op: Op, given: Sequence[Shape]) -> bool:
    if op.class_name not in _ELEMENTWISE | {"Concatenate"} or len({len(shape) for shape in given}) != 1:
        return True
    differ = sum(len(set(sizes) - {1}) > 1 for sizes in zip(*given, strict=True))
    return differ <= (op.class_name == "Concatenate")
