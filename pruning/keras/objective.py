"""Which loss and metrics a job is judged by: from the request, else the compile config, else output and labels."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import keras
import numpy as np

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
# These compare classes: of an output of one value they are the same whatever it says.
_OF_CLASSES = {name for pair in _BY_KIND["sparse"].items() for name in pair}
_PROBABILITIES = ("softmax", "sigmoid", "probabilities")
# These compare a batch as a whole, so there is no loss of a sample.
_OF_BATCHES = ("dice", "tversky", "circle")
# Metrics that are functions of means over samples, and the options with which they still are.
BY_SAMPLE: Mapping[str, tuple[str, ...]] = {
    "binary_accuracy": ("threshold",),
    "categorical_accuracy": (),
    "sparse_categorical_accuracy": (),
    "top_k_categorical_accuracy": ("k",),
    "sparse_top_k_categorical_accuracy": ("k",),
    "mean_squared_error": (),
    "mean_absolute_error": (),
    "mean_absolute_percentage_error": (),
    "mean_squared_logarithmic_error": (),
    "root_mean_squared_error": (),
    "binary_crossentropy": ("from_logits", "label_smoothing"),
    "categorical_crossentropy": ("from_logits", "label_smoothing"),
    "sparse_categorical_crossentropy": ("from_logits",),
    "kl_divergence": (),
    "poisson": (),
    "cosine_similarity": (),
    "precision": ("threshold",),
    "recall": ("threshold",),
}


@dataclass(frozen=True)
class Loss:
    """A loss by Keras' name, with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def values(self, labels: Any, outputs: Any) -> Any:
        """The loss of each entry: (n, ...), (n, ...) -> (n, ...); tensors in, tensor out."""
        return getattr(keras.losses, self.name)(labels, outputs, **self.options)


@dataclass(frozen=True)
class Metric:
    """A metric: `label` as users know it, `name` and `options` as Keras does. `output` numbers the model's outputs.

    `entry`: what the compile config says, for a metric that only Keras' own streaming object computes; else None.
    """

    label: str
    name: str
    output: int
    options: Mapping[str, Any] = field(default_factory=dict)
    entry: Any = None


@dataclass(frozen=True)
class Objective:
    """One loss per output, their weights, and metrics; `source` says where the losses come from.

    `left_out`: a sentence for each metric of the compile config that cannot be computed exactly on these labels.
    """

    losses: tuple[Loss, ...]
    weights: tuple[float, ...]
    metrics: tuple[Metric, ...]
    source: Source
    left_out: tuple[str, ...] = ()

    @property
    def loss_name(self) -> str:
        counted = [loss.name for loss, weight in zip(self.losses, self.weights, strict=True) if weight]
        return " + ".join(dict.fromkeys(counted or (loss.name for loss in self.losses)))


def resolve(
    evaluation: Evaluation,
    compiled: Mapping[str, Any] | None,
    outputs: Sequence[Port],
    activations: Sequence[str | None],
    samples: Samples,
) -> Objective:
    """The objective for a model with these outputs on these labels.

    `compiled`: the model's compile config as JSON, or None; what of it does not go with the labels is passed over.
    `activations`: what each output ends with, or `probabilities` for one that is known to lie in [0, 1].
    Raises `InvalidSpec` for a requested metric that does not go with them. `check` holds labels against the result.
    """
    source: Source = "inferred"
    found: list[Loss | None] = [None] * len(outputs)
    weights: tuple[float, ...] = (1.0,) * len(outputs)
    if evaluation.loss is not None:
        found, source = [_requested(evaluation.loss, activation) for activation in activations], "request"
    elif (usable := _compiled(compiled or {}, outputs)) is not None:
        (found, weights), source = usable, "compile_config"
    losses = [
        _fitted(loss, samples.labels[i].kind) if loss else _inferred(i, outputs[i], activations[i], samples)
        for i, loss in enumerate(found)
    ]
    metrics, left_out = _metrics(evaluation, compiled, outputs, losses, samples.labels)
    return Objective(tuple(losses), weights, metrics, source, left_out)


def _compiled(config: Mapping[str, Any], outputs: Sequence[Port]) -> tuple[list[Loss | None], tuple[float, ...]] | None:
    """Losses and weights of a compile config; None where it has none, or one that does not go with its output.

    An output that was compiled without a loss counts nothing, as in Keras.
    """
    names = [port.name for port in outputs]
    entries = _per_output(config.get("loss"), names)
    found = [_loss(entry) for entry in entries]
    told = [loss for loss, entry in zip(found, entries, strict=True) if entry is not None]
    if not told or None in told or any(map(_says_nothing, found, outputs)):
        return None
    weights = _per_output(config.get("loss_weights"), names)
    return found, tuple(
        0.0 if loss is None else 1.0 if weight is None else float(weight)
        for loss, weight in zip(found, weights, strict=True)
    )


def _requested(name: str, activation: str | None) -> Loss:
    name = _ALIASES.get(name, name)
    logits = name in _CROSSENTROPY and activation not in _PROBABILITIES
    return Loss(name, {"from_logits": True} if logits else {})


def _loss(entry: Any) -> Loss | None:
    """A loss of a compile config; None for one that Keras has no function of this name for."""
    name, config = _named(entry)
    return Loss(name, _known(name, config)) if name and callable(getattr(keras.losses, name, None)) else None


def _says_nothing(one: Loss | Metric | None, port: Port) -> bool:
    return one is not None and one.name in _OF_CLASSES and port.shape[-1:] == (1,)


def _known(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that Keras' loss of this name takes."""
    taken = inspect.signature(getattr(keras.losses, name)).parameters
    return {key: value for key, value in options.items() if key in taken}


def _named(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """(snake-case name, config) of a string, a serialized function or a serialized object."""
    if isinstance(entry, str):
        return _ALIASES.get(_snake(entry), _snake(entry)), {}
    if not isinstance(entry, Mapping):
        return "", {}
    config = entry.get("config")
    if entry.get("class_name") == "function" and isinstance(config, str):
        return _ALIASES.get(_snake(config), _snake(config)), {}
    config = config if isinstance(config, Mapping) else {}
    name = entry.get("class_name", "")
    if not str(entry.get("module") or "keras").startswith(("keras", "builtins")):
        name = ""
    if name == "MeanMetricWrapper":
        fn = config.get("fn")
        name = fn if isinstance(fn, str) else fn.get("config", "") if isinstance(fn, Mapping) else ""
    return _ALIASES.get(_snake(str(name)), _snake(str(name))), config


def _snake(name: str) -> str:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return name.lower()


def _fitted(loss: Loss, kind: Kind) -> Loss:
    """Categorical losses become sparse for integer labels, and the reverse."""
    name = _BY_KIND[kind].get(loss.name, loss.name)
    return Loss(name, _known(name, loss.options))


def _inferred(index: int, port: Port, activation: str | None, samples: Samples) -> Loss:
    labels = samples.labels[index]
    logits = {} if activation in _PROBABILITIES else {"from_logits": True}
    if labels.kind == "sparse":
        return Loss("sparse_categorical_crossentropy", logits)
    binary = bool(((labels.values == 0) | (labels.values == 1)).all())
    if activation == "softmax" and port.shape[-1] != 1:
        return Loss("categorical_crossentropy")
    if activation == "sigmoid" and bool(((labels.values >= 0) & (labels.values <= 1)).all()):
        return Loss("binary_crossentropy")
    if binary and activation is None and port.shape[-1] != 1 and bool((labels.values.sum(axis=-1) == 1).all()):
        return Loss("categorical_crossentropy", logits)
    if binary and activation in (None, "probabilities") and labels.values.dtype.kind in "iub":
        return Loss("binary_crossentropy", logits)
    return Loss("mean_squared_error")


def check(objective: Objective, outputs: Sequence[Port], samples: Samples) -> None:
    """Raises `DatasetMismatch` for labels outside a loss' range, `InvalidSpec` where the two do not go together."""
    for index, (loss, port) in enumerate(zip(objective.losses, outputs, strict=True)):
        _check(loss, samples.labels[index], port)


def _check(loss: Loss, labels: Labels, port: Port) -> None:
    if loss.name in _OF_BATCHES:
        raise InvalidSpec(
            f"loss {loss.name} compares a batch as a whole, but recovery compares models sample by sample: name "
            "another loss in evaluation.loss"
        )
    if _says_nothing(loss, port):
        raise InvalidSpec(
            f"loss {loss.name} compares classes, but output {port.name!r} has one value per sample, of which it is 0 "
            "whatever the value is: name binary_crossentropy, or a loss of values, in evaluation.loss"
        )
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
    try:
        loss.values(*_few(labels, port))
    except Exception as error:
        raise InvalidSpec(
            f"Keras cannot compute loss {loss.name} with {dict(loss.options)} on labels of {labels.array!r}: "
            f"{_short(error)}; name another loss in evaluation.loss"
        ) from error


def _metrics(
    evaluation: Evaluation,
    compiled: Mapping[str, Any] | None,
    outputs: Sequence[Port],
    losses: Sequence[Loss],
    labels: Sequence[Labels],
) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """The metrics, and why others of the compile config are left out; the usual ones where none is left."""
    if evaluation.metrics is not None:
        found, problems = _computable([evaluation.metrics for _ in outputs], outputs, labels)
        if problems:
            raise InvalidSpec(problems[0])
        return found, ()
    names = [port.name for port in outputs]
    wanted = [_flat(entry) for entry in _per_output((compiled or {}).get("metrics"), names)]
    found, left_out = _computable(wanted, outputs, labels)
    if not found:
        usual = [_usual(loss, port) for loss, port in zip(losses, outputs, strict=True)]
        found, _ = _computable(usual, outputs, labels)
    return found, left_out


def _computable(
    wanted: Sequence[Sequence[Any]], outputs: Sequence[Port], labels: Sequence[Labels]
) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """Of the entries for each output those that go with its labels, and a sentence for each that does not."""
    found: dict[str, Metric] = {}
    problems = []
    for index, entries in enumerate(wanted):
        for entry in entries:
            metric = _metric(entry, index, outputs[index], labels[index].kind)
            if (problem := _problem(metric, labels[index], outputs[index])) is not None:
                problems.append(
                    f"metric {metric.label} cannot be computed on the labels {labels[index].array!r}: {problem}"
                )
                continue
            label = metric.label if len(outputs) == 1 else f"{outputs[index].name}_{metric.label}"
            found[label] = replace(metric, label=label)
    return tuple(found.values()), tuple(problems)


def _usual(loss: Loss, port: Port) -> list[str]:
    if loss.name == "binary_crossentropy" and port.shape[-1] != 1:
        return ["binary_accuracy"]
    return ["accuracy"] if loss.name in _CROSSENTROPY else ["mean_absolute_error"]


def _metric(entry: Any, output: int, port: Port, kind: Kind) -> Metric:
    """What the word `accuracy` means is Keras' own rule: binary for one unit, else the class with the highest output.

    A serialized metric with options that make it no function of means over samples keeps its entry.
    """
    name, config = _named(entry)
    label = entry if isinstance(entry, str) else str(config.get("name", name))
    if name == "accuracy" and not config:
        name = "binary_accuracy" if port.shape and port.shape[-1] == 1 else "categorical_accuracy"
    fitted = _BY_KIND[kind].get(name, name)
    options = _options(name, entry, config)
    if fitted in BY_SAMPLE and set(options) <= set(BY_SAMPLE[fitted]):
        return Metric(label, fitted, output, options)
    return Metric(label, name, output, entry=entry)


def _options(name: str, entry: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that differ from those of Keras' metric as it is by default."""
    usual: Mapping[str, Any] = {}
    if config and name in BY_SAMPLE and entry["class_name"] != "MeanMetricWrapper":
        usual = keras.metrics.get(entry["class_name"]).get_config()
    beside = ("name", "dtype", "fn")
    options = {k: v for k, v in config.items() if k not in beside and v is not None and v != usual.get(k)}
    if np.size(options.get("thresholds", ())) == 1:
        options["threshold"] = float(np.ravel(options.pop("thresholds"))[0])
    return options


def _problem(metric: Metric, labels: Labels, port: Port) -> str | None:
    """Why a metric cannot be computed on these labels, found by trying it on a few; None where it can."""
    if _says_nothing(metric, port):
        return "it compares classes, but the output has one value per sample (accuracy and binary_accuracy go with it)"
    config = metric.entry.get("config") if isinstance(metric.entry, Mapping) else None
    whole = isinstance(config, Mapping) and config.get("sparse_y_true") is True
    if labels.kind == "sparse" and not metric.name.startswith("sparse_") and not whole:
        return (
            f"it compares values of the output's shape {port.shape}, but the labels are class numbers (accuracy and "
            "sparse_top_k_categorical_accuracy go with them)"
        )
    if metric.entry is None:
        return None
    try:
        own = streaming(metric)
        own.update_state(*_few(labels, port))
        shape = tuple(np.shape(own.result()))
    except Exception as error:
        return f"Keras says: {_short(error)}"
    return f"it gives {shape} values instead of one number" if shape else None


def streaming(metric: Metric) -> Any:
    """Keras' own object for a metric, as the compile config describes it. Raises what Keras does."""
    found = keras.metrics.get(metric.entry)
    if isinstance(found, keras.metrics.Metric):
        return found
    return keras.metrics.MeanMetricWrapper(found, metric.name)


def _few(labels: Labels, port: Port) -> tuple[Any, Any]:
    """The first labels, and outputs that would go with them."""
    few = labels.values[:2]
    shape = (*few.shape, port.shape[-1]) if labels.kind == "sparse" else few.shape
    return few, np.full(shape, 0.5, np.float32)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


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
