"""Where Keras adds a bias: one that has a single long axis is taken for one of channels, wherever that axis stands.

`ops.add` of the TensorFlow backend hands it to `tf.nn.bias_add`, along the last axis or else the one behind the batch,
whichever is as long. A layer must not be left with a width at which that is another axis than the bias' own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pruning.graph import Op
from pruning.rules.extents import Value, size
from pruning.rules.trace import Trace

_FIRST = "channels come first, and Keras adds a bias along the last axis where that is as long as there are channels"
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
