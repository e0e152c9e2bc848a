"""A repair on a model, outside the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from pruning import graph as graphs
from pruning import surgery, units
from pruning.archive import replace_arrays
from pruning.case import Case
from pruning.contract.spec import FoldStage, LeastSquaresStage
from pruning.keras import live, recover
from pruning.keras.data import opened
from pruning.units import Units
from tests import equivalence

Array = np.ndarray[Any, Any]


@dataclass
class Bench:
    """A model as data and what is to be removed from it."""

    case: Case
    removed: Array

    @property
    def original(self) -> keras.Model:
        return live.build(self.case.archive.config, self.case.archive.arrays)

    def repair(
        self, stage: FoldStage | LeastSquaresStage, inputs: Sequence[Array] | None = None
    ) -> tuple[keras.Model, dict[str, Array], list[dict[str, float]]]:
        """(the sliced model, the edited arrays, what the stage told); without inputs there are no data."""
        train, original = None, self.original
        if inputs is not None:
            names = [f"x_train__{tensor.name}" for tensor in original.inputs]
            with opened(dict(zip(names, inputs, strict=True)), original) as data:
                train = data.split("train")
        whole = recover.Whole(
            self.case, original, self.removed, dict(self.case.archive.arrays), train, lambda *_: None, 0
        )
        arrays, history = recover.repair(stage, whole)
        return self.sliced(arrays), arrays, history

    def sliced(self, arrays: Mapping[str, Array] | None = None) -> keras.Model:
        archive = self.case.archive if arrays is None else replace_arrays(self.case.archive, arrays)
        cut = surgery.apply(archive, self.case.graph, self.case.units, self.removed)
        return live.build(cut.config, cut.arrays)


def bench(model: keras.Model, removed: Mapping[str, Sequence[int]] | None = None) -> Bench:
    """`removed`: places by layer; without it every second unit of each group, made a copy of the one before it."""
    archive = equivalence.archived(model)
    graph = graphs.build(archive.config)
    found = units.find(graph, archive.arrays)
    if removed is not None:
        places = [found.widths[layer][list(where)] for layer, where in removed.items()]
        gone = np.unique(np.concatenate([np.empty(0, np.int64), *places]))
        return Bench(Case(archive, graph, found), gone)
    pairs = [
        pair
        for group in found.groups
        if group.barrier is None
        for pair in zip(group.units[::2].tolist(), group.units[1::2].tolist(), strict=False)
    ]
    arrays = twins(archive.arrays, found, pairs)
    return Bench(Case(replace(archive, arrays=arrays), graph, found), np.array([twin for _, twin in pairs]))


def twins(arrays: Mapping[str, Array], found: Units, pairs: Sequence[tuple[int, int]]) -> dict[str, Array]:
    """The arrays with the second unit of each pair computed as the first is: a twin in all but what reads it."""
    made = {path: np.array(array) for path, array in arrays.items()}
    for axis in found.axes:
        if axis.role != "consumer":
            array = np.moveaxis(made[axis.weight], axis.axis, 0)
            for first, second in pairs:
                array[axis.ids == second] = array[axis.ids == first]
    return made


def outputs(model: keras.Model, inputs: Sequence[Array]) -> list[Array]:
    return [np.asarray(output, np.float32) for output in live.call(model, inputs)]


def far(first: Sequence[Array], second: Sequence[Array]) -> float:
    """The largest difference of outputs, relative to the largest output."""
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(first, second, strict=True))
