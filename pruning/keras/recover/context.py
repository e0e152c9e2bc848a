"""What every recovery stage works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from pruning.case import Case
from pruning.contract.progress import Report
from pruning.keras.data import Samples
from pruning.keras.evaluate import Scores
from pruning.keras.objective import Objective

History: TypeAlias = list[dict[str, float]]
Arrays: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Whole:
    """What a repair works on: the original, as data and alive, and its arrays at full width as edited so far.

    `removed`: the ids of the units that go. `train`: training inputs, None where there are none.
    """

    case: Case
    original: keras.Model
    removed: NDArray[np.int64]
    arrays: Arrays
    train: Samples | None
    report: Report
    seed: int = 0


@dataclass(frozen=True)
class Context:
    """The model (changed in place), its data, and the masks that hold: {array path: True stays}.

    `judge`: scores of the model as it stands, on validation; None without labels there. `original`: the model before
    pruning, for stages that learn from it.
    `report(completed, total, unit, detail)` tells how far a stage is.
    """

    model: keras.Model
    train: Samples
    judge: Callable[[], Scores] | None
    objective: Objective | None
    report: Report
    original: keras.Model | None = None
    masks: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    seed: int = 0
