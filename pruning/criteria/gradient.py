"""What the loss says: Taylor expansions of it around the weights, and the connections' sensitivity.

A unit is removed by zeroing the weights that read it. To first order that changes the loss by minus the sum of gradient
* weight over them, to second order by half the sum of curvature * weight^2; both are zero for a unit that is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pruning.contract.criteria import OBD, SNIP, Taylor
from pruning.criteria.comparable import MAKES, by_group, joined, of_weights, prunable, read_by, slice_sums
from pruning.criteria.evidence import Evidence, Floats

if TYPE_CHECKING:
    from pruning.units import Axis, Group, Units


def taylor(criterion: Taylor, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Mean over batches of (sum of gradient * weight)^2, or of its absolute value, over the weights that read a unit.

    Molchanov et al. 2019, arXiv:1906.10771, equation 8 with the joint sum of section 3.2: where activations are
    homogeneous, as rectifiers are, the sum over the readers equals that over the unit's own gate.
    """
    batches = min((len(rows) for each in evidence.gradients.values() for rows in each.products.values()), default=0)

    def changes(batch: int) -> list[tuple[Group, list[Floats]]]:
        def products(axis: Axis) -> Floats:
            return np.asarray(evidence.gradients[axis.weight].products[axis.axis][batch], np.float64)

        return read_by(units, products, _has_gradients(evidence))

    found: dict[str, list[list[Floats]]] = {group.id: [] for group in prunable(units)}
    for batch in range(batches):
        for group, rows in changes(batch):
            found[group.id].append([row**2 if criterion.power == "square" else np.abs(row) for row in rows])
    means = {name: [np.mean(rows, axis=0) for rows in zip(*each, strict=True)] for name, each in found.items()}
    return joined(criterion, ((group, means[group.id]) for group in prunable(units)))


def taylor_weights(criterion: Taylor, path: str, evidence: Evidence, _seed: int) -> Floats:
    """Root of the mean over batches of (gradient * weight)^2, or |mean gradient * weight| (arXiv:1906.10771, eq. 8).

    The root keeps the order and stays in float32's range.
    """
    weight, gradients = evidence.weights[path].astype(np.float64), evidence.gradients[path]
    if criterion.power == "square":
        return of_weights(criterion, np.sqrt(gradients.square) * np.abs(weight))
    return of_weights(criterion, np.abs(gradients.mean * weight))


def obd(criterion: OBD, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Half the sum of h * w^2 over the weights that read a unit, h the diagonal of the Fisher information.

    LeCun et al. 1989 (Optimal Brain Damage), equation 5; at a minimum the Fisher information estimates the Hessian
    (Theis et al. 2018, arXiv:1801.05787, section 2.2).
    """

    def saliency(axis: Axis) -> Floats:
        gradients, weight = evidence.gradients[axis.weight], evidence.weights[axis.weight].astype(np.float64)
        return 0.5 * slice_sums(gradients.square * weight**2, axis.axis)

    return joined(criterion, read_by(units, saliency, _has_gradients(evidence)))


def obd_weights(criterion: OBD, path: str, evidence: Evidence, _seed: int) -> Floats:
    """Root of h * w^2 / 2 (LeCun et al. 1989, equation 5), which keeps the order and stays in float32's range."""
    weight = evidence.weights[path].astype(np.float64)
    return of_weights(criterion, np.sqrt(0.5 * evidence.gradients[path].square) * np.abs(weight))


def snip(criterion: SNIP, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Sum of |gradient * weight| over a unit's own weights, those of its producers.

    Lee et al. 2019, arXiv:1810.02340, equation 5, with the weights as they were trained instead of at initialisation.
    """

    def sensitivity(axis: Axis) -> Floats:
        gradients, weight = evidence.gradients[axis.weight], evidence.weights[axis.weight].astype(np.float64)
        return slice_sums(gradients.mean * weight, axis.axis)

    known = _has_gradients(evidence)
    axes = [axis for axis in units.axes if axis.role in MAKES and known(axis)]
    return joined(criterion, ((group, list(rows.values())) for group, rows in by_group(units, axes, sensitivity)))


def snip_weights(criterion: SNIP, path: str, evidence: Evidence, _seed: int) -> Floats:
    """|gradient * weight| (arXiv:1810.02340, equation 5; the sum that divides it there is `normalization: sum`)."""
    weight = evidence.weights[path].astype(np.float64)
    return of_weights(criterion, np.abs(evidence.gradients[path].mean * weight))


def _has_gradients(evidence: Evidence) -> Callable[[Axis], bool]:
    return lambda axis: axis.weight in evidence.gradients
