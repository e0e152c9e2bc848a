"""Recovery and warnings of a finished run, from scores and measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import keras
import numpy as np

from pruning.contract.dataset import Split
from pruning.contract.result import MeasureSet, RecoveryReport, Verification, Warning
from pruning.keras import private
from pruning.keras.data import Samples
from pruning.keras.evaluate import Scores, compare
from pruning.keras.objective import Objective

Stands: TypeAlias = Mapping[str, Scores]


def recovery(objective: Objective, found: Mapping[Split, Stands], seed: int) -> RecoveryReport:
    """`found[split]` holds the scores of `original`, `pruned` and `recovered`."""
    reports = {
        split: compare(stands["original"], stands["pruned"], stands["recovered"], objective, seed)
        for split, stands in found.items()
    }
    return RecoveryReport(
        loss=objective.loss_name,
        metrics=[metric.label for metric in objective.metrics],
        source=objective.source,
        validation=reports.get("validation"),
        test=reports.get("test"),
    )


def no_speed_up(before: MeasureSet, after: MeasureSet) -> list[Warning]:
    """Latency that did not fall, batch size by batch size."""
    pairs = zip(before.latency_ms or [], after.latency_ms or [], strict=True)
    slow = [(b, a) for b, a in pairs if a.median >= b.median]
    if not slow:
        return []
    figures = ", ".join(f"batch {a.batch_size}: {b.median:.3g} -> {a.median:.3g} ms" for b, a in slow)
    return [
        Warning(
            code="no_speed_up",
            detail=f"the pruned model is not faster here ({figures}): at this size overheads outweigh what was "
            "removed, or the widths left suit this CPU's kernels badly (constraints.round_to 8 or 16 may help)",
        )
    ]


def verification(proof: Verification) -> list[Warning]:
    """A check that could not have failed."""
    if proof.delivered is None or proof.delivered.has_power:
        return []
    proven = proof.structure is not None and proof.structure.has_power
    return [
        Warning(
            code="verification_without_power",
            detail="on the probe inputs the removed units contributed next to nothing, so comparing values proves "
            "little; "
            + (
                "the structural check with redrawn weights still proves that the right indices were cut"
                if proven
                else "nor does the structural check: bring data on which the model's outputs differ"
            ),
        )
    ]


def at_chance(objective: Objective, samples: Samples, original: Scores) -> list[Warning]:
    """An original that classifies no better than always naming the most frequent class."""
    for metric in objective.metrics:
        labels = samples.labels[metric.output]
        if not metric.name.endswith("categorical_accuracy") or "top_k" in metric.name:
            continue
        classes = labels.values if labels.kind == "sparse" else np.argmax(labels.values, axis=-1)
        counts = np.unique(classes, return_counts=True)[1]
        share, reached = counts.max() / counts.sum(), original.metrics[metric.label]
        if len(counts) > 1 and reached <= 1.05 * share:
            return [
                Warning(
                    code="original_at_chance",
                    detail=f"the original's {metric.label} on {samples.name} is {reached:.3f}, no better than always "
                    f"naming the most frequent class ({share:.3f}): are inputs scaled and labels numbered as in "
                    "training?",
                )
            ]
    return []


def frozen(model: keras.Model) -> list[Warning]:
    """Layers that fine-tuning leaves alone because the upload froze them."""
    still = {id(v): v for layer in private.layers(model) if not layer.trainable for v in layer.weights}
    count, left = (
        sum(int(np.prod(variable.shape)) for variable in found) for found in (still.values(), model.trainable_variables)
    )
    if not count:
        return []
    return [
        Warning(
            code="frozen_layers",
            detail=f"{count} weights belong to layers that the upload froze (trainable=False); fine-tuning left them "
            f"alone and trained the other {left}. Unfreeze them before uploading to recover more",
        )
    ]
