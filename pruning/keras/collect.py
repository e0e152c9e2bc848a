"""Evidence from a live model and training samples: what enters each kernel, and gradients of the loss.

The model runs in inference mode and in single precision, whatever it computes in, batch by batch: memory holds one
batch, and sums of the sizes of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning.case import Case
from pruning.contract.criteria import Criterion, FromSamples, Need
from pruning.contract.errors import DatasetMismatch
from pruning.contract.progress import Report
from pruning.criteria.evidence import Evidence, Gradients, Inputs
from pruning.keras import live, private
from pruning.keras.data import Samples
from pruning.keras.evaluate import computing, outputs_of, total_loss
from pruning.keras.objective import Objective
from pruning.keras.readers import Reading, readings
from pruning.units import Units

Array: TypeAlias = NDArray[Any]
Tensor: TypeAlias = Any
# A wider second moment than this is not kept: 64 MiB in single precision.
WIDEST = 4096


def evidence(
    case: Case,
    criterion: Criterion,
    train: Samples | None = None,
    objective: Objective | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> Evidence:
    """What `criterion` needs to see of a model, from up to `samples` training samples drawn by the seed.

    Raises `DatasetMismatch` where samples or labels are missing, or where loss and activations are not finite.
    """
    needed = criterion.needs
    weights = case.archive.arrays
    if needed == {"weights"}:
        return Evidence(weights)
    assert isinstance(criterion, FromSamples)
    if train is None or ("gradients" in needed and (objective is None or not train.labels)):
        what = "training samples and their labels" if "gradients" in needed else "training samples"
        raise DatasetMismatch(f"criterion {criterion.name} needs {what}")
    model = live.build(live.computing_in(case.archive.config, "float32"), weights)
    batches = _Batches(train, criterion.samples, criterion.batch_size, seed, report)
    if "gradients" in needed:
        assert objective is not None
        return Evidence(weights, gradients=_gradients(model, case.units, batches, objective))
    return Evidence(weights, inputs=_inputs(model, case.units, batches, needed))


@dataclass(frozen=True)
class _Batches:
    """Samples in random order, so that sorted classes do not make batches of one class."""

    train: Samples
    samples: int
    size: int
    seed: int
    report: Report | None

    def __iter__(self) -> Iterator[tuple[list[Array], list[Array]]]:
        count = min(self.samples, len(self.train))
        rows = np.random.default_rng(self.seed).permutation(len(self.train))[:count]
        for start in range(0, count, self.size):
            batch = np.sort(rows[start : start + self.size])
            yield self.train.batch(batch)
            if self.report is not None:
                self.report(start + len(batch), count, "samples", {})


def _weights(model: keras.Model, units: Units) -> dict[str, Any]:
    """The live variables that are floating weights of the model, by path, each once."""
    return {
        path: variable
        for path, variable in private.variables(model).items()
        if path in units.sizes and np.issubdtype(units.dtypes[path], np.floating)
    }


def _finite(what: str, *arrays: Array) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise DatasetMismatch(f"{what} is not finite on the training samples: take a criterion of weights")


# --- activations -----------------------------------------------------------------------------------------------------


def _inputs(model: keras.Model, units: Units, batches: _Batches, needed: frozenset[Need]) -> dict[str, Inputs]:
    with computing(batches.train):
        kernels, step = _statistics(model, units, needed, batches.train)
    sums: dict[str, _Sum] = {}
    for inputs, _ in batches:
        with computing(batches.train):
            given = [tf.cast(array, tensor.dtype) for array, tensor in zip(inputs, model.inputs, strict=True)]
            read = step(given)
        for (path, axes, sizes), found in zip(kernels, read, strict=True):
            values = {name: value.numpy() for name, value in found.items()}
            if values["count"] > 0:
                sums.setdefault(path, _Sum(axes, sizes)).add(values)
    return {path: total.inputs() for path, total in sums.items()}


Kernel: TypeAlias = tuple[str, tuple[int, ...], tuple[int, ...]]


def _statistics(
    model: keras.Model, units: Units, needed: frozenset[Need], like: Samples
) -> tuple[list[Kernel], Callable[[list[Tensor]], list[dict[str, Tensor]]]]:
    """(path, axes, sizes) of each kernel that is read, call by call, and a function of inputs to their statistics."""
    paths = {id(variable): path for path, variable in _weights(model, units).items()}
    kernels: list[Kernel] = []

    def forward(inputs: list[Tensor]) -> list[dict[str, Tensor]]:
        kernels.clear()
        with readings(model) as found:
            live.direct(model, inputs)
        known = [(reading, mask) for reading, mask in found if id(reading.kernel) in paths]
        kernels.extend((paths[id(reading.kernel)], reading.axes, reading.sizes) for reading, _ in known)
        return [_of(reading, mask, needed) for reading, mask in known]

    function = tf.function(forward, autograph=False, jit_compile=live.needs_xla(model) or None)
    return kernels, function.get_concrete_function(live.taken(model, like.inputs))


def _of(reading: Reading, mask: Tensor, needed: frozenset[Need]) -> dict[str, Tensor]:
    """Statistics of one reading on one batch; each of shape (inputs,)."""
    size = prod(reading.sizes)
    values = tf.cast(reading.values, tf.float32)
    found = _maps(values, reading.groups) if "feature_maps" in needed else {}
    if mask is not None and len(mask.shape) < len(values.shape):
        values = tf.boolean_mask(values, mask)
    rows = tf.reshape(values, (-1, size))
    mean = tf.reduce_mean(rows, axis=0)
    found |= {
        "count": tf.shape(rows)[0],
        "mean": mean,
        "variance": tf.reduce_mean(tf.math.squared_difference(rows, mean), axis=0),
        "absolute": tf.reduce_mean(tf.abs(rows), axis=0),
        "zeros": tf.reduce_mean(tf.cast(tf.equal(rows, 0.0), tf.float32), axis=0),
    }
    if "covariance" in needed and size <= WIDEST:
        found["covariance"] = tf.matmul(rows, rows, transpose_a=True) / tf.cast(tf.shape(rows)[0], tf.float32)
    return found


def _maps(values: Tensor, groups: int) -> dict[str, Tensor]:
    """Mean rank and nuclear norm of each input's map; all places but the last make its rows."""
    channels = values.shape[-1]
    moved = tf.transpose(values, [0, len(values.shape) - 1, *range(1, len(values.shape) - 1)])
    last = tf.shape(values)[-2] if len(values.shape) > 2 else 1
    maps = tf.cast(tf.reshape(moved, (tf.shape(values)[0], channels, -1, last)), tf.float64)
    gram = tf.matmul(maps, maps, transpose_a=True)
    singular = tf.sqrt(tf.maximum(tf.linalg.eigvalsh(gram), 0.0))
    largest = tf.reduce_max(singular, axis=-1, keepdims=True)
    least = largest * tf.cast(tf.maximum(tf.shape(maps)[-2], last), tf.float64) * np.finfo(np.float32).eps
    ranks = tf.reduce_sum(tf.cast((singular > least) & (singular > 0.0), tf.float64), axis=-1)
    return {
        name: tf.reduce_mean(tf.reshape(tf.reduce_mean(found, axis=0), (groups, -1)), axis=0)
        for name, found in (("rank", ranks), ("nuclear", tf.reduce_sum(singular, axis=-1)))
    }


class _Sum:
    """Statistics over batches and calls: means weighted by counts, variances joined without cancellation.

    Chan et al. 1983: the variance of two parts is the mean of theirs plus that of their means.
    """

    def __init__(self, axes: tuple[int, ...], sizes: tuple[int, ...]) -> None:
        self.axes, self.sizes = axes, sizes
        self.count = 0
        self.values: dict[str, Array] = {}

    def add(self, found: Mapping[str, Array]) -> None:
        """One batch of one call. Raises `DatasetMismatch` where it is not finite."""
        _finite("an activation", *found.values())
        share = int(found["count"]) / (self.count + int(found["count"]))
        parts = {
            name: value if name == "covariance" else value.astype(np.float64)
            for name, value in found.items()
            if name != "count"
        }
        if self.count:
            shift = parts["mean"] - self.values["mean"]
            parts = {name: (1 - share) * self.values[name] + share * value for name, value in parts.items()}
            parts["variance"] = parts["variance"] + share * (1 - share) * shift**2
        self.values, self.count = parts, self.count + int(found["count"])

    def inputs(self) -> Inputs:
        """The whole as evidence."""
        covariance = self.values.pop("covariance", None)
        return Inputs(
            axes=self.axes,
            covariance=covariance,
            **{name: value.reshape(self.sizes) for name, value in self.values.items()},
        )


# --- gradients -------------------------------------------------------------------------------------------------------


def _gradients(model: keras.Model, units: Units, batches: _Batches, objective: Objective) -> dict[str, Gradients]:
    axes: dict[str, set[int]] = {path: set() for path, shape in units.sizes.items() if len(shape) > 1}
    for axis in units.axes:
        if axis.role != "follower":
            axes.setdefault(axis.weight, set()).add(axis.axis)
    variables = {path: variable for path, variable in _weights(model, units).items() if path in axes}
    slopes = {path: _Slopes(np.asarray(variable, np.float32), axes[path]) for path, variable in variables.items()}
    step = _gradient_step(model, objective, list(variables.values()), batches.train)
    for inputs, labels in batches:
        with computing(batches.train):
            found = step(inputs, labels)
        for each, gradient in zip(slopes.values(), found, strict=True):
            each.add(gradient.numpy(), len(inputs[0]))
    return {path: each.gradients() for path, each in slopes.items()}


class _Slopes:
    """Gradients by one array, added up over batches."""

    def __init__(self, weight: Array, axes: Iterable[int]) -> None:
        self.weight = weight
        self.count = self.batches = 0
        self.mean, self.square = np.zeros_like(weight), np.zeros_like(weight)
        self.products: dict[int, list[Array]] = {axis: [] for axis in axes}

    def add(self, gradient: Array, size: int) -> None:
        """That of the mean loss of a batch of `size` samples. Raises `DatasetMismatch` where it is not finite."""
        _finite("the gradient of the loss", gradient)
        self.count, self.batches = self.count + size, self.batches + 1
        self.mean += size * gradient
        self.square += size * np.square(gradient)
        for axis, rows in self.products.items():
            rows.append(_product(gradient, self.weight, axis))

    def gradients(self) -> Gradients:
        """The whole as evidence."""
        products = {axis: np.array(rows) for axis, rows in self.products.items()}
        return Gradients(self.mean / self.count, self.square / self.batches, products)


def _product(gradient: Array, weight: Array, axis: int) -> Array:
    """Sum of gradient * weight over the slice at each index of an axis, float64."""
    first, second = (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for array in (gradient, weight))
    return np.asarray(np.einsum("ij,ij->i", first, second, dtype=np.float64))


def _gradient_step(
    model: keras.Model, objective: Objective, variables: Sequence[Any], like: Samples
) -> Callable[[list[Array], list[Array]], list[Tensor]]:
    """A batch in, gradients of its mean loss by each variable out; regularisation is not part of the loss."""

    @tf.function(autograph=False, input_signature=live.signature(*like.batch(slice(0, 1))))  # type: ignore[untyped-decorator]
    def step(inputs: list[Tensor], labels: list[Tensor]) -> list[Tensor]:
        inputs = [tf.cast(array, tensor.dtype) for array, tensor in zip(inputs, model.inputs, strict=True)]
        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss = tf.reduce_mean(total_loss(objective, labels, outputs_of(model, inputs)))
        found = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return [tf.convert_to_tensor(gradient) for gradient in found]

    return step  # type: ignore[no-any-return]
