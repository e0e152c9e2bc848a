"""What Keras 2 wrote, as Keras 3 reads it: pure functions on JSON.

Keras 3 reads most of a Keras 2 architecture, refuses some keys that it no longer knows, and gets one thing silently
wrong (`batch_input_shape` in a Sequential model gains a dimension). Everything is spelled out here instead.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pruning.contract.errors import UnreadableFile

Config = dict[str, Any]

_CLASSES = {
    "Model": "Functional",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
}
_MODULES = {"Functional": "keras.src.models.functional", "Sequential": "keras"}
_OPERATIONS = {"TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceProperty", "TensorFlowOpLayer"}
_ANY = object()
_RECURRENT: Mapping[str, Any] = {"time_major": False, "implementation": _ANY}
_SEPARABLE: Mapping[str, Any] = {
    "groups": 1,
    "kernel_initializer": _ANY,
    "kernel_regularizer": _ANY,
    "kernel_constraint": _ANY,
}
_SPATIAL: Mapping[str, Any] = {"noise_shape": _ANY, "trainable": _ANY}
# Keys that Keras 3 no longer takes, with the one value that may be dropped without changing the model.
_DROPPED: Mapping[str, Mapping[str, Any]] = {
    "DepthwiseConv1D": _SEPARABLE,
    "DepthwiseConv2D": _SEPARABLE,
    "SeparableConv1D": _SEPARABLE,
    "SeparableConv2D": _SEPARABLE,
    "Conv1DTranspose": {"groups": 1},
    "Conv2DTranspose": {"groups": 1},
    "Conv3DTranspose": {"groups": 1},
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "SimpleRNN": _RECURRENT,
    "RNN": _RECURRENT,
    "LSTMCell": _RECURRENT,
    "GRUCell": _RECURRENT,
    "ConvLSTM1D": {**_RECURRENT, "groups": 1},
    "ConvLSTM2D": {**_RECURRENT, "groups": 1},
    "ConvLSTM3D": {**_RECURRENT, "groups": 1},
    "Embedding": {"input_length": _ANY},
    "SpatialDropout1D": _SPATIAL,
    "SpatialDropout2D": _SPATIAL,
    "SpatialDropout3D": _SPATIAL,
    "MultiHeadAttention": {"query_shape": _ANY, "key_shape": _ANY, "value_shape": _ANY},
    "BatchNormalization": {
        "renorm": False,
        "renorm_clipping": _ANY,
        "renorm_momentum": _ANY,
        "fused": _ANY,
        "virtual_batch_size": None,
        "adjustment": None,
    },
}
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "LeakyReLU": {"alpha": "negative_slope"},
    "InputLayer": {"batch_input_shape": "batch_shape"},
}
_WRAPPED = ("layer", "backward_layer", "cell")
_PARTS = {
    "_initializer": "keras.initializers",
    "_regularizer": "keras.regularizers",
    "_constraint": "keras.constraints",
}
_DISTRIBUTIONS = {"normal": "truncated_normal"}


def modernize(model: Config) -> Config:
    """A Keras 2 (or 3) model's JSON as Keras 3 reads it; the argument is left alone.

    Raises `UnreadableFile` for what has no equal in Keras 3, naming the layer.
    """
    return _layer(copy.deepcopy(model))


def modernize_training(training: Config) -> Config:
    """A Keras 2 `training_config` as keyword arguments of `compile`: strings and dictionaries, nothing is built."""
    optimizer = dict(training.get("optimizer_config") or {"class_name": "RMSprop", "config": {}})
    optimizer["config"] = {k: v for k, v in optimizer.get("config", {}).items() if k not in ("decay", "name")}
    found: Config = {"optimizer": optimizer, "loss": _map_leaves(training.get("loss"), _loss)}
    for key in ("metrics", "weighted_metrics"):
        if value := training.get(key):
            found[key] = _map_leaves(value, _metric)
    if training.get("loss_weights"):
        found["loss_weights"] = training["loss_weights"]
    return found


def _layer(entry: Config) -> Config:
    class_name = _CLASSES.get(str(entry["class_name"]), str(entry["class_name"]))
    entry["class_name"] = class_name
    config = entry.get("config")
    if class_name == "Sequential" and isinstance(config, list):
        config = entry["config"] = {"name": "sequential", "layers": config}
    if not isinstance(config, dict):
        raise UnreadableFile(f"the config of {class_name} is not an object: {str(config)[:80]}")
    name = str(config.get("name", entry.get("name", class_name)))
    _refuse(class_name, name)
    entry.setdefault("module", _MODULES.get(class_name, "keras.layers"))
    entry.setdefault("registered_name", None)
    entry.pop("build_config", None)
    if "layers" in config:
        config["layers"] = [_layer(inner) for inner in config["layers"]]
        if class_name == "Sequential":
            _give_sequential_its_input(config)
        else:
            for inner in config["layers"]:
                inner["config"].pop("batch_input_shape", None)
        _rename_layers(config)
    else:
        _clean(class_name, name, config)
    if isinstance(config.get("name"), str):
        config["name"] = config["name"].replace("/", "_")
    for key in _WRAPPED:
        if isinstance(config.get(key), dict) and "class_name" in config[key]:
            config[key] = _layer(config[key])
            config[key]["config"].pop("batch_input_shape", None)
    return entry


def _refuse(class_name: str, name: str) -> None:
    if class_name in _OPERATIONS or class_name.startswith("TFOp"):
        raise UnreadableFile(
            f"layer {name!r} is a {class_name}: a TensorFlow function used inside a Keras 2 model, which Keras 3 "
            "cannot load. Replace it by a Keras layer (for example Add for +, Rescaling for a scale) and save again"
        )
    if class_name.startswith("PruneLowMagnitude"):
        raise UnreadableFile(
            f"layer {name!r} is wrapped by TensorFlow Model Optimization's {class_name}: call "
            "tfmot.sparsity.keras.strip_pruning(model), save what it returns and upload that"
        )
    if class_name.startswith("CuDNN"):
        raise UnreadableFile(
            f"layer {name!r} is a {class_name}, which Keras 3 has no more: load it in Keras 2 as {class_name[5:]} "
            "and save it"
        )


def _clean(class_name: str, name: str, config: Config) -> None:
    for key, harmless in _DROPPED.get(class_name, {}).items():
        value = config.pop(key, harmless)
        if harmless is not _ANY and value != harmless:
            raise UnreadableFile(f"layer {name!r} ({class_name}) has {key}={value!r}: Keras 3 only knows {harmless!r}")
    for old, new in _RENAMED.get(class_name, {}).items():
        if old in config:
            config.setdefault(new, config.pop(old))
    dtype = config.get("dtype")
    if isinstance(dtype, dict) and str(dtype.get("class_name", "")).startswith("Policy"):
        config["dtype"] = dtype["config"]["name"]
    axis = config.get("axis")
    if class_name == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
        config["axis"] = axis[0]
    for key, value in config.items():
        module = next((module for suffix, module in _PARTS.items() if key.endswith(suffix)), None)
        if module and isinstance(value, dict) and "class_name" in value:
            _part(value, module)


def _part(part: Config, module: str) -> None:
    part.setdefault("module", module)
    part.setdefault("registered_name", None)
    inner = part.setdefault("config", {})
    if module == "keras.initializers":
        inner.pop("dtype", None)
        if inner.get("distribution") in _DISTRIBUTIONS:
            inner["distribution"] = _DISTRIBUTIONS[inner["distribution"]]


def _give_sequential_its_input(config: Config) -> None:
    """Turns the first layer's `batch_input_shape` into an InputLayer."""
    layers = config["layers"]
    shapes = [inner["config"].pop("batch_input_shape", None) for inner in layers]
    if shapes and shapes[0] is not None and layers[0]["class_name"] != "InputLayer":
        first = layers[0]["config"]
        embedding = layers[0]["class_name"] == "Embedding"
        dtype = first.get("dtype", "float32") if not embedding else "float32"
        given = {"batch_shape": shapes[0], "dtype": dtype, "name": f"{first.get('name', 'first')}_input"}
        layers.insert(
            0, {"class_name": "InputLayer", "module": "keras.layers", "registered_name": None, "config": given}
        )
        config.pop("build_input_shape", None)


def _rename_layers(config: Config) -> None:
    """`a/b` becomes `a_b` in one model's layers and in what refers to them."""
    names = [inner.get("name") or inner["config"].get("name") for inner in config["layers"]]
    taken = set(names)
    renamed: dict[str, str] = {}
    for old in names:
        if isinstance(old, str) and "/" in old:
            new = old.replace("/", "_")
            while new in taken:
                new += "_"
            taken.add(new)
            renamed[old] = new
    if not renamed:
        return
    for inner, old in zip(config["layers"], names, strict=True):
        if old in renamed:
            inner["config"]["name"] = renamed[old]
            if "name" in inner:
                inner["name"] = renamed[old]
        if "inbound_nodes" in inner:
            inner["inbound_nodes"] = _rename_references(inner["inbound_nodes"], renamed)
    for key in ("input_layers", "output_layers"):
        if key in config:
            config[key] = _rename_references(config[key], renamed)


def _rename_references(value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return [renamed.get(value[0], value[0]), *(_rename_references(item, renamed) for item in value[1:])]
        return [_rename_references(item, renamed) for item in value]
    if isinstance(value, dict):
        return {key: _rename_references(item, renamed) for key, item in value.items()}
    return value


def _map_leaves(value: Any, function: Any) -> Any:
    if isinstance(value, list):
        return [_map_leaves(item, function) for item in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _map_leaves(item, function) for key, item in value.items()}
    return None if value is None else function(value)


def _loss(loss: Any) -> Any:
    if not isinstance(loss, dict):
        return loss
    config = dict(loss.get("config", {}))
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"
    return {**loss, "config": config}


def _metric(metric: Any) -> Any:
    """Keras 2 wraps `accuracy` as a MeanMetricWrapper around the function that it stands for."""
    if isinstance(metric, dict) and metric.get("class_name") == "MeanMetricWrapper":
        config = metric.get("config", {})
        return config["name"] if config.get("name") in ("accuracy", "acc") else config.get("fn", config.get("name"))
    return metric
