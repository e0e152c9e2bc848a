"""Inputs to run a model on: samples where there are some, else random ones in the dtypes and ranges that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pruning.keras import data, hub, live, private

Array: TypeAlias = NDArray[Any]
Probe: TypeAlias = list[Array]
Vocabularies: TypeAlias = Sequence[int | None]
_FREE = 64
# Multiples of nearly all small numbers, few steps for short tables of positions, many for convolutions without padding
# (188: the least of U-Nets).
_SIZES = (8, 16, 32, 48, 50, 56, 60, 63, 96, 120, 126, 128, 188, 256, 384, 512)
_MOST, _LEAST, _ELEMENTS, _LARGEST = 8, 2, 2**19, 2**20


def probes(
    model: keras.Model, vocabularies: Vocabularies, inputs: Sequence[Array] | None, seed: int = 0, count: int = 32
) -> list[Probe]:
    """Inputs to compare models on: the first samples, or random ones in 0 ... 1 and, if any are numbers, 0 ... 255.

    Random ones are 8, or as many, 2 at least, as hold 2**19 numbers: 3 images of 224x224, 2 of 600x600. A model that
    takes batches of one size alone gets just that many: a reshape in it may have the batch written down.
    """
    own = batch_of(model)
    if inputs is not None:
        dtypes = [str(tensor.dtype) for tensor in model.inputs]
        first = [array[: own or count] for array in inputs]
        whole = first if own is None else [array[np.arange(own) % len(array)] for array in first]
        return [[data.cast(array, dtype) for array, dtype in zip(whole, dtypes, strict=True)]]
    ranges = (1.0,) if all(vocabularies) else (1.0, 255.0)
    free = free_size(model, vocabularies, _FREE)
    few = own or min(count, _MOST, max(_LEAST, _ELEMENTS // max(1, _elements(model, free))))
    return [random(model, vocabularies, few, free, high, seed) for high in ranges]


def free_size(model: keras.Model, vocabularies: Vocabularies, wanted: int) -> int:
    """A size for free dimensions that the model takes: `wanted`, or the nearest of some others.

    A reshape that puts three steps side by side takes multiples of three alone, and convolutions without padding ask
    for 75 pixels. `wanted` also where none will do: then the call that needs one says why.
    """
    if all(None not in tensor.shape[1:] for tensor in model.inputs):
        return wanted
    small = (size for size in _SIZES if size < wanted or _elements(model, size) <= _LARGEST)
    nearest = sorted((wanted, *small), key=lambda size: abs(size - wanted))
    return next((size for size in nearest if _takes(model, vocabularies, size)), wanted)


def _elements(model: keras.Model, free: int) -> int:
    """Numbers in one sample."""
    return sum(prod(free if size is None else size for size in tensor.shape[1:]) for tensor in model.inputs)


def _takes(model: keras.Model, vocabularies: Vocabularies, free: int) -> bool:
    batch = next((tensor.shape[0] for tensor in model.inputs if tensor.shape[0] is not None), 1)
    inputs = [tf.constant(array) for array in random(model, vocabularies, batch, free)]
    try:
        traced = live.traced(model, inputs)
        # TensorFlow's pooling of nothing ends the process.
        results = (tensor.shape for operation in traced.graph.get_operations() for tensor in operation.outputs)
        if any(shape.rank is not None and shape.rank > 2 and 0 in shape for shape in results):
            return False
        traced(inputs)
    except Exception:
        return False
    return True


def batch_of(model: keras.Model) -> int | None:
    """The size of batch that the model takes and no other, None where any will do.

    That its inputs name one binds nobody: the others are tried, since a batch may be larger than a proof can afford.
    """
    own = next((int(tensor.shape[0]) for tensor in model.inputs if tensor.shape[0] is not None), None)
    if own is None:
        return None
    other, anything = 1 if own > 1 else 2, [None] * len(model.inputs)
    try:
        found = live.call(model, random(model, anything, other, free_size(model, anything, _FREE)))
    except Exception:
        return own
    return None if {len(output) for output in found} == {other} else own


def random(
    model: keras.Model, vocabularies: Vocabularies, count: int, free: int, high: float = 1.0, seed: int = 0
) -> Probe:
    """`count` random samples for each input: indices inside its vocabulary where it has one, else 0 ... `high`.

    `vocabularies`: see `case.Case`. Free dimensions become `free`, or less where position embeddings take no more.
    """
    rng = np.random.default_rng(seed)
    free = min(free, hub.longest(model) or free)
    found = []
    for tensor, vocabulary in zip(model.inputs, vocabularies, strict=True):
        shape = (count, *(free if size is None else size for size in tensor.shape[1:]))
        if tensor.dtype == "string":
            found.append(_texts(model, shape, rng))
            continue
        drawn = rng.integers(0, vocabulary, shape) if vocabulary else rng.uniform(0.0, high, shape)
        found.append(drawn.astype(str(tensor.dtype)))
    return found


def _texts(model: keras.Model, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Texts of one to three words that the model's lookups know, or of letters."""
    tables = [table.get_vocabulary(include_special_tokens=False) for table in private.lookups(model)]
    known = {str(word) for table in tables for word in table}
    words = sorted(known or "abcdefgh")
    texts = [" ".join(rng.choice(words, 1 + place % 3)) for place in range(prod(shape))]
    return np.array(texts, "str").reshape(shape)
