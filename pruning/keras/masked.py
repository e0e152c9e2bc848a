"""The masked original where units are mixed without weights: there the operation itself leaves the removed units out.

`surgery.mask` sets the weights to zero that read a removed unit. A product of two tensors, a sum and a normalisation
have none: a product or a sum is fed zeros, a normalisation or a mean takes its statistics over the kept units alone.
Normalisations are written from their definitions, on tensors of full width. All this shares nothing with the slicing
that it is to prove.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from pruning.keras import private
from pruning.units import Units

Call: TypeAlias = Callable[..., Any]
# By number of the tensor and axis which places stay.
Kept: TypeAlias = Mapping[tuple[int, int], NDArray[np.bool_]]


@contextmanager
def without(model: keras.Model, units: Units, removed: ArrayLike) -> Iterator[None]:
    """Inside, operations of the model that mix some of the `removed` unit ids compute without them."""
    gone = units.gone(removed)
    kept: dict[str, dict[tuple[int, int], NDArray[np.bool_]]] = {}
    for mix in units.mixes:
        if gone[mix.ids].any():
            kept.setdefault(mix.layer, {})[mix.input, mix.axis] = ~gone[mix.ids]
    bent = [(_operation(model, name), places) for name, places in kept.items()]
    for operation, places in bent:
        make = _STATISTICS.get(type(operation).__name__, _fed_zeros)
        operation.call = make(operation, places)
    try:
        yield
    finally:
        for operation, _ in bent:
            del operation.call


def _operation(model: Any, name: str) -> Any:
    """A layer or operation by its name, `outer/inner` where models are nested."""
    found = model
    for part in name.split("/"):
        inside = found.layers if isinstance(found, keras.Sequential) else found.operations
        found = next(operation for operation in inside if operation.name == part)
        while isinstance(found, keras.layers.TimeDistributed):
            found = found.layer
    return found


def _spread(places: NDArray[np.bool_], axis: int, rank: int, dtype: str) -> Any:
    """1 where a place stays, 0 where it goes, in a shape that multiplies along `axis`."""
    return ops.convert_to_tensor(places.reshape([-1 if at == axis else 1 for at in range(rank)]), dtype)


def _fed_zeros(operation: Any, kept: Kept) -> Call:
    """The operation on tensors that are zero where a unit is gone."""

    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = keras.tree.flatten(args)
        constants = private.constants(operation, len(leaves))
        tensors = [place for place, leaf in enumerate(leaves) if ops.is_tensor(leaf) and place not in constants]
        for (number, axis), places in kept.items():
            tensor = leaves[tensors[number]]
            mask = _spread(places, axis, len(tensor.shape), "bool")
            leaves[tensors[number]] = ops.where(mask, tensor, ops.zeros_like(tensor))
        return type(operation).call(operation, *keras.tree.pack_sequence_as(args, leaves), **kwargs)

    return call


def _over_kept(layer: Any, kept: Kept, x: Any) -> tuple[Call, Call]:
    """The mean over the kept places of the layer's axes, and a vector of the layer in a shape that multiplies x."""
    rank = len(x.shape)
    axes = [axis % rank for axis in (layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis])]
    mask: Any = 1.0
    for (_, axis), places in kept.items():
        mask = mask * _spread(places, axis, rank, x.dtype)
    count = prod(int(kept[0, axis].sum()) if (0, axis) in kept else int(x.shape[axis]) for axis in axes)

    def mean(values: Any) -> Any:
        return ops.sum(values * mask, axis=axes, keepdims=True) / count

    def wide(vector: Any) -> Any:
        return ops.reshape(ops.cast(vector, x.dtype), [x.shape[at] if at in axes else 1 for at in range(rank)])

    return mean, wide


def _wide_enough(x: Any) -> Any:
    return ops.cast(x, "float64" if keras.backend.standardize_dtype(x.dtype) == "float64" else "float32")


def _layer_normalization(layer: Any, kept: Kept) -> Call:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the kept units (Ba et al. 2016, arXiv:1607.06450)."""

    def call(inputs: Any) -> Any:
        x = _wide_enough(inputs)
        mean, wide = _over_kept(layer, kept, x)
        x = _standard(x, mean, layer.epsilon)
        x = x if layer.gamma is None else x * wide(layer.gamma)
        return ops.cast(x if layer.beta is None else x + wide(layer.beta), layer.compute_dtype)

    return call


def _standard(x: Any, mean: Call, epsilon: float) -> Any:
    centred = x - mean(x)
    return centred / ops.sqrt(mean(centred * centred) + epsilon)


def _layer_norm(operation: Any, kept: Kept) -> Call:
    """The same of `keras.ops`, whose scale and offset come with the call."""

    def call(inputs: Any, gamma: Any = None, beta: Any = None) -> Any:
        x = _wide_enough(inputs)
        x = _standard(x, _over_kept(operation, kept, x)[0], operation.epsilon or keras.config.epsilon())
        return ops.cast(_scaled(x, gamma, beta), inputs.dtype)

    return call


def _rms_norm(operation: Any, kept: Kept) -> Call:
    """As the layer below, with the scale in the call."""

    def call(inputs: Any, scale: Any = None) -> Any:
        x = _wide_enough(inputs)
        mean, _ = _over_kept(operation, kept, x)
        x = x / ops.sqrt(mean(x * x) + (operation.epsilon or keras.config.epsilon()))
        return ops.cast(_scaled(x, scale, None), inputs.dtype)

    return call


def _scaled(x: Any, scale: Any, offset: Any) -> Any:
    x = x if scale is None else x * ops.cast(scale, x.dtype)
    return x if offset is None else x + ops.cast(offset, x.dtype)


def _rms_normalization(layer: Any, kept: Kept) -> Call:
    """x / sqrt(mean(x^2) + epsilon) * scale over the kept units (Zhang and Sennrich 2019, arXiv:1910.07467)."""

    def call(inputs: Any) -> Any:
        x = _wide_enough(inputs)
        mean, wide = _over_kept(layer, kept, x)
        return ops.cast(x / ops.sqrt(mean(x * x) + layer.epsilon) * wide(layer.scale), layer.compute_dtype)

    return call


def _group_normalization(layer: Any, kept: Kept) -> Call:
    """Layer normalisation in every group of channels, over all its positions (Wu and He 2018, arXiv:1803.08494)."""
    ((_, channels), places) = next(iter(kept.items()))

    def call(inputs: Any) -> Any:
        x = ops.moveaxis(_wide_enough(inputs), channels, -1)
        shape = (x.shape[0], -1, layer.groups, x.shape[-1] // layer.groups)
        mask = ops.cast(places.reshape(shape[2:]), x.dtype)
        count = ops.sum(mask, axis=-1)[:, None] * prod(x.shape[1:-1])
        grouped = ops.reshape(x, shape)
        centred = grouped - ops.sum(grouped * mask, axis=(1, 3), keepdims=True) / count
        variance = ops.sum(centred * centred * mask, axis=(1, 3), keepdims=True) / count
        x = ops.reshape(centred / ops.sqrt(variance + layer.epsilon), x.shape)
        x = x if layer.gamma is None else x * ops.cast(layer.gamma, x.dtype)
        x = x if layer.beta is None else x + ops.cast(layer.beta, x.dtype)
        return ops.cast(ops.moveaxis(x, -1, channels), layer.compute_dtype)

    return call


def _reduction(operation: Any, kept: Kept) -> Call:
    """The operation on the kept places alone: a mean divides by their number, a maximum is theirs."""

    def call(x: Any, *others: Any, **kwargs: Any) -> Any:
        return type(operation).call(operation, _left(x, kept), *others, **kwargs)

    return call


def _left(x: Any, kept: Kept) -> Any:
    for (_, axis), places in kept.items():
        x = ops.take(x, np.flatnonzero(places), axis)
    return x


def _among(operation: Any, kept: Kept) -> Call:
    """The operation on the kept places alone, its results where they stood, zeros between them."""

    def call(x: Any, *others: Any, **kwargs: Any) -> Any:
        x = type(operation).call(operation, _left(x, kept), *others, **kwargs)
        for (_, axis), places in kept.items():
            beside = ops.concatenate([x, ops.zeros_like(ops.take(x, [0], axis))], axis)
            x = ops.take(beside, np.where(places, np.cumsum(places) - 1, int(places.sum())), axis)
        return x

    return call


_REDUCTIONS = (
    "All", "Amax", "Amin", "Any", "Average", "Logsumexp", "Max", "Mean", "Median", "Min", "Moments", "Nanmax",
    "Nanmean", "Nanmedian", "Nanmin", "Nanpercentile", "Nanprod", "Nanquantile", "Nanstd", "Nanvar", "Percentile",
    "Prod", "Ptp", "Quantile", "Std", "Var",
)  # fmt: skip
_RUNNING = ("Activation", "Cumprod", "LogSoftmax", "Nancumprod", "Softmax", "Sparsemax")
_STATISTICS: dict[str, Callable[[Any, Kept], Call]] = {
    "LayerNormalization": _layer_normalization,
    "RMSNormalization": _rms_normalization,
    "GroupNormalization": _group_normalization,
    "LayerNorm": _layer_norm,
    "RMSNorm": _rms_norm,
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(_RUNNING, _among),
}
