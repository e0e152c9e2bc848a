"""Loss and metrics of a model on a split, sample by sample, so that two models can be compared on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning.contract.errors import DatasetMismatch
from pruning.contract.result import LossRecovery, MetricRecovery, SplitRecovery
from pruning.keras import live
from pruning.keras.data import Samples
from pruning.keras.objective import Metric, Objective

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = Callable[..., list[Any]]
RESAMPLES = 1000
_LOWER_IS_BETTER = ("error", "loss", "divergence", "crossentropy", "poisson", "hinge")


@dataclass(frozen=True)
class Scores:
    """A model on a split. `columns[metric]`: per-sample terms, shape (samples, terms), whose means make the metric."""

    samples: int
    loss: float
    metrics: Mapping[str, float]
    columns: Mapping[str, Floats]


def evaluator(model: keras.Model, objective: Objective, like: Samples) -> Callable[[Samples, int], Scores]:
    """A function of (samples, batch size) that scores the model as it stands; compiled once, for samples like these.

    Loss (sum over outputs) and metrics in inference mode; exactly what `model.evaluate` counts. Metrics that are no
    functions of means over samples (AUC and the like) are computed by Keras' own streaming objects.
    Raises `DatasetMismatch` where the model cannot compute the inputs.
    """
    step = _step(model, objective, like)

    def score(samples: Samples, batch_size: int = 256) -> Scores:
        streamed = {metric.label: _streaming(metric) for metric in objective.metrics if metric.name not in _COLUMNS}
        losses: list[Any] = []
        columns: dict[str, list[Any]] = {metric.label: [] for metric in objective.metrics if metric.name in _COLUMNS}
        for inputs, labels in samples.batches(batch_size):
            try:
                loss, found, outputs = step(inputs, labels)
            except tf.errors.InvalidArgumentError as error:
                raise DatasetMismatch(
                    f"the model cannot compute the {samples.name} data: {str(error)[:300]}"
                ) from error
            losses.append(loss.numpy())
            for label, values in found.items():
                columns[label].append(values.numpy())
            for metric in objective.metrics:
                if metric.label in streamed:
                    streamed[metric.label].update_state(labels[metric.output], outputs[metric.output])
        joined = {label: np.concatenate(parts).astype(np.float64) for label, parts in columns.items()}
        metrics = {
            metric.label: (
                float(streamed[metric.label].result())
                if metric.label in streamed
                else float(_combined(metric.name, joined[metric.label].mean(axis=0)))
            )
            for metric in objective.metrics
        }
        return Scores(len(samples), float(np.concatenate(losses).astype(np.float64).mean()), metrics, joined)

    return score


def compare(
    original: Scores | None, pruned: Scores | None, recovered: Scores, objective: Objective, seed: int = 0
) -> SplitRecovery:
    """How much of the original is left on a split; R = L_orig / L_pruned, `ratio` with its interval.

    The interval is the 95 % percentile interval of a paired bootstrap over samples (1000 resamples); None for metrics
    that are no function of means over samples, such as AUC.
    """
    metrics = {}
    for metric in objective.metrics:
        base, now = (original.metrics[metric.label] if original else None), recovered.metrics[metric.label]
        interval = None
        if original is not None and metric.label in original.columns:
            interval = interval_of_ratio(
                original.columns[metric.label], recovered.columns[metric.label], metric.name, seed
            )
        metrics[metric.label] = MetricRecovery(
            original=_finite(base),
            pruned=_finite(pruned.metrics[metric.label]) if pruned else None,
            recovered=_finite(now),
            ratio=_ratio(now, base),
            interval=interval,
        )
    before = original.loss if original else None
    loss = LossRecovery(
        original=_finite(before),
        pruned=_finite(pruned.loss) if pruned else None,
        recovered=_finite(recovered.loss),
        r_pruned=_ratio(before, pruned.loss) if pruned else None,
        r_recovered=_ratio(before, recovered.loss),
    )
    return SplitRecovery(samples=recovered.samples, loss=loss, metrics=metrics)


def interval_of_ratio(before: Floats, after: Floats, metric: str, seed: int = 0) -> tuple[float, float] | None:
    """95 % paired bootstrap interval of metric(after) / metric(before); both of shape (samples, terms)."""
    rng = np.random.default_rng(seed)
    count = len(before)
    at_once = max(1, 2_000_000 // count)
    ratios: list[Floats] = []
    for start in range(0, RESAMPLES, at_once):
        rows = rng.integers(0, count, (min(at_once, RESAMPLES - start), count))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = _combined(metric, after[rows].mean(axis=1)) / _combined(metric, before[rows].mean(axis=1))
        ratios.append(np.asarray(found))
    finite = np.concatenate(ratios)
    finite = finite[np.isfinite(finite)]
    if len(finite) < RESAMPLES // 2:
        return None
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def key(scores: Scores, objective: Objective) -> tuple[float, float]:
    """What the best epoch is chosen by, higher is better: the first metric, then the loss."""
    loss = -scores.loss if np.isfinite(scores.loss) else -np.inf
    if not objective.metrics:
        return loss, loss
    metric = objective.metrics[0]
    value = scores.metrics[metric.label]
    value = value if np.isfinite(value) else -np.inf
    lower = any(word in metric.name for word in _LOWER_IS_BETTER)
    return (-value if lower and np.isfinite(value) else value), loss


def summary(scores: Scores) -> dict[str, Any]:
    """Loss and metrics as plain numbers."""
    return {"loss": _finite(scores.loss), "metrics": {name: _finite(value) for name, value in scores.metrics.items()}}


def _step(model: keras.Model, objective: Objective, like: Samples) -> Callable[..., Any]:
    @tf.function(input_signature=live.signature(*like.batch(slice(0, 1))))  # type: ignore[untyped-decorator]
    def step(inputs: list[Any], labels: list[Any]) -> Any:
        outputs = [tf.cast(output, tf.float32) for output in live.call(model, inputs)]
        loss = total_loss(objective, labels, outputs)
        columns = {
            metric.label: tf.stack(
                [
                    _per_sample(term)
                    for term in _COLUMNS[metric.name](labels[metric.output], outputs[metric.output], **metric.options)
                ],
                axis=1,
            )
            for metric in objective.metrics
            if metric.name in _COLUMNS
        }
        return loss, columns, outputs

    return step  # type: ignore[no-any-return]


def total_loss(objective: Objective, labels: list[Any], outputs: list[Any]) -> Any:
    """Weighted sum over outputs of the loss of each sample: tensors in, shape (n,) out."""
    terms = [
        weight * tf.cast(loss.per_sample(labels[i], outputs[i]), tf.float32)
        for i, (loss, weight) in enumerate(zip(objective.losses, objective.weights, strict=True))
    ]
    return tf.add_n(terms)


def _per_sample(values: Any) -> Any:
    values = tf.cast(values, tf.float32)
    return tf.reduce_mean(tf.reshape(values, (tf.shape(values)[0], -1)), axis=1)


def _mean_of(name: str) -> Columns:
    def columns(labels: Any, outputs: Any, **options: Any) -> list[Any]:
        return [getattr(keras.metrics, name)(labels, outputs, **options)]

    return columns


def _cosine(labels: Any, outputs: Any) -> list[Any]:
    return [-keras.losses.cosine_similarity(labels, outputs)]


def _hits(labels: Any, outputs: Any, threshold: float = 0.5) -> tuple[Any, Any, Any]:
    wanted, said = tf.cast(labels, tf.float32), tf.cast(outputs > threshold, tf.float32)
    return wanted * said, said, wanted


def _precision(labels: Any, outputs: Any, **options: Any) -> list[Any]:
    hits, said, _ = _hits(labels, outputs, **options)
    return [hits, said]


def _recall(labels: Any, outputs: Any, **options: Any) -> list[Any]:
    hits, _, wanted = _hits(labels, outputs, **options)
    return [hits, wanted]


_MEANS = (
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
    "top_k_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "binary_crossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "kl_divergence",
    "poisson",
)
_COLUMNS: Mapping[str, Columns] = {
    **{name: _mean_of(name) for name in _MEANS},
    "cosine_similarity": _cosine,
    "root_mean_squared_error": _mean_of("mean_squared_error"),
    "precision": _precision,
    "recall": _recall,
}


def _combined(metric: str, means: Floats) -> Any:
    """The metric from the means of its terms: (..., terms) -> (...)."""
    if metric == "root_mean_squared_error":
        return np.sqrt(means[..., 0])
    if metric in ("precision", "recall"):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(means[..., 1] > 0, means[..., 0] / means[..., 1], 0.0)
    return means[..., 0]


def _streaming(metric: Metric) -> Any:
    if metric.config:
        return keras.metrics.deserialize(dict(metric.config))
    return keras.metrics.AUC() if metric.name == "auc" else keras.metrics.get(metric.name)


def _ratio(above: float | None, below: float | None) -> float | None:
    if above is None or below is None or not np.isfinite([above, below]).all() or below == 0:
        return None
    return float(above / below)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
