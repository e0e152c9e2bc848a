"""The one place that reaches into Keras' private parts.

Keras names the arrays of a `.keras` file by a walk over the model's attributes that it keeps to itself; `_save_state`
is that walk.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.backend import name_scope
from keras.src.layers.preprocessing.index_lookup import IndexLookup
from keras.src.saving import saving_lib, serialization_lib

_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")


class _Recorder(saving_lib.NpzIOStore):  # type: ignore[misc]
    """A weights store that keeps the variables themselves instead of writing their values."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Any]] = {}
        self.names: dict[str, str] = {}

    def make(self, path: str, metadata: dict[str, str] | None = None) -> dict[str, Any]:
        if metadata:
            self.names[path] = metadata["name"]
        return self.groups.setdefault(path, {})

    def __bool__(self) -> bool:
        return True


def layers(model: keras.Model) -> list[Any]:
    """Every layer of a model, those of nested models and inside wrappers too."""
    return list(model._flatten_layers(include_self=False))


def lookups(model: keras.Model) -> list[Any]:
    """The tables of a model's StringLookup, IntegerLookup and TextVectorization layers."""
    tables = [getattr(layer, "_lookup_layer", layer) for layer in layers(model)]
    return [table for table in dict.fromkeys(tables) if isinstance(table, IndexLookup)]


def keep_vocabularies(model: keras.Model) -> None:
    """Write what lookups were adapted to into their configs, as if it had been given to them, instead of into files."""
    for table in lookups(model):
        special = len(table.get_vocabulary()) - len(words := table.get_vocabulary(include_special_tokens=False))
        if table.input_vocabulary is None and words:
            table.input_vocabulary = [np.asarray(word).item() for word in words]
            if table.output_mode == "tf_idf":
                table.input_idf_weights = np.asarray(table.idf_weights_const)[special:].tolist()


def with_plain_scopes(model: keras.Model) -> keras.Model:
    """The model, with layers whose names TensorFlow's graphs do not take run under plain ones; the names stay."""
    for layer in [model, *layers(model)]:
        if not _SCOPE.fullmatch(layer.name):
            plain = "layer_" + re.sub(r"[^A-Za-z0-9_]", "_", layer.name)
            vars(layer)["_open_name_scope"] = partial(name_scope, plain, caller=layer)
    return model


def constants(operation: Any, leaves: int) -> set[int]:
    """Which of so many flattened arguments of an operation's calls hold no tensor of the graph."""
    given = [keras.tree.flatten(node.arguments.args) for node in operation._inbound_nodes]
    return {
        place
        for place in range(leaves)
        if given and len(given[0]) == leaves and not isinstance(given[0][place], keras.KerasTensor)
    }


def in_double(model: keras.Model) -> keras.Model:
    """The model, with the scales of attentions that compute in float64 in float64 too.

    Keras keeps 1 / sqrt(key_dim) as a Python number, which TensorFlow rounds to float32 on the way.
    """
    for layer in layers(model):
        for name in ("_inverse_sqrt_key_dim", "_inverse_sqrt_head_dim"):
            if layer.compute_dtype == "float64" and hasattr(layer, name):
                setattr(layer, name, np.asarray(getattr(layer, name), np.float64))
    return model


def functional(model: keras.Model) -> keras.Model:
    """The Functional model that a Sequential is inside; any other as it is."""
    return getattr(model, "_functional", None) or model


def sizes(model: keras.Model) -> set[int]:
    """All sizes that tensors of the model's graph have in any axis but the batch's, as far as they are known."""
    nodes = [node for depth in functional(model)._nodes_by_depth.values() for node in depth]
    return {size for node in nodes for tensor in node.output_tensors for size in tensor.shape[1:] if size is not None}


def run(model: keras.Model, inputs: Any, call: Callable[..., Any]) -> Any:
    """The outputs of a model's graph on other inputs, each layer called by `call(layer, *args, **kwargs)`."""
    graph = functional(model)
    if isinstance(inputs, dict) and not isinstance(graph.input, dict):
        inputs = [inputs[tensor.name] for tensor in graph.inputs]
    found = graph._run_through_graph(inputs, operation_fn=lambda layer: layer, call_fn=call)
    return found[0] if isinstance(found, list | tuple) and len(found) == 1 else found


def sharing() -> AbstractContextManager[None]:
    """Within it configs that name one object are read as one object, as `load_model` reads them."""
    scope: AbstractContextManager[None] = serialization_lib.ObjectSharingScope()
    return scope


def mask_of(tensor: Any) -> Any:
    """The mask that a layer gave its output, None without one."""
    return getattr(tensor, "_keras_mask", None)


def with_mask(tensor: Any, mask: Any) -> Any:
    """The tensor with this mask, if it is one."""
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


def variables(model: keras.Model) -> dict[str, Any]:
    """{path as in the weights file: variable} of a model, without its optimizer."""
    return _variables(_recorded(model, None))


@dataclass(frozen=True)
class Saved:
    """What Keras writes into a model's file, without its optimizer's state; `names` and `assets` as in `Archive`."""

    config: dict[str, Any]
    metadata: dict[str, Any]
    variables: dict[str, Any]
    names: dict[str, str]
    assets: dict[str, bytes]


def saved(model: keras.Model) -> Saved:
    """The parts of a model's file, before anything is written."""
    config, metadata = saving_lib._serialize_model_as_json(model)
    store = saving_lib.DiskIOStore("assets", mode="w")
    try:
        recorder = _recorded(model, store)
        root = Path(store.working_dir)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        assets = {f"assets/{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}
    finally:
        store.close()
    held = {path: recorder.names.get(path, "") for path, group in recorder.groups.items() if group}
    names = {path: name for path, name in (recorder.names | held).items() if path.split("/")[0] != "optimizer"}
    return Saved(json.loads(config), json.loads(metadata), _variables(recorder), names, assets)


def _recorded(model: keras.Model, assets: Any) -> _Recorder:
    recorder = _Recorder()
    saving_lib._save_state(model, recorder, assets, "", set())
    return recorder


def _variables(recorder: _Recorder) -> dict[str, Any]:
    return {
        f"{path}/vars/{key}" if path else f"vars/{key}": variable
        for path, group in recorder.groups.items()
        if path.split("/")[0] != "optimizer"
        for key, variable in group.items()
    }
