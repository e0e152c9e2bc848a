"""The scale of the normalisation that follows a unit: network slimming."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pruning.contract.criteria import BatchNormScale
from pruning.criteria.comparable import by_group, joined
from pruning.criteria.evidence import Evidence, Floats

if TYPE_CHECKING:
    from pruning.units import Axis, Units


def channels(criterion: BatchNormScale, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """|gamma| of each unit (Liu et al. 2017, arXiv:1708.06519), aggregated over all normalisations of the group.

    A gamma counts for a group if it scales all its units. A group without one has no evidence and is left out: it keeps
    its units, as in network slimming, where only scaled channels compete.
    """

    def absolute(axis: Axis) -> Floats:
        return np.abs(evidence.weights[axis.weight].astype(np.float64))

    scales = [axis for axis in units.axes if axis.weight in units.scales]
    return joined(criterion, ((group, list(rows.values())) for group, rows in by_group(units, scales, absolute)))
