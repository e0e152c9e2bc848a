"""Evidence -> a score per unit, higher is kept. One file per kind of evidence; the tables below are the registry.

Keys are the spec's classes. To add a criterion: its class in `contract/criteria.py`, its function in a file here, its
line in `CHANNEL`, in `WEIGHT` if it scores single weights, in `BLOCK` if it scores whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pruning.contract import criteria as spec
from pruning.contract.base import Record
from pruning.contract.criteria import Criterion
from pruning.criteria import (
    activation,
    geometric_median,
    gradient,
    magnitude,
    normalization_scale,
    reconstruction,
    uniform,
    whole,
)
from pruning.criteria.evidence import Evidence, Floats, Gradients, Inputs

if TYPE_CHECKING:
    from pruning.blocks import Blocks
    from pruning.units import Units

CHANNEL: dict[type[Record], Callable[[Any, Units, Evidence, int], dict[str, Floats]]] = {
    spec.L1: magnitude.channels,
    spec.L2: magnitude.channels,
    spec.MeanAbs: magnitude.channels,
    spec.Lamp: magnitude.lamp_channels,
    spec.FPGM: geometric_median.channels,
    spec.BatchNormScale: normalization_scale.channels,
    spec.ActivationMean: activation.activation_mean,
    spec.APoZ: activation.apoz,
    spec.HRank: activation.hrank,
    spec.Wanda: activation.wanda,
    spec.Flap: activation.flap,
    spec.OBS: reconstruction.channels,
    spec.Taylor: gradient.taylor,
    spec.OBD: gradient.obd,
    spec.SNIP: gradient.snip,
    spec.Random: uniform.channels,
}
WEIGHT: dict[type[Record], Callable[[Any, str, Evidence, int], Floats]] = {
    spec.L1: magnitude.weights,
    spec.L2: magnitude.weights,
    spec.MeanAbs: magnitude.weights,
    spec.Lamp: magnitude.lamp_weights,
    spec.Wanda: activation.wanda_weights,
    spec.Taylor: gradient.taylor_weights,
    spec.OBD: gradient.obd_weights,
    spec.SNIP: gradient.snip_weights,
    spec.Random: uniform.weights,
}
BLOCK: dict[type[Record], Callable[[Any, Units, Blocks, Evidence, int], dict[str, float]]] = {
    spec.L1: whole.magnitudes,
    spec.L2: whole.magnitudes,
    spec.MeanAbs: whole.magnitudes,
    spec.BatchNormScale: whole.scales,
    spec.BlockInfluence: whole.seen,
    spec.LossChange: whole.seen,
    spec.Random: whole.chance,
}


def score(criterion: Criterion, units: Units, evidence: Evidence, seed: int = 0) -> dict[str, Floats]:
    """Scores of the prunable groups by group id, float64, aligned with `group.units`; finite.

    A group that the criterion finds no evidence for is left out: its units stay, unless `layers` names them.
    """
    return CHANNEL[type(criterion)](criterion, units, evidence, seed)


def score_weights(criterion: Criterion, paths: Iterable[str], evidence: Evidence, seed: int = 0) -> dict[str, Floats]:
    """Scores of the elements of these kernels by path, of the kernels' shapes, float32; finite.

    A kernel that the criterion finds no evidence for is left out: its weights stay.
    """
    sees = {"activations": evidence.inputs, "gradients": evidence.gradients}
    seen = [sees[need] for need in criterion.needs if need in sees]
    score_one = WEIGHT[type(criterion)]
    return {path: score_one(criterion, path, evidence, seed) for path in paths if all(path in found for found in seen)}


def score_blocks(
    criterion: Criterion,
    units: Units,
    blocks: Blocks,
    evidence: Evidence,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of the blocks by id; finite. A block that the criterion finds no evidence for is left out: it stays."""
    return BLOCK[type(criterion)](criterion, units, blocks, evidence, seed)


__all__ = [
    "BLOCK",
    "CHANNEL",
    "WEIGHT",
    "Evidence",
    "Gradients",
    "Inputs",
    "score",
    "score_blocks",
    "score_weights",
]
