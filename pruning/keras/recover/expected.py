"""What the weights alone tell of a network's tensors: the expected value of each channel, and how far it spreads.

A value is a pair of arrays that broadcast to a sample's shape: mean and standard deviation. A deviation of 0 is a
constant, NaN is not known. Behind a BatchNormalization a channel is normal with mean beta and deviation |gamma|: that
is what its statistics say of the data it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from pruning import products
from pruning.case import Case
from pruning.chains import Arrays, factor, is_norm, statistics
from pruning.graph import Op
from pruning.keras.calls import live_layers
from pruning.rules.activation import ELEMENTWISE
from pruning.rules.extents import shape_of

Floats: TypeAlias = NDArray[np.float64]
Known: TypeAlias = tuple[Floats, Floats]
# Points and weights of the standard normal density; a fine grid takes a kink, as ReLU's, better than few nodes.
_POINTS = np.linspace(-8.0, 8.0, 2049)
_WEIGHTS = np.exp(-(_POINTS**2) / 2)
_WEIGHTS /= _WEIGHTS.sum()


def expectations(case: Case, model: keras.Model) -> dict[int, Known]:
    """The mean and deviation of each tensor of the original that anything is known of."""
    tensors, arrays = case.units.tensors, case.archive.arrays
    layers = live_layers(model, case.archive.config)
    found: dict[int, Known] = {}
    for op in case.graph.ops:
        inputs = [found.get(tensor, unknown(len(tensors[tensor]))) for tensor in op.inputs]
        sizes = [shape_of(tensors[tensor])[1:] for tensor in op.inputs]
        made = _call(op, inputs, sizes, arrays, layers.get(op.location))
        if made is not None and len(op.outputs) == 1:
            found[op.outputs[0]] = made
    return found


def unknown(rank: int) -> Known:
    """A tensor, of this rank with its batch axis, of which nothing is known."""
    nothing = np.full((1,) * (rank - 1), np.nan)
    return nothing, nothing


def through(function: Callable[[Any], Any], known: Known) -> Known:
    """Mean and deviation of an element-wise function of a normal variable; `function` takes a batch of arrays."""
    mean, deviation = known
    points = mean + deviation * _POINTS.reshape(-1, *(1,) * mean.ndim)
    values = np.asarray(function(np.nan_to_num(points).astype(np.float32)), np.float64)
    weights = _WEIGHTS.reshape(-1, *(1,) * mean.ndim)
    first = (weights * values).sum(0)
    spread = np.sqrt(np.maximum((weights * (values - first) ** 2).sum(0), 0.0))
    constant = np.broadcast_to(deviation == 0, first.shape)
    lost = np.broadcast_to(np.isnan(mean) | np.isnan(deviation), first.shape)
    middle = values[len(values) // 2]
    return _lost(np.where(constant, middle, first), lost), _lost(np.where(constant, 0.0, spread), lost)


def _call(op: Op, inputs: list[Known], sizes: list[tuple[int | None, ...]], arrays: Arrays, layer: Any) -> Known | None:
    if op.module != "keras.layers":
        return None
    if is_norm(op):
        return _norm(op, inputs[0], arrays)
    if op.class_name in _ACTIVATIONS or (op.class_name == "Activation" and op.config["activation"] in ELEMENTWISE):
        return through(layer, inputs[0])
    if op.class_name in _RULES:
        return _RULES[op.class_name](op, inputs, sizes)
    return _product(op, inputs[0], arrays) if len(inputs) == 1 else None


def _norm(op: Op, known: Known, arrays: Arrays) -> Known:
    mean, deviation = known
    shape = [1] * mean.ndim
    shape[op.config["axis"] - (op.config["axis"] > 0)] = -1

    def vector(path: str) -> Floats:
        return arrays[path].astype(np.float64).reshape(shape)

    scale = factor(op, arrays).reshape(shape)
    center = vector(f"{op.path}/vars/{int(op.config['scale'])}") if op.config["center"] else np.float64(0)
    gamma = vector(f"{op.path}/vars/0") if op.config["scale"] else np.ones_like(scale)
    constant = deviation == 0
    fixed = np.where(constant, (mean - vector(statistics(op)[0])) * scale, 0.0) + center
    return fixed, np.where(constant, 0.0, np.abs(gamma))


def _product(op: Op, known: Known, arrays: Arrays) -> Known | None:
    """A product with weights: means pass linearly; it is constant where nothing that varies has a weight."""
    rank = known[0].ndim + 1
    (product, *more) = products.of(op, rank) or (None,)
    if product is None or more or product.channels is None:
        return None
    channels = product.channels % rank - 1
    if any(size != 1 for axis, size in enumerate(known[0].shape) if axis != channels):
        return None
    weights = product.matrix(arrays[product.kernel]).astype(np.float64)
    mean, deviation = (product.spread(part.reshape(-1), arrays) for part in known)
    terms = np.where(weights == 0, 0.0, mean[..., None] * weights)
    # Beyond a border that is padded with zeros there is no constant but zero.
    padded = product.window is not None and product.window.padding != "valid"
    fixed = (deviation == 0) & ((mean == 0) | (not padded)) & (product.window is None or not product.window.transposed)
    varies = (weights != 0) & ~fixed[..., None]
    shape = [1] * known[0].ndim
    shape[channels] = -1
    bias = arrays[product.bias].astype(np.float64).reshape(-1) if product.bias is not None else np.float64(0)
    total = terms.sum(1).reshape(-1) + bias
    made = total.reshape(shape), np.where(varies.any(1).reshape(-1), np.nan, 0.0).reshape(shape)
    activation = op.config.get("activation")
    if activation in (None, "linear"):
        return made
    return through(keras.activations.get(activation), made) if activation in ELEMENTWISE else None


def _lost(values: Floats, where: NDArray[np.bool_]) -> Floats:
    return np.where(where, np.nan, values)


# --- by layer class ----------------------------------------------------------------------------------------------

Sizes: TypeAlias = list[tuple[int | None, ...]]


def _pass(op: Op, inputs: list[Known], sizes: Sizes) -> Known:  # noqa: ARG001
    return inputs[0]


def _constants(op: Op, inputs: list[Known], sizes: Sizes) -> Known:  # noqa: ARG001
    """What keeps a constant and nothing else, such as a maximum."""
    mean, deviation = inputs[0]
    return _lost(mean, deviation != 0), _lost(deviation, deviation != 0)


def _mean(op: Op, inputs: list[Known], sizes: Sizes) -> Known:  # noqa: ARG001
    """What keeps the mean and narrows the spread, such as an average."""
    mean, deviation = inputs[0]
    return mean, _lost(deviation, deviation != 0)


def _over_space(rule: Callable[[Op, list[Known], Sizes], Known]) -> Callable[[Op, list[Known], Sizes], Known]:
    """The rule, then the spatial axes away."""

    def pooled(op: Op, inputs: list[Known], sizes: Sizes) -> Known:
        if op.config.get("keepdims"):
            return rule(op, inputs, sizes)
        first = op.config["data_format"] == "channels_first"
        made = rule(op, inputs, sizes)
        axes = tuple(range(1, made[0].ndim) if first else range(made[0].ndim - 1))
        # A spatial axis has size 1 here unless something told its places apart, and then nothing is known.
        return _squeezed(made[0], axes), _squeezed(made[1], axes)

    return pooled


def _squeezed(values: Floats, axes: tuple[int, ...]) -> Floats:
    same = values.max(axes) == values.min(axes)
    return np.where(same, values.max(axes), np.nan)


def _padded(op: Op, inputs: list[Known], sizes: Sizes) -> Known:  # noqa: ARG001
    mean, deviation = inputs[0]
    return mean, np.where((deviation == 0) & (mean == 0), 0.0, np.nan)


def _added(op: Op, inputs: list[Known], sizes: Sizes) -> Known:  # noqa: ARG001
    """Deviations add as if the terms knew nothing of each other."""
    if len({mean.ndim for mean, _ in inputs}) > 1:
        return unknown(max(mean.ndim for mean, _ in inputs) + 1)
    means, deviations = zip(*inputs, strict=True)
    total: Floats = sum(means[1:], means[0])
    return total, np.sqrt(sum((d**2 for d in deviations[1:]), deviations[0] ** 2))


def _joined(op: Op, inputs: list[Known], sizes: Sizes) -> Known:
    rank = inputs[0][0].ndim + 1
    axis = op.config["axis"] % rank - 1
    if any(size[axis] is None for size in sizes):
        return unknown(rank)
    # Along the other axes places may be told apart in one input and not in another.
    shape = np.broadcast_shapes(*(part.take([0], axis).shape for known in inputs for part in known))
    wide = [
        [np.broadcast_to(part, (*shape[:axis], size[axis] or 1, *shape[axis + 1 :])) for part in known]
        for known, size in zip(inputs, sizes, strict=True)
    ]
    means, deviations = zip(*wide, strict=True)
    return np.concatenate(means, axis), np.concatenate(deviations, axis)


def _flattened(op: Op, inputs: list[Known], sizes: Sizes) -> Known:
    if any(size is None for size in sizes[0]):
        return unknown(2)
    mean, deviation = (np.broadcast_to(part, [size or 1 for size in sizes[0]]) for part in inputs[0])
    if op.config.get("data_format") == "channels_first" and mean.ndim > 1:
        mean, deviation = np.moveaxis(mean, 0, -1), np.moveaxis(deviation, 0, -1)
    return mean.reshape(-1), deviation.reshape(-1)


_ACTIVATIONS = {"ELU", "LeakyReLU", "PReLU", "ReLU"}
_RULES: Mapping[str, Callable[[Op, list[Known], Sizes], Known]] = {
    "Add": _added,
    "Concatenate": _joined,
    "Flatten": _flattened,
    **dict.fromkeys(("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"), _pass),
    **dict.fromkeys(("Identity", "InputLayer"), _pass),
    **{f"SpatialDropout{n}D": _pass for n in (1, 2, 3)},
    **{f"{name}{n}D": _pass for name in ("Cropping", "UpSampling") for n in (1, 2, 3)},
    **{f"ZeroPadding{n}D": _padded for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": _mean for n in (1, 2, 3)},
    **{f"MaxPooling{n}D": _constants for n in (1, 2, 3)},
    **{f"GlobalAveragePooling{n}D": _over_space(_mean) for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": _over_space(_constants) for n in (1, 2, 3)},
}
