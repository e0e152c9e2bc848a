"""Where units are read: for each live layer with a kernel the tensors that enter it, and along which of its axes.

One function per family: what a layer was called with and what it returned in, `Reading`s out. A layer that stands in no
table, or that runs inside a loop of the graph, is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from pruning.keras import private
from pruning.rules.einsum import letters

Layer: TypeAlias = Any
Tensor: TypeAlias = Any


@dataclass(frozen=True)
class Reading:
    """`values` (samples, places ..., inputs) enter `kernel`; the inputs are its `axes`, flattened, `groups` times."""

    kernel: Any
    axes: tuple[int, ...]
    values: Tensor
    groups: int = 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of these axes."""
        return tuple(self.kernel.shape[axis] for axis in self.axes)


Reader: TypeAlias = Callable[[Layer, Tensor, Any], Iterator[Reading]]


def _dense(layer: Layer, inputs: Tensor, _outputs: Any) -> Iterator[Reading]:
    yield Reading(layer.kernel, (0,), inputs)


def _convolution(layer: Layer, inputs: Tensor, _outputs: Any) -> Iterator[Reading]:
    yield Reading(layer.kernel, (len(layer.kernel.shape) - 2,), _channels_last(layer, inputs), layer.groups)


def _depthwise(layer: Layer, inputs: Tensor, _outputs: Any) -> Iterator[Reading]:
    yield Reading(layer.kernel, (len(layer.kernel.shape) - 2,), _channels_last(layer, inputs))


def _transposed(layer: Layer, inputs: Tensor, _outputs: Any) -> Iterator[Reading]:
    yield Reading(layer.kernel, (len(layer.kernel.shape) - 1,), _channels_last(layer, inputs))


def _separable(layer: Layer, inputs: Tensor, _outputs: Any) -> Iterator[Reading]:
    rank = len(layer.depthwise_kernel.shape)
    yield Reading(layer.depthwise_kernel, (rank - 2,), _channels_last(layer, inputs))
    between = keras.ops.depthwise_conv(
        inputs,
        layer.depthwise_kernel,
        strides=layer.strides,
        padding=layer.padding,
        data_format=layer.data_format,
        dilation_rate=layer.dilation_rate,
    )
    yield Reading(layer.pointwise_kernel, (rank - 2,), _channels_last(layer, between))


def _einsum(layer: Layer, inputs: Tensor, _outputs: Any) -> Iterator[Reading]:
    entering, kernel, _ = letters(layer.equation, len(inputs.shape))
    axes = tuple(axis for axis, letter in enumerate(kernel) if letter in entering)
    last = [entering.index(kernel[axis]) for axis in axes]
    order = [axis for axis in range(len(entering)) if axis not in last] + last
    values = tf.transpose(inputs, order)
    shape = tf.shape(values)[: len(order) - len(last)]
    size = prod(layer.kernel.shape[axis] for axis in axes)
    yield Reading(layer.kernel, axes, tf.reshape(values, tf.concat([shape, [size]], 0)))


def _recurrent(layer: Layer, inputs: Tensor, outputs: Any) -> Iterator[Reading]:
    yield Reading(layer.cell.kernel, (0,), inputs)
    if layer.return_sequences:
        sequence = outputs[0] if layer.return_state else outputs
        yield Reading(layer.cell.recurrent_kernel, (0,), sequence)


def _recurrent_convolution(layer: Layer, inputs: Tensor, _outputs: Any) -> Iterator[Reading]:
    yield Reading(layer.cell.kernel, (len(layer.cell.kernel.shape) - 2,), _channels_last(layer, inputs, 2))


def _channels_last(layer: Layer, values: Tensor, channels: int = 1) -> Tensor:
    if layer.data_format == "channels_last":
        return values
    order = [axis for axis in range(len(values.shape)) if axis != channels]
    return tf.transpose(values, [*order, channels])


_L = keras.layers
READERS: Mapping[tuple[type, ...], Reader] = {
    (_L.Dense,): _dense,
    (_L.EinsumDense,): _einsum,
    (_L.DepthwiseConv1D, _L.DepthwiseConv2D): _depthwise,
    (_L.SeparableConv1D, _L.SeparableConv2D): _separable,
    (_L.Conv1DTranspose, _L.Conv2DTranspose, _L.Conv3DTranspose): _transposed,
    (_L.Conv1D, _L.Conv2D, _L.Conv3D): _convolution,
    (_L.SimpleRNN, _L.GRU, _L.LSTM): _recurrent,
    (_L.ConvLSTM1D, _L.ConvLSTM2D, _L.ConvLSTM3D): _recurrent_convolution,
}


@contextmanager
def readings(model: keras.Model) -> Iterator[list[tuple[Reading, Tensor]]]:
    """While this holds every call of a layer that is read adds (reading, mask or None) to the list."""
    found: list[tuple[Reading, Tensor]] = []
    with ExitStack() as undo:
        for layer in private.layers(model):
            reader = next((reader for classes, reader in READERS.items() if isinstance(layer, classes)), None)
            recorded = _recorded(layer, reader, found) if reader else _forgotten(layer, found)
            if recorded is not None:
                # On the instance, where a call finds it before that of its class.
                vars(layer)["call"] = recorded
                undo.callback(vars(layer).pop, "call")
        yield found


def _recorded(layer: Layer, reader: Reader, found: list[tuple[Reading, Tensor]]) -> Callable[..., Any]:
    call, graph = layer.call, tf.compat.v1.get_default_graph()

    def recorded(inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        outputs = call(inputs, *args, **kwargs)
        if tf.compat.v1.get_default_graph() is graph:
            mask = private.mask_of(inputs)
            found.extend((reading, mask) for reading in reader(layer, inputs, outputs))
        return outputs

    return recorded


def _forgotten(layer: Layer, found: list[tuple[Reading, Tensor]]) -> Callable[..., Any] | None:
    """Over steps whose number is not known TimeDistributed runs a loop: what is read in it would be the first step."""
    if not isinstance(layer, _L.TimeDistributed):
        return None
    call = layer.call

    def forgotten(inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        before = len(found)
        outputs = call(inputs, *args, **kwargs)
        if inputs.shape[1] is None:
            del found[before:]
        return outputs

    return forgotten
