"""Where Keras adds a bias: one that has a single long axis is taken for one of channels, wherever that axis stands.

`ops.add` of the TensorFlow backend hands it to `tf.nn.bias_add`, along the last axis or else the one behind the batch,
whichever is as long. A layer must not be left with a width at which that is another axis than the bias' own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruning.graph import Op
from pruning.rules.extents import Extent, Value, size
from pruning.rules.trace import Trace

_FIRST = "channels come first, and Keras adds a bias along the last axis where that is as long as there are channels"
_SUM = "Keras adds a tensor with a single long axis along another axis that is as long, for a batch of one sample"
_SEVERAL = "with a single one Keras adds the bias along the first axis where that is as long as the bias"


def of_channels(op: Op, output: Value, channels: int, trace: Trace) -> None:
    """The bias of a convolution. With channels first a layer that came so keeps them, others are not left with so many.

    `channels`: their axis in `output`.
    """
    last, extent = size(output[-1]), output[channels]
    if not op.config["use_bias"] or channels == len(output) - 1 or last in (None, 1):
        return
    if size(extent) == last:
        trace.pin(extent, "bias_axis", "Keras adds the bias along the last axis, which is as long as the channels")
    elif isinstance(extent, np.ndarray):
        trace.avoid(extent, last or 0, "channels", _FIRST)


def of_several(output: Value, axes: Sequence[int], what: str, trace: Trace) -> None:
    """A bias along several axes of `output`, such as heads and their dimension: `what` stands on the last one."""
    ids = output[axes[-1]]
    long = [axis for axis in axes[:-1] if size(output[axis]) != 1]
    if len(long) != 1 or long[0] == 1 or axes[-1] != len(output) - 1:
        return
    # A free axis may come as long as that.
    if isinstance(ids, np.ndarray) and len(ids) > 1 and size(output[1]) in (None, size(output[long[0]])):
        trace.avoid(ids, 1, what, _SEVERAL)


def of_sum(values: Sequence[Value], output: Value, trace: Trace) -> None:
    """Tensors of one rank that are added: of one sample, one with a single long axis is taken for a bias.

    An axis that is free, or that came as long as the other, is left as it is: there the original is no better.
    """
    for value in values:
        long = [axis for axis in range(1, len(value)) if size(value[axis]) != 1]
        if len(long) == 1 and long[0] != len(value) - 1:
            for other in {1, len(value) - 1} - set(long):
                _keep_apart(value[long[0]], output[other], trace)


def _keep_apart(first: Extent, second: Extent, trace: Trace) -> None:
    """Two axes must not become as long as each other."""
    if None in (size(first), size(second)) or size(first) == size(second) or 1 in (size(first), size(second)):
        return
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        trace.pin(first, "bias_axis", _SUM)
    elif isinstance(first, np.ndarray):
        trace.avoid(first, size(second) or 0, "units", _SUM)
    elif isinstance(second, np.ndarray):
        trace.avoid(second, size(first) or 0, "units", _SUM)
