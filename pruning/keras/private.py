"""The one place that reaches into Keras' private parts.

Keras names the arrays of a `.keras` file by a walk over the model's attributes that it keeps to itself; `_save_state`
is that walk.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras.src.saving import saving_lib


class _Recorder(saving_lib.NpzIOStore):  # type: ignore[misc]
    """A weights store that keeps the variables themselves instead of writing their values."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Any]] = {}

    def make(self, path: str, **_: Any) -> dict[str, Any]:
        return self.groups.setdefault(path, {})

    def __bool__(self) -> bool:
        return True


def layers(model: keras.Model) -> list[Any]:
    """Every layer of a model, those of nested models and inside wrappers too."""
    return list(model._flatten_layers(include_self=False))


def in_double(model: keras.Model) -> keras.Model:
    """The model, with the scales of attentions that compute in float64 in float64 too.

    Keras keeps 1 / sqrt(key_dim) as a Python number, which TensorFlow rounds to float32 on the way.
    """
    for layer in layers(model):
        for name in ("_inverse_sqrt_key_dim", "_inverse_sqrt_head_dim"):
            if layer.compute_dtype == "float64" and hasattr(layer, name):
                setattr(layer, name, np.asarray(getattr(layer, name), np.float64))
    return model


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
    recorder = _Recorder()
    saving_lib._save_state(model, recorder, None, "", set())
    return {
        f"{path}/vars/{key}" if path else f"vars/{key}": variable
        for path, group in recorder.groups.items()
        if path.split("/")[0] != "optimizer"
        for key, variable in group.items()
    }
