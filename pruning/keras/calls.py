"""The calls of a graph on live layers, one by one, in inference mode: what a model does at once, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import keras

from pruning import nodes
from pruning.graph import Op
from pruning.keras.private import mask_of, with_mask
from pruning.nodes import Ref
from pruning.steps import Location


def live_layers(model: Any, config: Mapping[str, Any], location: Location = ()) -> dict[Location, Any]:
    """The live layer or operation of each entry of the config, by its place there; wrapped ones and nested ones too."""
    if not nodes.is_model(config):
        found = {location: model}
        inner = config["config"].get("layer")
        if isinstance(inner, Mapping) and hasattr(model, "layer"):
            found |= live_layers(model.layer, inner, (*location, "config", "layer"))
        return found
    found = {}
    operations = {one.name: one for one in (getattr(model, "operations", None) or model.layers)}
    entries = config["config"]["layers"]
    known = {entry["config"].get("name") for entry in entries}
    # What cannot be given its name has got a new one: there the order tells.
    renamed = [one for name, one in operations.items() if name not in known]
    for index, entry in enumerate(entries):
        live = operations.get(entry["config"].get("name"))
        if "name" not in entry["config"]:
            live = next((one for one in renamed if type(one).__name__ == entry["class_name"]), None)
            renamed = [one for one in renamed if one is not live]
        if live is not None:
            found |= live_layers(live, entry, (*location, "config", "layers", index))
    return found


def called(live: Any, op: Op, values: Mapping[int, Any]) -> Any:
    """What a layer or operation makes of the tensors that the op's arguments name, in inference mode."""
    arguments = [_filled(argument, values) for argument in op.args]
    named = {name: _filled(argument, values) for name, argument in op.kwargs.items()}
    # As in a call of the whole model, its mode comes before the one that the config recorded for the layer.
    if isinstance(live, keras.Layer) and "training" in signature(live.call).parameters:
        named["training"] = False
    return live(*arguments, **named)


def as_input(value: Any, live: Any) -> Any:
    """What a model inside takes: in the dtype of its input `live`, with its mask; as it is where that is not known."""
    dtype = value.dtype if live is None else live.output.dtype
    if keras.backend.standardize_dtype(value.dtype) == dtype:
        return value
    return with_mask(keras.ops.cast(value, dtype), mask_of(value))


def _filled(argument: Any, values: Mapping[int, Any]) -> Any:
    """An argument as the config writes it, with its tensors."""
    if isinstance(argument, Ref):
        return values[argument.tensor]
    if isinstance(argument, list | tuple):
        return [_filled(item, values) for item in argument]
    if not isinstance(argument, Mapping):
        return argument
    if argument.get("class_name") == "__tuple__":
        return tuple(_filled(item, values) for item in argument["items"])
    if argument.get("class_name") == "__slice__":
        return slice(*(_filled(argument["config"][part], values) for part in ("start", "stop", "step")))
    if "class_name" in argument and "config" in argument:
        return keras.saving.deserialize_keras_object(dict(argument))
    return {key: _filled(item, values) for key, item in argument.items()}
