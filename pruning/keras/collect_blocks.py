"""What block criteria have to see: what enters and leaves each block, or the loss without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from pruning import rewiring
from pruning.archive import Archive
from pruning.case import Case
from pruning.contract.criteria import BlockInfluence, LossChange
from pruning.contract.errors import DatasetMismatch
from pruning.contract.progress import Report
from pruning.criteria import Evidence
from pruning.keras import bypass, live
from pruning.keras.data import Samples
from pruning.keras.evaluate import evaluator
from pruning.keras.objective import Objective

Array: TypeAlias = NDArray[Any]


def evidence(
    case: Case,
    criterion: BlockInfluence | LossChange,
    model: keras.Model,
    train: Samples | None,
    objective: Objective | None,
    seed: int,
    report: Report,
) -> Evidence:
    """What a criterion sees of each block on training samples drawn by the seed. `model`: the original, alive.

    A block without which the loss is not finite is left out. Raises `DatasetMismatch` where samples or labels are
    missing.
    """
    if train is None or (criterion.needs_labels and (objective is None or not train.labels)):
        what = "training samples and their labels" if criterion.needs_labels else "training samples"
        raise DatasetMismatch(f"criterion {criterion.name} needs {what}")
    few = train.few(criterion.samples, seed)

    def loss(archive: Archive) -> float:
        assert objective is not None
        found = evaluator(live.build(archive.config, archive.arrays), objective, few)(few, criterion.batch_size)
        return found.loss

    if criterion.needs_labels:
        return Evidence(case.archive.arrays, blocks=loss_change(case, loss, report))
    batches = [inputs for inputs, _ in few.batches(criterion.batch_size)]
    return Evidence(case.archive.arrays, blocks=influence(model, case, batches, report))


def influence(model: keras.Model, case: Case, batches: Sequence[Sequence[Array]], report: Report) -> dict[str, float]:
    """1 - mean cosine similarity of what enters and what leaves each block, by id, in 0 ... 2.

    Vectors lie along the last axis, one for each sample and place (Men et al. 2024, arXiv:2403.03853, equation 1). If
    one of two vectors is zero their similarity is 0, if both are it is 1.
    """
    run = bypass.runner(model, case.archive.config, case.graph)
    totals = {block.id: np.zeros(2) for block in case.blocks.found}
    for done, inputs in enumerate(batches):
        tensors = run(inputs)
        for block in case.blocks.found:
            totals[block.id] += similarity(*(_vectors(tensors[side]) for side in (block.enters, block.leaves)))
        report(done + 1, len(batches), "batches", {})
    return {id: float(1 - total / count) for id, (total, count) in totals.items() if count}


def loss_change(case: Case, loss: Callable[[Archive], float], report: Report) -> dict[str, float]:
    """The loss without each block, one at a time, minus that of the original, by id."""
    whole, found = loss(case.archive), {}
    for done, block in enumerate(case.blocks.found):
        found[block.id] = loss(rewiring.apply(case.archive, case.blocks, [block])) - whole
        report(done + 1, len(case.blocks.found), "blocks", {})
    return {id: change for id, change in found.items() if np.isfinite(change)}


def similarity(first: Array, second: Array) -> Array:
    """(sum of the cosines of all pairs of rows, their number); float64 (n, d) each."""
    norms = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
    product, dots = norms[0] * norms[1], np.einsum("ij,ij->i", first, second)
    both_zero = np.where((norms[0] == 0) & (norms[1] == 0), 1.0, 0.0)
    cosines = np.where(product > 0, dots / np.where(product > 0, product, 1.0), both_zero)
    return np.array([cosines.sum(), len(cosines)])


def _vectors(tensor: Any) -> Array:
    values = np.asarray(keras.ops.convert_to_numpy(tensor)).astype(np.float64)
    return values.reshape(-1, values.shape[-1])
