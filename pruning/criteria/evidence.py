"""What a criterion has to see: weights, what enters each kernel, gradients of the loss. Plain arrays, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Mapping[str, Array]
Floats: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Inputs:
    """What enters a kernel, over all samples and places; masked steps are left out.

    `axes`: the axes of the kernel along which it lies; every array has their sizes, float64. `zeros`: the share that is
    exactly zero. `covariance`: mean of x x^T over the flattened axes, (n, n), None where it was not asked for or n is
    too large. `rank`, `nuclear`: mean over samples of the rank and of the nuclear norm of the map at each index.
    """

    axes: tuple[int, ...]
    mean: Floats
    variance: Floats
    absolute: Floats
    zeros: Floats
    covariance: Floats | None = None
    rank: Floats | None = None
    nuclear: Floats | None = None

    @property
    def square(self) -> Floats:
        """Mean square."""
        return np.asarray(self.variance + self.mean**2)

    def along(self, axis: int, values: Floats) -> Floats:
        """The mean of `values` at each index of one of the kernel's axes."""
        others = tuple(place for place, each in enumerate(self.axes) if each != axis)
        return np.asarray(values.mean(axis=others))

    def over(self, kernel: Array, values: Floats) -> Floats:
        """`values` in a shape that multiplies with the kernel."""
        shape = [size if axis in self.axes else 1 for axis, size in enumerate(kernel.shape)]
        return values.reshape(shape)


@dataclass(frozen=True)
class Gradients:
    """Gradients of the mean loss by one array. `mean`: over all samples.

    `square`: the mean over batches of the squared gradient times the batch's size, which estimates the diagonal of the
    Fisher information. `products[axis]`: for each batch the sums of gradient * weight over the slice at each index of
    that axis, (batches, size).
    """

    mean: Floats
    square: Floats
    products: Mapping[int, Floats]


@dataclass(frozen=True)
class Evidence:
    """`weights`: all arrays by path. `inputs`, `gradients`: by the path of the kernel or array they are about.

    `blocks`: one number for each block, by its id.
    """

    weights: Arrays
    inputs: Mapping[str, Inputs] = field(default_factory=dict)
    gradients: Mapping[str, Gradients] = field(default_factory=dict)
    blocks: Mapping[str, float] = field(default_factory=dict)
