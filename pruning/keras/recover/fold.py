"""Folding: what removed units gave on average goes into the biases of what read them; no labels needed.

With training inputs the average is measured on the original; without, `expected` says what the weights tell.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning import products
from pruning.chains import Chains
from pruning.contract.spec import FoldStage
from pruning.graph import Op
from pruning.keras.recover.context import Arrays, History, Whole
from pruning.keras.recover.expected import expectations, unknown
from pruning.keras.walk import Stuck, Walk, sample
from pruning.products import Product

Floats: TypeAlias = NDArray[np.float64]
_PLACES = 4096


def run(stage: FoldStage, whole: Whole) -> tuple[Arrays, History]:
    """The full-width arrays with biases that make up for the removed units' averages.

    A layer without a bias has it in the moving mean of the BatchNormalization behind it; where there is neither, and
    where nothing is known of a unit, nothing is folded. A shared layer takes the mean over its calls. `left_alone`
    counts the arrays that read removed units of which nothing was folded.
    """
    case = whole.case
    gone, chains = case.units.gone(whole.removed), Chains(case.graph)
    found: dict[tuple[str, int], list[Floats]] = {}
    folded = set[str]()
    for op, rank, product, average in _averages(stage, whole):
        weights = product.matrix(whole.arrays[product.kernel]).astype(np.float64)
        inputs, outputs = product.stays(whole.arrays[product.kernel].shape, case.units.axes, gone)
        lost = ~inputs & np.any(outputs, axis=1, keepdims=True)
        place = chains.constants(op, product, rank)
        if place is None or not lost.any():
            continue
        told = lost & np.isfinite(average)
        if told.any():
            folded.add(product.kernel)
        known = np.where(told, average, 0.0)
        found.setdefault(place, []).append(np.einsum("gd,gdo->go", known, weights) * outputs)
    arrays = dict(whole.arrays)
    for (path, sign), amounts in found.items():
        amount = sign * np.mean(amounts, axis=0).reshape(arrays[path].shape)
        arrays[path] = (arrays[path] + amount).astype(arrays[path].dtype)
    reading = {a.weight for a in case.units.axes if a.role in ("consumer", "factor") and gone[a.ids].any()}
    return arrays, [{"layers": float(len(folded)), "left_alone": float(len(reading - folded))}]


def _averages(stage: FoldStage, whole: Whole) -> Iterator[tuple[Op, int, Product, Any]]:
    """(op, rank of its output, product, what it reads on average) for every product of the original."""
    return _told(whole) if whole.train is None else _measured(stage, whole)


def _told(whole: Whole) -> Iterator[tuple[Op, int, Product, Any]]:
    case = whole.case
    tensors = case.units.tensors
    known = expectations(case, whole.original)
    for op in case.graph.ops:
        rank = len(tensors[op.inputs[0]]) if op.inputs else 0
        for product in products.of(op, rank):
            axis = product.entering[-1]
            mean, _ = known.get(product.tensor, unknown(rank))
            if product.summed > 1 or any(size != 1 for at, size in enumerate(mean.shape, 1) if at != axis):
                continue
            average = product.spread(mean.reshape(-1), case.archive.arrays)
            yield op, len(tensors[op.outputs[0]]), product, average


def _measured(stage: FoldStage, whole: Whole) -> Iterator[tuple[Op, int, Product, Any]]:
    case, train = whole.case, whole.train
    assert train is not None
    inputs = sample(case.graph, case.archive.config, whole.original, train, stage.samples, 1, whole.seed)
    walk = Walk(case.graph, case.archive.config, whole.original, inputs)
    for index, op in enumerate(case.graph.ops):
        rank = len(walk.values[op.inputs[0]].shape) if op.inputs else 0
        read = {tensor: np.asarray(walk.values[tensor]) for tensor in op.inputs}
        try:
            walk.run(index)
        except Stuck:
            return
        for product in products.of(op, rank):
            x, y = read[product.tensor], np.asarray(walk.values[op.outputs[0]])
            places = product.places(x, y)
            rng = np.random.default_rng([whole.seed, zlib.crc32(product.kernel.encode()), index])
            at = np.sort(rng.choice(prod(places), min(_PLACES, prod(places)), replace=False))
            average = product.rows(x, at, places, case.archive.arrays).mean(0)
            yield op, y.ndim, product, average
        walk.forget(index)
        whole.report(index + 1, len(case.graph.ops), "ops", {"layer": op.name})
