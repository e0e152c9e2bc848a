"""Between data and live models: an archive's config and arrays as a `keras.Model`, and a model's values as arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning.archive import Archive
from pruning.contract.errors import VerificationFailed
from pruning.keras import hub, private
from pruning.keras.private import variables

Arrays = Mapping[str, NDArray[Any]]
# TensorFlow's CPU kernels have no float64 for these.
_SINGLE = {"MaxPooling3D", "AveragePooling3D", "AdaptiveMaxPooling3D", "AdaptiveAveragePooling3D"}
# These compute a part of what they do in float32, whatever their dtype is.
_PARTLY_SINGLE = {"LlamaLayerNorm", "LlamaTransformerDecoder", "MistralLayerNormalization", "MistralTransformerDecoder"}
_FLOATS = {"float16", "float32", "bfloat16", "mixed_float16", "mixed_bfloat16"}


def build(config: Mapping[str, Any], arrays: Arrays) -> keras.Model:
    """An uncompiled model of this config with these values; one in float64 computes all of it so.

    Raises `VerificationFailed` where Keras does not take the config or the arrays do not fit it.
    """
    hub.require(config)
    bare = {key: value for key, value in config.items() if key not in ("compile_config", "build_config")}
    try:
        with private.sharing():
            model = keras.models.model_from_json(json.dumps(bare))
    except Exception as error:
        raise VerificationFailed(f"Keras cannot build the model: {' '.join(str(error).split())[:300]}") from error
    assign(model, arrays)
    return private.with_plain_scopes(private.in_double(model))


def assign(model: keras.Model, arrays: Arrays) -> None:
    """Give the model's variables these values. Raises `VerificationFailed` for one that is missing or misshapen."""
    for path, variable in variables(model).items():
        if path not in arrays or tuple(arrays[path].shape) != tuple(variable.shape):
            found = arrays[path].shape if path in arrays else None
            raise VerificationFailed(f"array {path!r} has shape {found}, the model needs {tuple(variable.shape)}")
        # What a layer keeps that is no variable, such as the weights of a lookup, stands in its config.
        if hasattr(variable, "assign"):
            variable.assign(arrays[path])
    for layer in private.layers(model):
        if isinstance(layer, keras.layers.Normalization):
            # It computes with a copy of the mean and variance that it was adapted to.
            layer.finalize_state()


def values(model: keras.Model, like: Archive) -> dict[str, NDArray[Any]]:
    """The model's values by path, in the dtypes of `like`'s arrays."""
    return {
        path: np.asarray(keras.ops.convert_to_numpy(variable)).astype(like.arrays[path].dtype, copy=False)
        for path, variable in variables(model).items()
    }


def archive(model: keras.Model) -> Archive:
    """The model as data, as it reads from the file that Keras saves, without optimizer state."""
    saved = private.saved(model)
    arrays: dict[str, NDArray[Any]] = {}
    bfloat16 = set()
    for path in sorted(saved.variables, key=_place):
        array = np.asarray(keras.ops.convert_to_numpy(saved.variables[path]))
        if str(array.dtype) == "bfloat16":
            bfloat16.add(path)
            array = array.astype(np.float32)
        arrays[path] = array
    names = {path: saved.names[path] for path in sorted(saved.names, key=lambda path: _place(f"{path}/vars"))}
    return Archive(saved.config, saved.metadata, arrays, names, saved.assets, frozenset(bfloat16))


def _place(path: str) -> list[bytes]:
    """Where HDF5 lists a path: groups in the order of their bytes."""
    return path.encode().strip(b"/").split(b"/")


def call(model: keras.Model, inputs: Sequence[Any], training: bool = False) -> list[Any]:
    """The model's outputs in order for its inputs in order, whatever structure it was defined with."""
    if not needs_xla(model):
        return direct(model, inputs, training)
    found = _compiled(model, training)([tf.convert_to_tensor(array) for array in inputs])
    return list(found)


def traced(model: keras.Model, inputs: Sequence[Any]) -> Any:
    """`call` as one TensorFlow function of inputs, as a list, that have the shapes of these."""
    return tf.function(lambda given: call(model, given), autograph=False).get_concrete_function(inputs)


def forget(model: keras.Model) -> None:
    """Stateful layers begin anew: what they keep from call to call tells two runs on the same inputs apart."""
    for layer in private.layers(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            # Keras' own `reset_state` fails on the states of stacked cells, which are lists of lists.
            for state in keras.tree.flatten(layer.states):
                state.assign(keras.ops.zeros_like(state))


def direct(model: keras.Model, inputs: Sequence[Any], training: bool = False) -> list[Any]:
    """The same inside a function that is compiled as `needs_xla` asks."""
    sequential = isinstance(model, keras.Sequential)
    packed = inputs[0] if sequential else keras.tree.pack_sequence_as(model.input, list(inputs))
    return list(keras.tree.flatten(model(packed, training=training)))


def _compiled(model: keras.Model, training: bool) -> Any:
    """The model as one program of XLA; kept beside the model's own attributes, since compiling takes seconds."""
    name = f"_compiled_{training}"
    if name not in vars(model):
        call_model = partial(direct, model, training=training)
        vars(model)[name] = tf.function(call_model, autograph=False, jit_compile=True)
    return vars(model)[name]


def said(error: BaseException) -> str:
    """What Keras or TensorFlow say, on one line and not at length. Keras sets the first words of some in bold."""
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:300]


def needs_xla(model: keras.Model) -> bool:
    """Whether TensorFlow has no kernel of its own for the model here: on a CPU, none convolves channels first."""
    first = any(getattr(layer, "data_format", None) == "channels_first" for layer in private.layers(model))
    return first and not tf.config.list_physical_devices("GPU")


def computes_in(model: keras.Model, dtypes: set[str]) -> bool:
    """Whether a layer, wherever it stands in the model, computes in one of these."""
    return any(layer.compute_dtype in dtypes for layer in private.layers(model))


def signature(*arguments: Sequence[NDArray[Any]]) -> list[list[tf.TensorSpec]]:
    """What `tf.function` traces once for batches of any size that are otherwise like these."""
    return [[tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in arrays] for arrays in arguments]


def taken(model: keras.Model, inputs: Sequence[NDArray[Any]]) -> list[tf.TensorSpec]:
    """The same for inputs in the dtypes that the model takes. Keras resizes only images whose sizes it knows."""
    pairs = zip(inputs, model.inputs, strict=True)
    return [tf.TensorSpec((None, *array.shape[1:]), tensor.dtype) for array, tensor in pairs]


def computing_in(config: Any, dtype: str) -> Any:
    """The config with every floating dtype and dtype policy turned into this one, where TensorFlow can."""
    if isinstance(config, Mapping):
        if config.get("class_name") in _SINGLE:
            dtype = "float32"
        return {
            key: dtype if key in ("dtype", "name") and _is_dtype(key, value, config) else computing_in(value, dtype)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [computing_in(item, dtype) for item in config]
    return config


def holds_single(config: Any) -> bool:
    """Whether a layer of this config computes in float32 also `in_float64`."""
    if isinstance(config, Mapping):
        return config.get("class_name") in _SINGLE | _PARTLY_SINGLE or any(map(holds_single, config.values()))
    return isinstance(config, list | tuple) and any(holds_single(item) for item in config)


def _is_dtype(key: str, value: Any, owner: Mapping[str, Any]) -> bool:
    """`name` says a dtype only in the config of a dtype policy, which holds little else."""
    if not isinstance(value, str) or value not in _FLOATS:
        return False
    return key == "dtype" or set(owner) <= {"name", "source_name"}
