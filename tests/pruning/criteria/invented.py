"""Evidence for networks made by hand: drawn numbers that fit together, and the same for permuted units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pruning.criteria import Evidence, Gradients, Inputs
from pruning.units import Units
from tests.pruning.hand import Network

BATCHES = 3


def evidence(network: Network, seed: int = 0) -> Evidence:
    """Inputs of every kernel (their axis is 1) and gradients of every array."""
    rng = np.random.default_rng(seed)
    inputs = {path: of_inputs(rng.normal(size=(40, array.shape[1]))) for path, array in kernels(network)}
    gradients = {
        path: of_gradients(rng.normal(size=(BATCHES, *array.shape)), array) for path, array in network.arrays.items()
    }
    return Evidence(dict(network.arrays), inputs, gradients)


def kernels(network: Network) -> list[tuple[str, np.ndarray]]:
    return [(path, array) for path, array in network.arrays.items() if array.ndim == 3]


def of_inputs(samples: np.ndarray) -> Inputs:
    """What these samples (n, inputs) say; as maps they are single numbers."""
    samples = np.maximum(samples, 0)
    return Inputs(
        axes=(1,),
        mean=samples.mean(0),
        variance=samples.var(0),
        absolute=np.abs(samples).mean(0),
        zeros=(samples == 0).mean(0),
        covariance=samples.T @ samples / len(samples),
        rank=(samples != 0).mean(0),
        nuclear=np.abs(samples).mean(0),
    )


def of_gradients(batches: np.ndarray, weight: np.ndarray) -> Gradients:
    """What gradients (batches, *shape) of an array say."""
    changes = batches * weight
    return Gradients(
        mean=batches.mean(0),
        square=(batches**2).mean(0),
        products={
            axis: np.moveaxis(changes, axis + 1, 1).reshape(BATCHES, weight.shape[axis], -1).sum(-1)
            for axis in range(weight.ndim)
        },
    )


def permuted(found: Evidence, units: Units, ids: np.ndarray, order: np.ndarray) -> Evidence:
    """The evidence of the same network with the units `ids` in another order wherever they lie."""
    at = {(axis.weight, axis.axis) for axis in units.axes if np.array_equal(axis.ids, ids)}

    def turned(path: str, array: np.ndarray) -> np.ndarray:
        for axis in range(array.ndim):
            array = np.take(array, order, axis) if (path, axis) in at else array
        return array

    inputs = {}
    for path, each in found.inputs.items():
        if (path, 1) in at:
            vectors = ("mean", "variance", "absolute", "zeros", "rank", "nuclear")
            turned_vectors = {name: getattr(each, name)[order] for name in vectors}
            each = replace(each, **turned_vectors, covariance=each.covariance[np.ix_(order, order)])
        inputs[path] = each
    gradients = {
        path: Gradients(
            turned(path, each.mean),
            turned(path, each.square),
            {axis: rows[:, order] if (path, axis) in at else rows for axis, rows in each.products.items()},
        )
        for path, each in found.gradients.items()
    }
    return Evidence({path: turned(path, array) for path, array in found.weights.items()}, inputs, gradients)
