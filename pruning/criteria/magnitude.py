"""Magnitudes: what the weights alone say. L1, L2, mean-abs and LAMP score the slices of the producers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pruning.contract.base import Record
from pruning.contract.criteria import L1, L2, Comparable, Lamp, MeanAbs
from pruning.criteria.comparable import MAKES, by_group, joined, lamp, normalize, of_weights, slice_sums
from pruning.criteria.evidence import Evidence, Floats

if TYPE_CHECKING:
    from pruning.units import Axis, Units


@dataclass(frozen=True)
class Norm:
    """A norm of a unit's weights as a sum over them: of absolute values, or of squares (then its root); or a mean."""

    power: Literal[1, 2] = 1
    mean: bool = False


NORMS: dict[type[Record], Norm] = {L1: Norm(), L2: Norm(2), MeanAbs: Norm(mean=True), Lamp: Norm(2)}


def channels(criterion: Comparable, units: Units, evidence: Evidence, _seed: int) -> dict[str, Floats]:
    """The norm of each unit's slices in each producer, aggregated over producers, normalised within the group.

    L1: Li et al. 2017, arXiv:1608.08710, section 3.1. L2: the same with the Euclidean norm. A unit that owns several
    slices of a producer is scored by all of them together.
    """
    norm = NORMS[type(criterion)]
    axes = [axis for axis in units.axes if axis.role in MAKES]

    def sums(axis: Axis) -> Floats:
        array = evidence.weights[axis.weight]
        found = slice_sums(array, axis.axis, norm.power)
        return found / (array.size // array.shape[axis.axis]) if norm.mean else found

    root = np.sqrt if norm.power == 2 else np.asarray
    rows_of = (
        (group, [root(rows[layer]) for layer in group.producers if layer in rows])
        for group, rows in by_group(units, axes, sums, mean=norm.mean)
    )
    return joined(criterion, rows_of)


def weights(criterion: Comparable, path: str, evidence: Evidence, _seed: int) -> Floats:
    """|w|, normalised within the kernel (Han et al. 2015, arXiv:1506.02626); for one weight all norms are the same."""
    return of_weights(criterion, np.abs(evidence.weights[path], dtype=np.float32))


def lamp_channels(criterion: Lamp, units: Units, evidence: Evidence, seed: int) -> dict[str, Floats]:
    """`lamp` of the Euclidean norms of a group (Lee et al. 2021, arXiv:2010.07611, for single weights)."""
    plain = criterion.model_copy(update={"normalization": "none"})
    norms = channels(plain, units, evidence, seed)
    return {group: normalize(lamp(found), criterion.normalization) for group, found in norms.items()}


def lamp_weights(criterion: Lamp, path: str, evidence: Evidence, _seed: int) -> Floats:
    """`lamp` of |w| within the kernel (Lee et al. 2021, arXiv:2010.07611, equation 2)."""
    return of_weights(criterion, lamp(np.abs(evidence.weights[path], dtype=np.float32)))
