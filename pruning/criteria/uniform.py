"""Random scores: the baseline that every criterion has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from pruning.contract.criteria import Random
from pruning.criteria.comparable import prunable
from pruning.criteria.evidence import Evidence, Floats

if TYPE_CHECKING:
    from pruning.units import Units


def channels(_criterion: Random, units: Units, _evidence: Evidence, seed: int) -> dict[str, Floats]:
    """Uniform in [0, 1); each group draws from the seed and its own id, so no other group changes its scores."""
    return {
        group.id: np.random.default_rng([seed, crc32(group.id.encode())]).random(len(group.units))
        for group in prunable(units)
    }


def weights(_criterion: Random, path: str, evidence: Evidence, seed: int) -> Floats:
    """Uniform in [0, 1) from the seed and the kernel's path; a weight that is zero already scores lowest, 0."""
    array = evidence.weights[path]
    drawn = np.random.default_rng([seed, crc32(path.encode())]).random(array.shape, dtype=np.float32)
    return np.where(array == 0, np.float32(0), drawn)
