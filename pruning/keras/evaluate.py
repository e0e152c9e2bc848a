"""Loss and metrics of a model on a split, sample by sample, so that two models can be compared on the same samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning.contract.errors import DatasetMismatch, SecateurError
from pruning.contract.result import LossRecovery, MetricRecovery, SplitRecovery
from pruning.keras import live, probe
from pruning.keras.data import Samples
from pruning.keras.objective import BY_SAMPLE, Metric, Objective, streaming
from pruning.keras.private import mask_of, with_mask

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = Callable[..., list[Any]]
RESAMPLES = 1000
_LOWER_IS_BETTER = ("error", "divergence", "crossentropy", "poisson", "hinge")
_HIGHER_IS_BETTER = ("accuracy", "auc", "precision", "recall", "cosine_similarity", "score", "io_u", "correlation")
# As in Keras, whose precision, recall, RMSE and AUC count masked steps.
_MASKED = set(BY_SAMPLE) - {"precision", "recall", "root_mean_squared_error"}


@dataclass(frozen=True)
class Scores:
    """A model on a split. `columns[metric]`: per-sample terms, shape (samples, terms), whose means make the metric."""

    samples: int
    loss: float
    metrics: Mapping[str, float]
    columns: Mapping[str, Floats]


def evaluator(model: keras.Model, objective: Objective, like: Samples) -> Callable[[Samples, int], Scores]:
    """A function of (samples, batch size) that scores the model as it stands; compiled once for all samples like these.

    Loss (sum over outputs) and metrics in inference mode; what `model.evaluate` counts, masked steps left out, but for
    regularisation losses: recovery compares the loss on data. Metrics that are no functions of means over samples (AUC
    and the like) are computed by Keras' own streaming objects. Raises `DatasetMismatch` where Keras cannot compute it.
    """
    # Splits may differ in their free dimensions.
    steps = {_kind(like): _step(model, objective, like)}

    def score(samples: Samples, batch_size: int = 256) -> Scores:
        if _kind(samples) not in steps:
            steps[_kind(samples)] = _step(model, objective, samples)
        step = steps[_kind(samples)]
        streamed = {metric.label: streaming(metric) for metric in objective.metrics if metric.entry is not None}
        losses: list[Any] = []
        columns: dict[str, list[Any]] = {metric.label: [] for metric in objective.metrics if metric.entry is None}
        for inputs, labels in samples.batches(batch_size):
            with computing(samples):
                loss, found, outputs, masks = step(inputs, labels)
                for metric in objective.metrics:
                    if metric.label in streamed:
                        output = with_mask(outputs[metric.output], masks[metric.output])
                        streamed[metric.label].update_state(labels[metric.output], output)
            losses.append(loss.numpy())
            for label, values in found.items():
                columns[label].append(values.numpy())
        joined = {label: np.concatenate(parts).astype(np.float64) for label, parts in columns.items()}
        metrics = {
            metric.label: (
                float(streamed[metric.label].result())
                if metric.label in streamed
                else float(_combined(metric.name, joined[metric.label].mean(axis=0)))
            )
            for metric in objective.metrics
        }
        terms = np.concatenate(losses).astype(np.float64).mean(axis=0)
        return Scores(len(samples), float(np.dot(objective.weights, _ratio_of(terms))), metrics, joined)

    return score


def compare(original: Scores, pruned: Scores, recovered: Scores, objective: Objective, seed: int = 0) -> SplitRecovery:
    """How much of the original is left on a split; R = L_orig / L_pruned, `ratio` with its interval.

    The interval is the 95 % percentile interval of a paired bootstrap over samples (1000 resamples); None for metrics
    that are no function of means over samples, such as AUC.
    """
    metrics = {}
    for metric in objective.metrics:
        base, now = original.metrics[metric.label], recovered.metrics[metric.label]
        interval = None
        if metric.label in original.columns:
            interval = interval_of_ratio(
                original.columns[metric.label], recovered.columns[metric.label], metric.name, seed
            )
        metrics[metric.label] = MetricRecovery(
            original=_finite(base),
            pruned=_finite(pruned.metrics[metric.label]),
            recovered=_finite(now),
            ratio=_ratio(now, base),
            interval=interval,
        )
    loss = LossRecovery(
        original=_finite(original.loss),
        pruned=_finite(pruned.loss),
        recovered=_finite(recovered.loss),
        r_pruned=_ratio(original.loss, pruned.loss),
        r_recovered=_ratio(original.loss, recovered.loss),
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
    """What the best epoch is chosen by, higher is better: the first metric, then the loss.

    The loss alone where it is not known whether more of the metric is better, and where there are several outputs:
    one output's metric says nothing of the others.
    """
    loss = -scores.loss if np.isfinite(scores.loss) else -np.inf
    if not objective.metrics or len(objective.losses) > 1:
        return loss, loss
    metric = objective.metrics[0]
    lower = any(word in metric.name for word in _LOWER_IS_BETTER)
    if not lower and not metric.name.endswith(_HIGHER_IS_BETTER):
        return loss, loss
    value = scores.metrics[metric.label]
    value = value if np.isfinite(value) else -np.inf
    return (-value if lower and np.isfinite(value) else value), loss


def summary(scores: Scores) -> dict[str, Any]:
    """Loss and metrics as plain numbers."""
    return {"loss": _finite(scores.loss), "metrics": {name: _finite(value) for name, value in scores.metrics.items()}}


def _kind(samples: Samples) -> tuple[Any, ...]:
    """What a step is compiled for: shapes and dtypes of a sample and its labels."""
    arrays = [*samples.inputs, *(label.values for label in samples.labels)]
    return tuple((array.shape[1:], array.dtype) for array in arrays)


def _step(model: keras.Model, objective: Objective, like: Samples) -> Callable[..., Any]:
    @tf.function(autograph=False, input_signature=live.signature(*like.batch(slice(0, 1))))  # type: ignore[untyped-decorator]
    def step(inputs: list[Any], labels: list[Any]) -> Any:
        outputs = outputs_of(model, inputs)
        loss = tf.stack([tf.stack(terms, axis=1) for terms in _loss_terms(objective, labels, outputs)], axis=1)
        columns = {
            metric.label: tf.stack(_terms(metric, labels[metric.output], outputs[metric.output]), axis=1)
            for metric in objective.metrics
            if metric.entry is None
        }
        return loss, columns, outputs, [mask_of(output) for output in outputs]

    return step  # type: ignore[no-any-return]


def outputs_of(model: keras.Model, inputs: list[Any], training: bool = False) -> list[Any]:
    """The model's outputs in float32 with the masks that Keras gave them; (n,) becomes (n, 1), as in `data.scored`."""
    found = live.call(model, inputs, training)
    return [with_mask(_with_axis(tf.cast(output, tf.float32)), mask_of(output)) for output in found]


def _with_axis(values: Any) -> Any:
    return values[:, None] if len(values.shape) == 1 else values


def some_outputs(model: keras.Model, samples: Samples, count: int = 64) -> list[NDArray[Any]]:
    """The model's outputs for the first samples. Raises `DatasetMismatch` where Keras cannot compute them."""
    own = probe.batch_of(model)
    bound = f"; it was made for batches of {own}, and with that written down in a reshape or kept in states"
    hint = f"{bound} it takes no other" if own else ""
    with computing(samples, hint):
        inputs = samples.batch(slice(0, count))[0]
        found = [output.numpy() for output in outputs_of(model, inputs)]
        if {len(output) for output in found} != {len(inputs[0])}:
            raise ValueError(f"{len(inputs[0])} samples give outputs of shapes {[output.shape for output in found]}")
        return found


def total_loss(objective: Objective, labels: list[Any], outputs: list[Any]) -> Any:
    """Weighted sum over outputs of the loss of each sample: tensors in, shape (n,) out.

    Masked steps count nothing, and the mean over the batch is that over all other steps, as in Keras.
    """
    terms = [
        weight * tf.math.divide_no_nan(values, tf.reduce_mean(counted))
        for weight, (values, counted) in zip(objective.weights, _loss_terms(objective, labels, outputs), strict=True)
    ]
    return tf.add_n(terms)


def _loss_terms(objective: Objective, labels: list[Any], outputs: list[Any]) -> list[list[Any]]:
    """For each output the loss of each sample and the share of its steps that counts, both of shape (n,)."""
    found = []
    for loss, label, output in zip(objective.losses, labels, outputs, strict=True):
        values = loss.values(label, output)
        found.append(_weighted(values, mask_of(output), mask_of(values)))
    return found


def _terms(metric: Metric, labels: Any, outputs: Any) -> list[Any]:
    """The terms of a metric, sample by sample; for a mean over a masked output the share that counts comes last."""
    values = _COLUMNS[metric.name](labels, outputs, **metric.options)
    if metric.name in _MASKED and mask_of(outputs) is not None:
        return _weighted(values[0], mask_of(outputs))
    return [per_sample(value) for value in values]


def _weighted(values: Any, *masks: Any) -> list[Any]:
    """(mean of what counts times its share, that share) of each sample; a mask lacks axes at the end or is None."""
    values = tf.cast(values, tf.float32)
    weights = tf.ones_like(values)
    for mask in masks:
        if mask is not None and len(mask.shape) <= len(values.shape):
            missing = [1] * (len(values.shape) - len(mask.shape))
            weights *= tf.reshape(tf.cast(mask, tf.float32), tf.concat([tf.shape(mask), missing], 0))
    return [per_sample(tf.math.multiply_no_nan(values, weights)), per_sample(weights)]


@contextmanager
def computing(samples: Samples, hint: str = "") -> Iterator[None]:
    """What Keras cannot compute is said in a sentence, with a `hint` at the cause where one is known."""
    try:
        yield
    except (SecateurError, MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        raise DatasetMismatch(f"the model cannot compute the {samples.name} data{hint}: {live.said(error)}") from error


def per_sample(values: Any) -> Any:
    """The mean of each sample in float32: (n, ...) -> (n,)."""
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


_COLUMNS: Mapping[str, Columns] = {
    **{name: _mean_of(name) for name in BY_SAMPLE},
    "cosine_similarity": _cosine,
    "root_mean_squared_error": _mean_of("mean_squared_error"),
    "precision": _precision,
    "recall": _recall,
}


def _combined(metric: str, means: Floats) -> Any:
    """The metric from the means of its terms: (..., terms) -> (...)."""
    if metric == "root_mean_squared_error":
        return np.sqrt(means[..., 0])
    return means[..., 0] if means.shape[-1] == 1 else _ratio_of(means)


def _ratio_of(means: Floats) -> Any:
    """(..., 2) -> (...): the first over the second, 0 where that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(means[..., 1] > 0, means[..., 0] / means[..., 1], 0.0)


def _ratio(above: float, below: float) -> float | None:
    if not np.isfinite([above, below]).all() or below == 0:
        return None
    return float(above / below)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
