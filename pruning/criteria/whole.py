"""Scores of whole blocks: magnitudes of their kernels, scales, chance, or how the model fares without each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from pruning.contract.criteria import BatchNormScale, Comparable, OfBlocks, Random
from pruning.criteria.comparable import aggregate, normalize, slice_sums
from pruning.criteria.evidence import Array, Arrays, Evidence, Floats
from pruning.criteria.magnitude import NORMS

if TYPE_CHECKING:
    from pruning.blocks import Blocks
    from pruning.units import Units


def magnitudes(criterion: Comparable, units: Units, blocks: Blocks, evidence: Evidence, _seed: int) -> dict[str, float]:
    """The norm of the kernels (rank 2 and more) of each layer of a block, aggregated over its layers.

    The mean over layers compares blocks of unlike length, but not of unlike width: a heuristic for want of data. A
    block without a kernel is left out.
    """
    norm = NORMS[type(criterion)]

    def value(kernels: list[Array]) -> Floats:
        total = sum(slice_sums(kernel, kernel.ndim - 1, norm.power).sum() for kernel in kernels)
        size = sum(kernel.size for kernel in kernels)
        return np.array([np.sqrt(total) if norm.power == 2 else total / size if norm.mean else total])

    return _joined(criterion, units, blocks, lambda path: len(units.sizes[path]) > 1, value, evidence.weights)


def _joined(
    criterion: Comparable,
    units: Units,
    blocks: Blocks,
    counts: Callable[[str], bool],
    value: Callable[[list[Array]], Floats],
    arrays: Arrays,
) -> dict[str, float]:
    """`value` of the arrays of each layer that count, aggregated per block and normalised over all blocks."""
    weights = {entry.name: [path for path in entry.weights if counts(path)] for entry in units.layers}
    found: dict[str, float] = {}
    for block in blocks.found:
        rows = [value([arrays[path] for path in weights[name]]) for name in blocks.called(block) if weights.get(name)]
        if rows:
            found[block.id] = float(aggregate(rows, criterion.aggregation)[0])
    scores = normalize(np.array(list(found.values())), criterion.normalization)
    return dict(zip(found, scores.tolist(), strict=True))


def scales(criterion: BatchNormScale, units: Units, blocks: Blocks, evidence: Evidence, _seed: int) -> dict[str, float]:
    """The mean |gamma| of each normalisation of a block (Liu et al. 2017, arXiv:1708.06519), aggregated over them.

    A residual branch that ends in a gamma near zero adds nothing to its shortcut. Blocks without any are left out.
    """

    def value(gammas: list[Array]) -> Floats:
        return np.array([np.abs(np.concatenate(gammas).astype(np.float64)).mean()])

    return _joined(criterion, units, blocks, lambda path: path in units.scales, value, evidence.weights)


def chance(_criterion: Random, _units: Units, blocks: Blocks, _evidence: Evidence, seed: int) -> dict[str, float]:
    """Uniform in [0, 1), from the seed and the block's id."""
    return {block.id: np.random.default_rng([seed, crc32(block.id.encode())]).random() for block in blocks.found}


def seen(_criterion: OfBlocks, _units: Units, blocks: Blocks, evidence: Evidence, _seed: int) -> dict[str, float]:
    """What was measured with data, as it is: see `pruning.keras.collect_blocks`."""
    return {block.id: evidence.blocks[block.id] for block in blocks.found if block.id in evidence.blocks}
