"""Where Keras adds a bias: what has a single long axis is taken for one of channels, wherever that axis stands.

`ops.add` of the TensorFlow backend hands it to `tf.nn.bias_add`, along the last axis or else the one behind the batch,
whichever is as long. A layer must not be left with a width at which that is another axis than the bias' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from pruning.graph import Op
from pruning.rules.extents import Extent, Value, size
from pruning.rules.trace import Trace

_FIRST = "channels come first, and Keras adds a bias along the last axis where that is as long as there are channels"
_SUM = "Keras adds what has a single long axis along another axis that is as long, a tensor for a batch of one sample"
_BIAS = "Keras adds a bias with a single long axis along another axis that is as long"
_SEVERAL = "with a single one Keras adds the bias along another axis where that is as long as the rest of the bias"


def of_channels(op: Op, output: Value, channels: int, trace: Trace) -> None:
    """The bias of a convolution, along the axis `channels` of `output`. An axis behind it that is free is let be."""
    if op.config["use_bias"] and size(output[-1]) is not None:
        _stay_apart(output, [channels], _FIRST, trace, what="channels")


def of_several(output: Value, axes: Sequence[int], what: str, trace: Trace) -> None:
    """A bias along some axes of `output`, such as heads and their dimension: `what` stands on the last one."""
    _stay_apart(output, axes, _BIAS, trace, last=what)


def of_sum(values: Iterable[Value], output: Value, trace: Trace) -> None:
    """Tensors and constants of one rank that are added: of one sample, each may be taken for a bias."""
    for value in values:
        long = [axis for axis in range(1, len(value)) if size(value[axis]) != 1]
        _stay_apart(output, long, _SUM, trace)


def _stay_apart(
    output: Value, axes: Sequence[int], why: str, trace: Trace, *, what: str = "units", last: str = "units"
) -> None:
    """What is added along these axes is not left with a single long one that Keras takes for another one.

    `what`: stands on an axis that is the only long one; `last`: on the last axis, where there are two.
    """
    long = [axis for axis in axes if size(output[axis]) != 1]
    if len(long) == 1:
        for axis in _others(long[0], output):
            _differ(output[long[0]], output[axis], what, why, trace)
    if len(long) == 2:
        for rest, axis in permutations(long):
            ids = output[axis]
            met = any(_may_meet(output[rest], output[other]) for other in _others(rest, output) if other != axis)
            if isinstance(ids, np.ndarray) and met:
                trace.avoid(ids, 1, last if axis == len(output) - 1 else "units", _SEVERAL)


def _others(axis: int, output: Value) -> list[int]:
    """Axes along which Keras may add what has this one: none where it is the last, which Keras looks at first."""
    last = len(output) - 1
    return [] if axis == last else [other for other in (1, last) if other != axis]


def _may_meet(first: Extent, second: Extent) -> bool:
    """Whether two axes are, or may come or be left, as long as each other."""
    short, long = _by_size(first, second)
    few, many = size(short), size(long)
    return 1 not in (few, many) and (few is None or few == many or isinstance(long, np.ndarray))


def _differ(first: Extent, second: Extent, what: str, why: str, trace: Trace) -> None:
    """Two axes do not become as long as each other. Where they came so, or one is free, they keep their units."""
    if not _may_meet(first, second):
        return
    short, long = _by_size(first, second)
    few = size(short)
    if few is None or few == size(long):
        trace.pin((short, long), "bias_axis", why)
    elif isinstance(long, np.ndarray):
        trace.pin(short, "bias_axis", why)
        trace.avoid(long, few, what, why)


def _by_size(first: Extent, second: Extent) -> tuple[Extent, Extent]:
    """The shorter one first; one that is free comes before all."""
    return (first, second) if (size(first) or 0) <= (size(second) or 0) else (second, first)
