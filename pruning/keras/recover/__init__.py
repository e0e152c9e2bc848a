"""Recovery: what brings quality back after units are gone. One file per stage; the tables below are the registry.

Repairs edit the original's arrays at full width, before the slicing; the other stages work on the sliced model. To add
a stage: its class in `contract/spec.py`, its function in a file here, a line in `REPAIRS` or `STAGES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pruning.contract.base import Record
from pruning.contract.spec import BatchNormStage, FineTuneStage, FoldStage, LeastSquaresStage, Stage
from pruning.keras.recover import batch_norm, fine_tune, fold, least_squares
from pruning.keras.recover.context import Arrays, Context, History, Whole

REPAIRS: Mapping[type[Record], Callable[[Any, Whole], tuple[Arrays, History]]] = {
    FoldStage: fold.run,
    LeastSquaresStage: least_squares.run,
}

STAGES: Mapping[type[Record], Callable[[Any, Context], History]] = {
    BatchNormStage: batch_norm.run,
    FineTuneStage: fine_tune.run,
}


def repairs(stage: Stage) -> bool:
    """Whether a stage edits the original's arrays before the slicing."""
    return type(stage) in REPAIRS


def repair(stage: Stage, whole: Whole) -> tuple[Arrays, History]:
    """The arrays at full width as one stage leaves them, and what it tells of its work."""
    return REPAIRS[type(stage)](stage, whole)


def run(stage: Stage, context: Context) -> History:
    """One stage on the model in `context`, in place; what it tells of its epochs."""
    return STAGES[type(stage)](stage, context)


def needs_labels(stage: Stage) -> bool:
    """Whether a stage trains against labels."""
    return isinstance(stage, FineTuneStage)


__all__ = ["REPAIRS", "STAGES", "Context", "History", "Whole", "needs_labels", "repair", "repairs", "run"]
