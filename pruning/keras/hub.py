"""Models of keras-hub: backbones and tasks become plain Functional models of the same layers.

Their configs hold the constructor's arguments and not the graph. What is here reads the graph from the live model, so
that what is saved of it is a graph like any other; the layers stay those of keras-hub. The package is imported only
where a config names it.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import keras

from pruning.contract.errors import UnreadableFile
from pruning.contract.hub import is_hub, is_task
from pruning.keras import private

Config = Mapping[str, Any]


def require(config: Config) -> None:
    """Import keras-hub if the config names it. Raises `UnreadableFile` where it is not installed."""
    if '"keras_hub' not in json.dumps(config):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module("keras_hub")
    except ImportError as error:
        raise UnreadableFile(
            "the model holds layers of keras-hub, which is not installed here: install Secateur with its extra `hub` "
            "(pip install 'secateur-server[hub]')"
        ) from error


def without_preprocessors(value: Any) -> Any:
    """The config without the preprocessors of task models: they read files, and no pruned model needs them."""
    if isinstance(value, dict):
        dropped = {"preprocessor": None} if is_task(value) else {}
        return {key: without_preprocessors(item) for key, item in (value | dropped).items()}
    return [without_preprocessors(item) for item in value] if isinstance(value, list) else value


def preprocessors(value: Any) -> list[str]:
    """The class names of what `without_preprocessors` leaves out, in the order of the config."""
    if isinstance(value, list):
        return [name for item in value for name in preprocessors(item)]
    if not isinstance(value, dict):
        return []
    dropped = value["preprocessor"] if is_task(value) else None
    own = [] if dropped is None else [str(dropped.get("class_name")) if isinstance(dropped, dict) else str(dropped)]
    return own + preprocessors([item for item in value.values() if item is not dropped])


def plain(model: keras.Model) -> keras.Model:
    """The same computation on the same layers without models of keras-hub; a model that holds none as it is.

    Backbones are taken apart where they stand, nested ones too, and in them a ViT's encoder into its blocks, which have
    a width of their own, and a sum of embeddings into these, of which a masked-LM head reads one. A layer whose name is
    taken by another gets a number.
    """
    for layer in private.layers(model):
        if is_hub(type(layer).__module__) and not isinstance(layer, keras.Model):
            _describe_by_arguments(layer)
    if not _holds_hub(model):
        return model
    inputs = keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name),
        private.functional(model).input,
    )
    outputs = private.run(model, inputs, _Caller([tensor.name for tensor in keras.tree.flatten(inputs)]))
    found = keras.Model(inputs, outputs, name=model.name)
    if model.compiled:
        found.compile_from_config(model.get_compile_config())
    return found


def longest(model: keras.Model) -> int | None:
    """The longest sequence that the model's position embeddings take; None without any."""
    lengths = [layer.sequence_length for layer in private.layers(model) if type(layer).__name__ == "PositionEmbedding"]
    return min(lengths, default=None)


def _holds_hub(model: keras.Model) -> bool:
    models = [layer for layer in [model, *private.layers(model)] if isinstance(layer, keras.Model)]
    return any(is_hub(type(one).__module__) for one in models)


class _Caller:
    """Calls the layers of a graph again, in new nodes; models of keras-hub dissolve into theirs."""

    def __init__(self, taken: list[str]) -> None:
        self._named: dict[str, Any] = dict.fromkeys(taken)

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, keras.Model) and _holds_hub(layer):
            return private.run(layer, args[0] if args else kwargs["inputs"], self)
        if type(layer).__name__ == "ViTEncoder":
            value = args[0]
            for part in (layer.dropout, *layer.encoder_layers, layer.layer_norm):
                value = self(part, value)
            return value
        if (
            type(layer).__name__ == "TokenAndPositionEmbedding"
            and len(args) == 1
            and not layer.token_embedding.mask_zero
        ):
            tokens = self(layer.token_embedding, *args)
            return keras.layers.Add(dtype=layer.dtype_policy)([tokens, self(layer.position_embedding, tokens)])
        name, number = layer.name, 1
        while self._named.setdefault(layer.name, layer) is not layer:
            layer.name, number = f"{name}_{number}", number + 1
        return layer(*args, **kwargs)


def _describe_by_arguments(layer: Any) -> None:
    """Let a layer's config be its constructor's arguments, whatever its class writes of itself.

    Some classes of keras-hub are only ever built by a backbone: their `get_config` fails, leaves arguments out or gives
    values that the constructor refuses.
    """
    names = [name for name in inspect.signature(type(layer).__init__).parameters if hasattr(layer, name)]

    def get_config() -> dict[str, Any]:
        base: dict[str, Any] = keras.layers.Layer.get_config(layer)
        return base | {name: _serialized(getattr(layer, name)) for name in names}

    layer.get_config = get_config


def _serialized(value: Any) -> Any:
    if inspect.isfunction(value):
        return keras.activations.serialize(value)
    return keras.saving.serialize_keras_object(value)
