"""Products of tensors without weights, by their letters; a constant matrix in the config loses rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters

from pruning.contract.errors import VerificationFailed
from pruning.graph import Op
from pruning.rules import operation
from pruning.rules.arithmetic import Location, met, operands
from pruning.rules.extents import Extent, Value
from pruning.rules.merge import broadcast
from pruning.rules.trace import Trace

Operands = Sequence[tuple[Value, Location | None]]


def contract(entering: Sequence[str], leaving: str, given: Operands, trace: Trace) -> Value:
    """Axes of one letter are tied, a letter that leaves none is summed over. MACs: all letters multiplied.

    `given`: tensors (None) and constants (where their numbers stand). Raises `VerificationFailed` for a diagonal.
    """
    if any(len(set(each)) < len(each) for each in entering):
        raise VerificationFailed(f"a diagonal is taken in {','.join(entering)}->{leaving}")
    known: dict[str, Extent] = {}
    for each, (value, where) in zip(entering, given, strict=True):
        for letter, extent in zip(each, value, strict=True):
            if where is None:
                known[letter] = trace.meet(known[letter], extent) if letter in known else extent
    for each, (value, where) in zip(entering, given, strict=True):
        for axis, (letter, extent) in enumerate(zip(each, value, strict=True)):
            if where is not None:
                known[letter] = met(known.get(letter), extent, where, axis, trace)
    tensors = [each for each, (_, where) in zip(entering, given, strict=True) if where is None]
    for place, each in enumerate(tensors):
        for axis, letter in enumerate(each):
            if letter not in leaving:
                trace.mix(place, axis, known[letter])
    trace.cost(tuple(extent for letter, extent in known.items() if letter != tensors[0][:1]), (), None)
    return tuple(known[letter] for letter in leaving)


@operation("Matmul")
def matmul(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(..., m, k) x (..., k, n): m, n and what is before pass, k is tied. MACs: all of them multiplied."""
    given = operands(op, inputs)
    (first, where), (second, _) = given
    if any(len(value) < 2 or (place is not None and len(value) == 2) for value, place in given):
        one, other = _side_by_side(given)
        return contract([one, other], one[:-2] + other[:-2] + one[-2:-1] + other[-1:] * (len(other) > 1), given, trace)
    summed = trace.meet(first[-1], second[-2])
    trace.mix(0, len(first) - 1 if where is None else len(second) - 2, summed)
    rank = max(len(first), len(second))
    heads = [(*(1,) * (rank - len(value)), *value[:-2]) for value in (first, second)]
    output = (*broadcast(heads, trace), first[-2], second[-1])
    trace.cost(output[1:], (summed,), None)
    return output


@operation("Dot")
def dot(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """The last axis of the first with the last but one of the second, if it has two; all others leave."""
    given = operands(op, inputs)
    if not all(value for value, _ in given):
        raise VerificationFailed("a product with a single number")
    one, other = _side_by_side(given)
    return contract([one, other], one[:-1] + other.replace(one[-1], ""), given, trace)


def _side_by_side(given: Operands) -> tuple[str, str]:
    """Letters for two factors: the last axis of the first is the last but one, or only, one of the second."""
    one, other = _letters(given[0][0], 0), _letters(given[1][0], len(given[0][0]))
    summed = max(len(other) - 2, 0)
    return one, other[:summed] + one[-1] + other[summed + 1 :]


def _letters(value: Value, start: int) -> str:
    return ascii_letters[start : start + len(value)]


@operation("Inner", "Tensordot")
def tensordot(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """Sums over pairs of `axes`: numbers of axes, or the last of the first with the first of the second."""
    given = operands(op, inputs)
    ranks = [len(value) for value, _ in given]
    axes = [[-1], [-1]] if op.class_name == "Inner" else op.config["axes"]
    if isinstance(axes, int):
        axes = [list(range(ranks[0] - axes, ranks[0])), list(range(axes))]
    pairs = [[part] if isinstance(part, int) else list(part) for part in axes]
    first, second = _letters(given[0][0], 0), list(_letters(given[1][0], ranks[0]))
    for one, other in zip(*pairs, strict=True):
        second[other] = first[one]
    other_side = "".join(second)
    leaving = [letter for letter in first + other_side if (letter in first) != (letter in other_side)]
    return contract([first, other_side], "".join(leaving), given, trace)


@operation("CDist")
def distances(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """(..., m, k), (..., n, k) -> (..., m, n): a sum over k on both sides, which are tied."""
    first, second = inputs
    summed = trace.meet(first[-1], second[-1])
    for place, value in enumerate(inputs):
        trace.mix(place, len(value) - 1, summed)
    output = (*broadcast([first[:-2], second[:-2]], trace), first[-2], second[-2])
    trace.cost(output[1:], (summed,), None)
    return output
