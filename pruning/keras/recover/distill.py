"""Following the original: its outputs on the training inputs, and how far the pruned model's are from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning.keras import live
from pruning.keras.data import Samples
from pruning.keras.evaluate import outputs_of, per_sample
from pruning.keras.objective import Loss, Objective

Array: TypeAlias = NDArray[Any]
Targets: TypeAlias = Callable[[Array, list[Array]], list[Array]]
_KEPT_BYTES = 256 * 2**20
_SMALLEST = 1e-7


def targets(original: keras.Model, samples: Samples, batch_size: int) -> Targets:
    """A function of (rows, their inputs) that gives the original's outputs there, in inference mode.

    Computed once for all samples where they take at most 256 MiB, since inputs do not change from epoch to epoch; else
    batch by batch.
    """
    inputs, _ = samples.batch(slice(0, 1))

    @tf.function(autograph=False, input_signature=live.signature(inputs))  # type: ignore[untyped-decorator]
    def forward(given: list[Any]) -> list[Any]:
        return outputs_of(original, given)

    def compute(given: list[Array]) -> list[Array]:
        return [output.numpy() for output in forward(given)]

    if sum(output.nbytes for output in compute(inputs)) * len(samples) > _KEPT_BYTES:
        return lambda _rows, given: compute(given)
    parts = [compute(given) for given, _ in samples.batches(batch_size)]
    kept = [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
    return lambda rows, _given: [outputs[rows] for outputs in kept]


def loss(objective: Objective, said: list[Any], outputs: list[Any], temperature: float) -> Any:
    """Distance of each sample's outputs from what the original said, weighted like the losses: tensors, shape (n,).

    Classes: T^2 * KL(softmax(original / T), softmax(pruned / T)) on logits (Hinton et al. 2015, equation 1 and the
    factor of section 2); other outputs: the mean squared difference.
    """
    terms = [
        weight * _distance(one, before, after, temperature)
        for one, weight, before, after in zip(objective.losses, objective.weights, said, outputs, strict=True)
    ]
    return tf.add_n(terms)


def _distance(loss: Loss, said: Any, output: Any, temperature: float) -> Any:
    if not loss.name.endswith("categorical_crossentropy"):
        return per_sample(tf.math.squared_difference(said, output))
    before, after = (_logits(values, loss) / temperature for values in (said, output))
    log_before, log_after = tf.nn.log_softmax(before), tf.nn.log_softmax(after)
    divergence = tf.reduce_sum(tf.exp(log_before) * (log_before - log_after), axis=-1)
    return temperature**2 * per_sample(divergence)


def _logits(values: Any, loss: Loss) -> Any:
    """Logits up to a constant, which softmax does not see."""
    return values if loss.options.get("from_logits") else tf.math.log(tf.maximum(values, _SMALLEST))
