"""What it costs the readers of a unit to do without it, after they have adapted as well as they can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pruning.contract.criteria import OBS
from pruning.criteria.comparable import READS, joined, prunable, slices
from pruning.criteria.evidence import Array, Evidence, Floats, Inputs

if TYPE_CHECKING:
    from pruning.units import Axis, Units


def channels(criterion: OBS, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """Squared error of each reader's output when a unit is gone and the reader's other weights are solved for anew.

    Optimal Brain Surgeon on blocks (Frantar and Alistarh 2022, arXiv:2208.11580, section 4, structured case): the
    Hessian of a reader's output is the second moment of its inputs, H = E[x x^T], the same at every place of a window.
    A unit that others can express costs little, one that is always zero nothing.
    """
    found: dict[str, dict[str, Floats]] = {group.id: {} for group in prunable(units)}
    problem: Problem | None = None
    for group, axis, here, place in slices(units, (axis for axis in units.axes if _is_read(axis, evidence))):
        if problem is None or problem.axis is not axis:
            problem = Problem.of(axis, evidence.weights[axis.weight], evidence.inputs[axis.weight], criterion.damping)
        if len(np.unique(place)) == len(group.units):
            rows = found[group.id]
            rows[axis.layer] = rows.get(axis.layer, 0.0) + problem.saliencies(here, place, len(group.units))
    return joined(criterion, ((group, list(found[group.id].values())) for group in prunable(units)))


def _is_read(axis: Axis, evidence: Evidence) -> bool:
    inputs = evidence.inputs.get(axis.weight)
    return axis.role in READS and inputs is not None and axis.axis in inputs.axes


@dataclass(frozen=True)
class Problem:
    """One reader's weights as (n inputs, m others); `owned`: which inputs lie at each index of the axis.

    `inverse`: (H + ridge * I)^-1, None where there is no second moment; then `square`, E[x^2], stands for H.
    """

    axis: Axis
    rows: Array
    owned: Array
    square: Floats
    inverse: Array | None
    ridge: float

    @classmethod
    def of(cls, axis: Axis, kernel: Array, inputs: Inputs, damping: float) -> Problem:
        """`damping`: the ridge as a share of H's mean diagonal."""
        size = inputs.mean.size
        rows = np.moveaxis(kernel.astype(np.float64), inputs.axes, range(len(inputs.axes))).reshape(size, -1)
        table = np.moveaxis(np.arange(size).reshape(inputs.mean.shape), inputs.axes.index(axis.axis), 0)
        hessian = inputs.covariance
        ridge = damping * float(np.trace(hessian)) / size if hessian is not None else 0.0
        inverse = np.linalg.inv(hessian + ridge * np.eye(size)) if hessian is not None and ridge > 0 else None
        return cls(axis, rows, table.reshape(len(table), -1), inputs.square.ravel(), inverse, ridge)

    def saliencies(self, here: Array, place: Array, count: int) -> Floats:
        """min over changes of the other rows of E|x^T change|^2 + ridge * |change|^2, for each unit's rows S.

        That is tr(W_S^T ((A^-1)_SS^-1 - ridge * I) W_S) with A = H + ridge * I; without H the sum of E[x^2] * w^2.
        """
        norms = np.einsum("ij,ij->i", self.rows, self.rows)
        owned = self.owned[here]
        if self.inverse is None:
            return np.asarray(np.bincount(place, (self.square * norms)[owned].sum(axis=1), minlength=count), np.float64)
        if owned.shape == (count, 1):
            found = np.empty(count)
            index = owned[:, 0]
            found[place] = norms[index] * np.maximum(1 / self.inverse.diagonal()[index] - self.ridge, 0.0)
            return found
        return np.array([self._block(owned[place == unit].ravel()) for unit in range(count)])

    def _block(self, block: Array) -> float:
        assert self.inverse is not None
        schur = np.linalg.inv(self.inverse[np.ix_(block, block)]) - self.ridge * np.eye(len(block))
        return max(float((self.rows[block] * (schur @ self.rows[block])).sum()), 0.0)
