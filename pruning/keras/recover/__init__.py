"""Recovery: what brings quality back after units are gone. One file per stage; the table below is the registry.

To add a stage: its class in `contract/spec.py`, its function in a file here, a line in `STAGES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pruning.contract.base import Record
from pruning.contract.spec import BatchNormStage, FineTuneStage, Stage
from pruning.keras.recover import batch_norm, fine_tune
from pruning.keras.recover.context import Context, History

STAGES: Mapping[type[Record], Callable[[Any, Context], History]] = {
    BatchNormStage: batch_norm.run,
    FineTuneStage: fine_tune.run,
}


def run(stage: Stage, context: Context) -> History:
    """One stage on the model in `context`, in place; what it tells of its epochs."""
    return STAGES[type(stage)](stage, context)


def needs_labels(stage: Stage) -> bool:
    """Whether a stage trains against labels."""
    return isinstance(stage, FineTuneStage)


__all__ = ["STAGES", "Context", "History", "needs_labels", "run"]
