"""Which loss and metrics a job is judged by: from the request, else the compile config, else output and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import keras

from pruning.contract.errors import DatasetMismatch, InvalidSpec
from pruning.contract.spec import Evaluation
from pruning.keras.data import Kind, Labels, Port, Samples, check_range

Source = Literal["request", "compile_config", "inferred"]
_BY_KIND: Mapping[Kind, Mapping[str, str]] = {
    "sparse": {
        "categorical_crossentropy": "sparse_categorical_crossentropy",
        "categorical_accuracy": "sparse_categorical_accuracy",
        "top_k_categorical_accuracy": "sparse_top_k_categorical_accuracy",
    },
    "dense": {
        "sparse_categorical_crossentropy": "categorical_crossentropy",
        "sparse_categorical_accuracy": "categorical_accuracy",
        "sparse_top_k_categorical_accuracy": "top_k_categorical_accuracy",
    },
}
_ALIASES = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "acc": "accuracy",
}
_CROSSENTROPY = ("categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy")
_LOSS_OPTIONS = ("from_logits", "label_smoothing", "delta", "alpha", "gamma", "apply_class_balancing")
_METRIC_OPTIONS = ("k", "threshold")


@dataclass(frozen=True)
class Loss:
    """A loss by Keras' name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def per_sample(self, labels: Any, outputs: Any) -> Any:
        """Mean loss of each sample: (n, ...), (n, ...) -> (n,); tensors in, tensor out."""
        values = getattr(keras.losses, self.name)(labels, outputs, **self.options)
        return _mean(values)


@dataclass(frozen=True)
class Metric:
    """A metric: `label` as users know it, `name` and `options` as Keras does. `output` numbers the model's outputs."""

    label: str
    name: str
    output: int
    options: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Objective:
    """One loss per output, their weights, and metrics; `source` says where the losses come from."""

    losses: tuple[Loss, ...]
    weights: tuple[float, ...]
    metrics: tuple[Metric, ...]
    source: Source

    @property
    def loss_name(self) -> str:
        return " + ".join(dict.fromkeys(loss.name for loss in self.losses))


def resolve(
    evaluation: Evaluation,
    compiled: Mapping[str, Any] | None,
    outputs: Sequence[Port],
    activations: Sequence[str | None],
    samples: Samples,
) -> Objective:
    """The objective for a model with these outputs on these labels.

    `compiled`: the model's compile config as JSON, or None; what of it does not go with the labels is passed over.
    Raises `InvalidSpec` for a requested metric that does not go with them. `check` holds labels against the result.
    """
    kinds = [labels.kind for labels in samples.labels]
    names = [port.name for port in outputs]
    source: Source = "inferred"
    found: list[Loss | None] = [None] * len(outputs)
    weights: tuple[float, ...] = (1.0,) * len(outputs)
    if evaluation.loss is not None:
        found, source = [_requested(evaluation.loss, activation) for activation in activations], "request"
    elif compiled and compiled.get("loss"):
        found, source = [_loss(entry) for entry in _per_output(compiled["loss"], names)], "compile_config"
        weights = tuple(1.0 if w is None else float(w) for w in _per_output(compiled.get("loss_weights"), names))
        if None in found:
            found, weights, source = [None] * len(outputs), (1.0,) * len(outputs), "inferred"
    losses = [
        _fitted(loss, kinds[i]) if loss else _inferred(i, outputs[i], activations[i], samples)
        for i, loss in enumerate(found)
    ]
    metrics = _metrics(evaluation, compiled, outputs, losses, kinds)
    return Objective(tuple(losses), weights, tuple(metrics), source)


def _requested(name: str, activation: str | None) -> Loss:
    name = _ALIASES.get(name, name)
    logits = name in _CROSSENTROPY and activation not in ("softmax", "sigmoid")
    return Loss(name, {"from_logits": True} if logits else {})


def _loss(entry: Any) -> Loss | None:
    """A loss of a compile config; None for one that Keras has no function of this name for."""
    name, options = _named(entry, _LOSS_OPTIONS)
    name = _ALIASES.get(name, name)
    return Loss(name, options) if name and callable(getattr(keras.losses, name, None)) else None


def _named(entry: Any, options: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """(snake-case name, options) of a string, a serialized function or a serialized object."""
    if isinstance(entry, str):
        return _snake(entry), {}
    if not isinstance(entry, Mapping):
        return "", {}
    config = entry.get("config")
    if entry.get("class_name") == "function" and isinstance(config, str):
        return _snake(config), {}
    config = config if isinstance(config, Mapping) else {}
    name = entry.get("class_name", "")
    if name == "MeanMetricWrapper":
        fn = config.get("fn")
        name = fn if isinstance(fn, str) else fn.get("config", "") if isinstance(fn, Mapping) else ""
    return _snake(str(name)), {key: config[key] for key in options if config.get(key) not in (None, False, 0.0)}


def _snake(name: str) -> str:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return name.lower()


def _fitted(loss: Loss, kind: Kind) -> Loss:
    """Categorical losses become sparse for integer labels, and the reverse."""
    name = _BY_KIND[kind].get(loss.name, loss.name)
    dropped = () if name == loss.name else ("label_smoothing",) if kind == "sparse" else ()
    return Loss(name, {key: value for key, value in loss.options.items() if key not in dropped})


def _inferred(index: int, port: Port, activation: str | None, samples: Samples) -> Loss:
    labels = samples.labels[index]
    logits = {} if activation in ("softmax", "sigmoid") else {"from_logits": True}
    if labels.kind == "sparse":
        return Loss("sparse_categorical_crossentropy", logits)
    binary = bool(((labels.values == 0) | (labels.values == 1)).all())
    if activation == "softmax" and port.shape[-1] != 1:
        return Loss("categorical_crossentropy")
    if activation == "sigmoid" and bool(((labels.values >= 0) & (labels.values <= 1)).all()):
        return Loss("binary_crossentropy")
    if binary and activation is None and port.shape[-1] != 1 and bool((labels.values.sum(axis=-1) == 1).all()):
        return Loss("categorical_crossentropy", logits)
    if binary and activation is None and labels.values.dtype.kind in "iub":
        return Loss("binary_crossentropy", logits)
    return Loss("mean_squared_error")


def check(objective: Objective, outputs: Sequence[Port], samples: Samples) -> None:
    """Raises `DatasetMismatch` for labels outside a loss' range, `InvalidSpec` where the two do not go together."""
    for index, (loss, port) in enumerate(zip(objective.losses, outputs, strict=True)):
        _check(loss, samples.labels[index], port)


def _check(loss: Loss, labels: Labels, port: Port) -> None:
    if loss.name in ("binary_crossentropy", "categorical_crossentropy"):
        if labels.kind == "sparse":
            raise InvalidSpec(
                f"loss {loss.name} does not go with class labels of {labels.array!r} and output {port.name!r} of shape "
                f"{port.shape}: use sparse_categorical_crossentropy"
            )
        check_range(labels, 0, 1, loss.name)
    elif labels.kind == "sparse" and loss.name != "sparse_categorical_crossentropy":
        raise DatasetMismatch(
            f"array {labels.array!r} holds one class per sample, but loss {loss.name} compares values of the output's "
            f"shape {port.shape}"
        )


def _metrics(
    evaluation: Evaluation,
    compiled: Mapping[str, Any] | None,
    outputs: Sequence[Port],
    losses: Sequence[Loss],
    kinds: Sequence[Kind],
) -> list[Metric]:
    names = [port.name for port in outputs]
    if evaluation.metrics is not None:
        wanted: list[Sequence[Any]] = [evaluation.metrics for _ in names]
    else:
        wanted = [_flat(entry) for entry in _per_output((compiled or {}).get("metrics"), names)]
        if not any(wanted):
            wanted = [_usual(loss, port) for loss, port in zip(losses, outputs, strict=True)]
    found = []
    for index, entries in enumerate(wanted):
        for entry in entries:
            metric = _metric(entry, index, outputs[index], kinds[index])
            if kinds[index] == "sparse" and not metric.name.startswith("sparse_") and metric.config is None:
                if evaluation.metrics is None:
                    continue
                raise InvalidSpec(
                    f"metric {entry} compares values of the output's shape {outputs[index].shape}, but the labels are "
                    "class numbers: use accuracy or sparse_top_k_categorical_accuracy"
                )
            label = metric.label if len(names) == 1 else f"{names[index]}_{metric.label}"
            found.append(Metric(label, metric.name, index, metric.options, metric.config))
    return list({metric.label: metric for metric in found}.values())


def _usual(loss: Loss, port: Port) -> list[str]:
    if loss.name == "binary_crossentropy" and port.shape[-1] != 1:
        return ["binary_accuracy"]
    return ["accuracy"] if loss.name in _CROSSENTROPY else ["mean_absolute_error"]


def _metric(entry: Any, output: int, port: Port, kind: Kind) -> Metric:
    """What `accuracy` means is Keras' own rule: binary for one unit, else the class with the highest output."""
    name, options = _named(entry, _METRIC_OPTIONS)
    own = entry.get("config") if isinstance(entry, Mapping) else None
    label = own["name"] if isinstance(own, Mapping) and isinstance(own.get("name"), str) else str(name)
    if isinstance(entry, str):
        label = entry
    name = _ALIASES.get(name, name)
    if name == "accuracy":
        name = "binary_accuracy" if port.shape and port.shape[-1] == 1 else "categorical_accuracy"
    return Metric(label, _BY_KIND[kind].get(name, name), output, options, entry if isinstance(entry, Mapping) else None)


def _per_output(value: Any, names: Sequence[str]) -> list[Any]:
    """What `compile` takes per output - one for all, a list or a dictionary - as a list."""
    if isinstance(value, Mapping) and "class_name" not in value:
        return [value.get(name) for name in names]
    if isinstance(value, list | tuple) and len(value) == len(names):
        return list(value)
    if len(names) == 1:
        return [value]
    return [value if not isinstance(value, list | tuple) else None for _ in names]


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [item for part in value for item in _flat(part)]
    return [value]


def _mean(values: Any) -> Any:
    return keras.ops.mean(keras.ops.reshape(values, (keras.ops.shape(values)[0], -1)), axis=1)
