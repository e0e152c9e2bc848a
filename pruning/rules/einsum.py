"""Einstein sums by their equation: a letter is an axis that is summed over, started or passed on."""

from __future__ import annotations

from string import ascii_uppercase

from pruning.graph import Op
from pruning.rules import bias_add, layer, operation
from pruning.rules.activation import activate
from pruning.rules.arithmetic import operands
from pruning.rules.extents import Extent, Value, size
from pruning.rules.products import contract
from pruning.rules.trace import Trace


@layer("EinsumDense")
def einsum_dense(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`abc,cd->abd`: c is consumed, d starts units, a letter in all three follows. MACs: all letters multiplied."""
    (value,) = inputs
    entering, kernel_letters, leaving = letters(op.config["equation"], len(value))
    kernel = trace.weight(0)
    known: dict[str, Extent] = dict(zip(entering, value, strict=True))
    trace.expect(kernel, [size(known[letter]) if letter in known else None for letter in kernel_letters])
    listed = _listed(op, leaving)
    sizes = dict(zip(leaving[1:], listed, strict=True))
    trace.expect(kernel, [sizes.get(letter) for letter in kernel_letters])
    lost = tuple(known[letter] for letter in entering if letter not in kernel_letters + leaving)
    trace.pin(lost, "mixes_channels", "sums over an axis that has units and no weights")
    for axis, letter in enumerate(kernel_letters):
        if letter in entering:
            trace.bind(kernel, axis, known[letter], "follower" if letter in leaving else "consumer")
        else:
            known[letter] = trace.produce(kernel, axis)
    output = tuple(known[letter] for letter in leaving)
    if op.config.get("bias_axes"):
        bias = trace.weight(1)
        axes = [axis for axis, letter in enumerate(leaving) if letter in op.config["bias_axes"]]
        for axis in axes:
            # Keras gives it all axes from its first one on, of size 1 where they are not its own.
            trace.bind(bias, axis - len(leaving) + len(trace.shape(bias)), output[axis], "follower")
        bias_add.of_several(output, axes, "units of the last axis", trace)
    given = op.config["output_shape"]
    changing = tuple(old and known[letter] for letter, old in zip(leaving[1:], listed, strict=True))
    trace.resize("output_shape", changing[-len(given) :] if isinstance(given, list | tuple) else changing[-1])
    trace.width(output[-1])
    places = [known[letter] for letter in dict.fromkeys(entering + leaving) if letter not in kernel_letters]
    trace.cost(tuple(places[1:]), [known[letter] for letter in kernel_letters], kernel)
    return activate(op.config["activation"], output, trace)


@operation("Einsum")
def einsum(op: Op, inputs: list[Value], trace: Trace) -> Value:
    """`abc,abd->acd` on tensors: axes of one letter are tied, a letter that leaves none is summed over.

    MACs: all letters multiplied. Raises `VerificationFailed` for an equation that takes a diagonal.
    """
    given = operands(op, inputs)
    entering, arrow, leaving = op.config["subscripts"].replace(" ", "").partition("->")
    spare = [letter for letter in ascii_uppercase if letter not in entering + leaving]
    parts = entering.split(",")
    counted = [len(value) - len(each.replace("...", "")) for each, (value, _) in zip(parts, given, strict=True)]
    dots = "".join(spare[: max(counted)]) if "..." in entering else ""
    filled = [each.replace("...", dots[len(dots) - n :]) for each, n in zip(parts, counted, strict=True)]
    if not arrow:
        every = "".join(filled)
        leaving = "..." + "".join(sorted(c for c in every if every.count(c) == 1 and c not in dots))
    return contract(filled, leaving.replace("...", dots), given, trace)


def letters(equation: str, rank: int) -> tuple[str, str, str]:
    """The letters of input, kernel and output; an ellipsis becomes as many spare letters as the input has axes for."""
    entering, rest = equation.replace(" ", "").split(",")
    kernel, leaving = rest.split("->")
    spare = [chr(code) for code in range(ord("A"), ord("Z") + 1) if chr(code) not in equation]
    filled = "".join(spare[: rank - len(entering.replace("...", ""))])
    return entering.replace("...", filled), kernel.replace("...", filled), leaving.replace("...", filled)


def _listed(op: Op, leaving: str) -> list[int | None]:
    """`output_shape` with a number or None for each output axis but the batch; an ellipsis' axes may be left out."""
    given = op.config["output_shape"]
    listed = list(given) if isinstance(given, list | tuple) else [given]
    return [None] * (len(leaving) - 1 - len(listed)) + listed
