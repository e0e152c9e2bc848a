"""What a file costs to store and a model to run, measured: bytes, milliseconds."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pruning.contract.result import LatencyFigure
from pruning.contract.spec import Latency
from pruning.keras import live
from pruning.keras.probe import Probe, Vocabularies, random, shapes

UNKNOWN = 128
_WARM_CALLS = 5


def gzip_bytes(path: Path) -> int:
    """Size in bytes of the file after gzip at level 6 without a name and with time 0; streamed, nothing is written."""
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    size = 0
    with open(path, "rb") as file:
        while block := file.read(2**20):
            size += len(squeeze.compress(block))
    return size + len(squeeze.flush())


def latency(
    models: Sequence[keras.Model],
    how: Latency,
    vocabularies: Vocabularies,
    report: Callable[[int, int], None] = lambda _done, _total: None,
    like: Probe | None = None,
) -> list[list[LatencyFigure]]:
    """Milliseconds of one call of each model on one batch: compiled by `tf.function`, warmed, no XLA.

    The models take turns call by call, so that what else the machine does strikes all alike. Inputs are random; free
    dimensions are 128, or what is next to it that the model takes, else those of `like`, inputs that it takes. For each
    model one figure per batch size, with all samples.
    """
    given = shapes(models[0], vocabularies, UNKNOWN, like)
    found: list[list[LatencyFigure]] = [[] for _ in models]
    for done, size in enumerate(how.batch_sizes):
        calls = [_compiled(model, random(model, vocabularies, size, given)) for model in models]
        for call in calls:
            for _ in range(_WARM_CALLS):
                call()
        samples = np.array([[_milliseconds(call) for call in calls] for _ in range(how.repeats)])
        for figures, column in zip(found, samples.T, strict=True):
            figures.append(
                LatencyFigure(
                    batch_size=size,
                    median=round(float(np.median(column)), 4),
                    p95=round(float(np.percentile(column, 95)), 4),
                    samples=[round(float(sample), 4) for sample in column],
                )
            )
        report(done + 1, len(how.batch_sizes))
    return found


def _compiled(model: keras.Model, probe: Probe) -> Callable[[], Any]:
    inputs = [tf.constant(array) for array in probe]
    function = live.traced(model, inputs)
    return lambda: function(inputs)


def _milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    for output in call():
        output.numpy()
    return (time.perf_counter_ns() - start) / 1e6
