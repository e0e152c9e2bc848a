"""Moving statistics of every BatchNormalization, estimated again: pruning changes what reaches them; no labels needed.

The model runs in inference mode but for its BatchNormalizations, which normalise by their batch, so dropout and noise
do not disturb the estimate. Means and second moments are averaged over all samples (cumulative, no momentum), which
gives the variance over all samples and not the mean of the batches' variances.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning.contract.spec import BatchNormStage
from pruning.keras import live
from pruning.keras.data import Samples
from pruning.keras.recover.context import Context, History

Layer: TypeAlias = Any
Floats: TypeAlias = NDArray[np.float64] | np.float64


def run(stage: BatchNormStage, context: Context) -> History:
    """Estimate the statistics on up to `samples` training inputs, drawn by the seed; frozen layers are included.

    A layer called several times takes the mean over its calls.
    """
    estimator(context.model, context.train)(stage, context)
    return []


def estimator(model: keras.Model, like: Samples) -> Callable[[BatchNormStage, Context], None]:
    """`run` on this model, compiled once for many states of it and samples like these."""
    layers, moments = _traced(model, like)

    def estimate(stage: BatchNormStage, context: Context) -> None:
        if layers:
            _write(layers, _totals(moments, len(layers), stage, context))

    return estimate


def _totals(
    moments: Callable[[list[Any]], Any], calls: int, stage: BatchNormStage, context: Context
) -> list[tuple[Floats, Floats]]:
    """Mean and second moment at each call, over all samples."""
    few, done = context.train.few(stage.samples, context.seed), 0
    totals: list[tuple[Floats, Floats]] = [(np.float64(0), np.float64(0)) for _ in range(calls)]
    for inputs, _ in few.batches(stage.batch_size):
        share = len(inputs[0]) / len(few)
        found = moments([tf.constant(array) for array in inputs])
        totals = [
            (mean + share * m.numpy().astype(np.float64), square + share * s.numpy().astype(np.float64))
            for (mean, square), (m, s) in zip(totals, found, strict=True)
        ]
        done += len(inputs[0])
        context.report(done, len(few), "samples", {})
    return totals


def _write(layers: list[Layer], totals: list[tuple[Floats, Floats]]) -> None:
    by_layer: dict[int, list[tuple[Floats, Floats]]] = {}
    for layer, total in zip(layers, totals, strict=True):
        by_layer.setdefault(id(layer), []).append(total)
    for layer in {id(layer): layer for layer in layers}.values():
        calls = by_layer[id(layer)]
        mean = np.mean([m for m, _ in calls], axis=0)
        square = np.mean([s for _, s in calls], axis=0)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(np.maximum(square - mean**2, 0.0))


def _traced(model: keras.Model, like: Samples) -> tuple[list[Layer], Callable[[list[Any]], Any]]:
    """The layer of each BatchNormalization call, in call order, and a function of inputs that returns their moments."""
    layers: list[Layer] = []
    moments: list[tuple[Any, Any]] = []
    original = keras.layers.BatchNormalization.call

    def call(self: Layer, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:  # noqa: ARG001
        layers.append(self)
        moments.append(_moments(inputs, self.axis, mask))
        trainable, self.trainable = self.trainable, True
        try:
            return original(self, inputs, training=True, mask=mask)
        finally:
            self.trainable = trainable

    def forward(inputs: list[Any]) -> list[tuple[Any, Any]]:
        layers.clear()
        moments.clear()
        live.direct(model, inputs)
        return list(moments)

    given = live.taken(model, like.inputs)
    keras.layers.BatchNormalization.call = call
    try:
        compiled = live.needs_xla(model) or None
        traced = tf.function(forward, autograph=False, jit_compile=compiled).get_concrete_function(given)
    finally:
        keras.layers.BatchNormalization.call = original
    return layers, traced


def _moments(inputs: Any, axis: int, mask: Any) -> tuple[Any, Any]:
    # In float32 the difference of squares would lose a small variance beside a large mean.
    values = tf.cast(inputs, tf.float64)
    axes = [i for i in range(len(values.shape)) if i != axis % len(values.shape)]
    if mask is None:
        return tf.reduce_mean(values, axes), tf.reduce_mean(values * values, axes)
    weights = tf.cast(mask, tf.float64)
    weights = tf.reshape(weights, tf.concat([tf.shape(weights), [1] * (len(values.shape) - len(weights.shape))], 0))
    weights = tf.broadcast_to(weights, tf.shape(values))
    total = tf.reduce_sum(weights, axes)
    return (
        tf.math.divide_no_nan(tf.reduce_sum(weights * values, axes), total),
        tf.math.divide_no_nan(tf.reduce_sum(weights * values * values, axes), total),
    )
