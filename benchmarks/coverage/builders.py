"""The models that the coverage table is about: a family each, {name: builder}. A builder makes a model at real size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import isfunction
from typing import TypeAlias

import keras

Builder: TypeAlias = Callable[[], keras.Model]
Shape: TypeAlias = tuple[int, ...]
USUAL = (224, 224, 3)
# A convolution with as many groups as channels is expanded to a dense one on a CPU: hours at real size, in float64.
# The largest EfficientNet takes more than 24 GB at 600 x 600.
PROVEN_AT = {
    "EfficientNetB7": (300, 300, 3),
    "ConvNeXtTiny": (64, 64, 3),
    "ConvNeXtSmall": (64, 64, 3),
    "ConvNeXtBase": (32, 32, 3),
    "ConvNeXtLarge": (32, 32, 3),
    "ConvNeXtXLarge": (32, 32, 3),
}


def applications() -> dict[str, Builder]:
    """Every builder that `keras.applications` offers, with its classifier and without the weights of a download."""
    found = {name: getattr(keras.applications, name) for name in dir(keras.applications)}
    return {name: partial(_sized, make) for name, make in found.items() if isfunction(make)}


def _sized(make: Callable[..., keras.Model]) -> keras.Model:
    """A model of the builder's own input size; where it leaves that free, of the usual one."""
    model = make(weights=None)
    return make(weights=None, input_shape=USUAL) if None in model.input_shape[1:] else model


FAMILIES: Mapping[str, Callable[[], dict[str, Builder]]] = {"keras.applications": applications}


def names_of_all() -> dict[str, str]:
    """{name of a builder: its family}, in the order of the table."""
    return {name: family for family, make in FAMILIES.items() for name in make()}


def build(name: str) -> keras.Model:
    """The model of this name."""
    return FAMILIES[names_of_all()[name]]()[name]()


def smaller(name: str, model: keras.Model) -> keras.Model:
    """The model to run: where its own input is too large for that, one of the same weights on smaller images."""
    if name not in PROVEN_AT:
        return model
    made = getattr(keras.applications, name)(weights=None, input_shape=PROVEN_AT[name])
    made.set_weights(model.get_weights())
    return made
