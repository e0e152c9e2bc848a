"""Training on the training split; the epoch that is best on validation is what stays.

A loop of our own and not `model.fit`: masks must hold after every single step, inputs are cast batch by batch, and the
loss is the very one that the report speaks of. Layers that the upload froze stay frozen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pruning.contract.errors import DatasetMismatch
from pruning.contract.spec import FineTuneStage
from pruning.keras import live
from pruning.keras.evaluate import key, outputs_of, summary, total_loss
from pruning.keras.objective import Objective
from pruning.keras.private import variables
from pruning.keras.recover import distill
from pruning.keras.recover.context import Context, History

_OPTIMIZERS: Mapping[str, Callable[[Any], Any]] = {
    "adam": lambda rate: keras.optimizers.Adam(rate),
    "adamw": lambda rate: keras.optimizers.AdamW(rate),
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "rmsprop": lambda rate: keras.optimizers.RMSprop(rate),
}
_SECONDS_BETWEEN_REPORTS = 0.5


def run(stage: FineTuneStage, context: Context) -> History:
    """Train with Adam and the like, `learning_rate` falling by cosine to 0; keep the best validation epoch.

    The state before the first epoch counts too, so training never leaves a model worse on validation. Stops after
    `patience` epochs without improvement, or when the loss is no longer finite. Seeds come from the context.
    Raises `DatasetMismatch` where there are no labels or no validation split.
    """
    judge = context.judge
    if context.objective is None or judge is None or not context.train.labels:
        raise DatasetMismatch("fine-tuning needs labels and a validation split (y_train, x_validation, y_validation)")
    keras.utils.set_random_seed(context.seed % 2**32)
    rng = np.random.default_rng(context.seed)
    targets = _targets(stage, context)
    step = _step(stage, context, context.objective, targets)
    samples, size = len(context.train), min(stage.batch_size, len(context.train))
    steps = -(-samples // size)
    best = key(judge(), context.objective)
    kept = [np.array(v) for v in context.model.get_weights()]
    history: History = []
    waited, told = 0, time.monotonic()
    for epoch in range(stage.epochs):
        order, losses = rng.permutation(samples), 0.0
        for at in range(steps):
            rows = np.sort(order[at * size : (at + 1) * size])
            inputs, labels = context.train.batch(rows)
            losses += float(step(inputs, labels, targets(rows, inputs))) * len(rows)
            if time.monotonic() - told > _SECONDS_BETWEEN_REPORTS:
                told = time.monotonic()
                context.report(epoch * steps + at + 1, stage.epochs * steps, "steps", {"epoch": epoch + 1})
        scores = judge()
        record = {"epoch": float(epoch + 1), "loss": losses / samples, **_flat(summary(scores))}
        history.append({name: value for name, value in record.items() if np.isfinite(value)})
        context.report((epoch + 1) * steps, stage.epochs * steps, "steps", {**history[-1], "epoch": epoch + 1})
        if (found := key(scores, context.objective)) > best:
            best, waited = found, 0
            kept = [np.array(v) for v in context.model.get_weights()]
        else:
            waited += 1
        if (stage.patience is not None and waited >= stage.patience) or not np.isfinite(losses):
            break
    context.model.set_weights(kept)
    return history


def _flat(scores: Mapping[str, Any]) -> dict[str, float]:
    found = {"val_loss": scores["loss"], **{f"val_{name}": value for name, value in scores["metrics"].items()}}
    return {name: value for name, value in found.items() if value is not None}


def _targets(stage: FineTuneStage, context: Context) -> distill.Targets:
    if context.original is None or not stage.distill:
        return lambda _rows, _inputs: []
    return distill.targets(context.original, context.train, stage.batch_size)


def _optimizer(stage: FineTuneStage, context: Context) -> Any:
    steps = stage.epochs * -(-len(context.train) // min(stage.batch_size, len(context.train)))
    rate: Any = stage.learning_rate
    if stage.learning_rate_schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(stage.learning_rate, steps)
    optimizer = _OPTIMIZERS[stage.optimizer](rate)
    if live.computes_in(context.model, {"float16"}):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(context.model.trainable_variables)
    return optimizer


def _step(
    stage: FineTuneStage, context: Context, objective: Objective, targets: distill.Targets
) -> Callable[[list[Any], list[Any], list[Any]], Any]:
    """One step of training: a batch and what the original says of it in, mean loss out; masks hold when it returns."""
    model, optimizer = context.model, _optimizer(stage, context)
    inputs, labels = context.train.batch(np.arange(1))
    like = live.signature(inputs, labels, targets(np.arange(1), inputs))
    at = variables(model) if context.masks else {}
    held = [(at[path], tf.constant(mask, dtype=at[path].dtype)) for path, mask in context.masks.items()]

    @tf.function(autograph=False, input_signature=like)  # type: ignore[untyped-decorator]
    def step(inputs: list[Any], labels: list[Any], said: list[Any]) -> Any:
        with tf.GradientTape() as tape:
            outputs = outputs_of(model, inputs, training=True)
            loss = tf.reduce_mean(total_loss(objective, labels, outputs))
            if said:
                followed = tf.reduce_mean(distill.loss(objective, said, outputs, stage.temperature))
                loss = (1 - stage.distill) * loss + stage.distill * followed
            whole = loss + tf.add_n([tf.cast(extra, tf.float32) for extra in model.losses]) if model.losses else loss
            scaled = optimizer.scale_loss(whole)
        gradients = tape.gradient(scaled, [variable.value for variable in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)
        for variable, mask in held:
            variable.assign(variable.value * mask)
        return loss

    return step  # type: ignore[no-any-return]
