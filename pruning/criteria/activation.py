"""What the samples say: how much of a unit reaches the weights that read it.

Everything is measured where a kernel reads the unit, so after its normalisation, activation and pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pruning.contract.criteria import ActivationMean, APoZ, Comparable, HRank, Wanda
from pruning.criteria.comparable import joined, of_weights, read_by, slice_sums
from pruning.criteria.evidence import Evidence, Floats, Inputs

if TYPE_CHECKING:
    from pruning.units import Axis, Units


def activation_mean(criterion: ActivationMean, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Mean of |activation| over samples and places (Molchanov et al. 2017, arXiv:1611.06440, section 2.2)."""
    return _means(criterion, units, evidence, lambda inputs: inputs.absolute)


def apoz(criterion: APoZ, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """1 - APoZ, the share of activations that are not zero (Hu et al. 2016, arXiv:1607.03250, equation 1)."""
    return _means(criterion, units, evidence, lambda inputs: 1 - inputs.zeros)


def hrank(criterion: HRank, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Mean rank of a unit's feature map (Lin et al. 2020, arXiv:2002.10179, equation 5), or its mean nuclear norm.

    The nuclear norm, the sum of the singular values, is the nearest convex stand-in for the rank: it tells maps of full
    rank apart. A map without two spatial axes is a row: its rank says whether it is not zero, its norm how long it is.
    """
    return _means(
        criterion, units, evidence, lambda inputs: inputs.rank if criterion.measure == "rank" else inputs.nuclear
    )


def wanda(criterion: Wanda, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Sum of |weight| * norm of its input over the weights that read a unit (Sun et al. 2023, arXiv:2306.11695, eq. 1).

    The norm is the root mean square over samples and places, which is the paper's up to a constant of the layer.
    """

    def total(axis: Axis) -> Floats:
        kernel, inputs = evidence.weights[axis.weight].astype(np.float64), evidence.inputs[axis.weight]
        return slice_sums(kernel * inputs.over(kernel, np.sqrt(inputs.square)), axis.axis)

    return joined(criterion, read_by(units, total, _is_read(evidence)))


def wanda_weights(criterion: Wanda, path: str, evidence: Evidence, _seed: int) -> Floats:
    """|weight| * norm of its input (arXiv:2306.11695, equation 1)."""
    kernel, inputs = evidence.weights[path].astype(np.float64), evidence.inputs[path]
    return of_weights(criterion, np.abs(kernel * inputs.over(kernel, np.sqrt(inputs.square))))


def flap(criterion: Comparable, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Variance of the input * squared norm of the weights that read it (An et al. 2023, arXiv:2312.11983, equation 4).

    A unit that hardly fluctuates is nearly a constant, which a bias can stand in for.
    """

    def fluctuation(axis: Axis) -> Floats:
        kernel, inputs = evidence.weights[axis.weight].astype(np.float64), evidence.inputs[axis.weight]
        return slice_sums(kernel * inputs.over(kernel, np.sqrt(inputs.variance)), axis.axis, 2)

    return joined(criterion, read_by(units, fluctuation, _is_read(evidence)))


def _means(
    criterion: Comparable, units: Units, evidence: Evidence, what: Callable[[Inputs], Floats | None]
) -> dict[str, Floats]:
    """A statistic of the inputs, averaged over what a unit owns of a layer's input axes."""

    def values(axis: Axis) -> Floats:
        inputs = evidence.inputs[axis.weight]
        found = what(inputs)
        assert found is not None
        return inputs.along(axis.axis, found)

    return joined(criterion, read_by(units, values, _is_read(evidence), mean=True))


def _is_read(evidence: Evidence) -> Callable[[Axis], bool]:
    return lambda axis: axis.weight in evidence.inputs and axis.axis in evidence.inputs[axis.weight].axes
