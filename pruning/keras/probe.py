"""Inputs to run a model on: samples where there are some, else random ones in the dtypes and ranges that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
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
Shapes: TypeAlias = Sequence[tuple[int, ...]]
_FREE, _NESTED = 64, 8
# Multiples of nearly all small numbers, few steps for short tables of positions, many for convolutions without padding
# (188: the least of U-Nets), sides of images whose positions are written down.
_SIZES = (8, 16, 28, 32, 40, 48, 50, 56, 60, 63, 96, 100, 120, 126, 128, 160, 188, 192, 224, 256, 299, 384, 512)
# How many times as long one input may be as another, and how much longer.
_FACTORS, _DIFFERENCES, _TRIES = (1, 2, 3, 4, 8, 16, 32, 256), range(1, 17), 100
_MOST, _LEAST, _ELEMENTS, _LARGEST = 8, 2, 2**19, 2**20


def probes(
    model: keras.Model,
    vocabularies: Vocabularies,
    inputs: Sequence[Array] | None,
    seed: int = 0,
    count: int = 32,
    like: Probe | None = None,
) -> list[Probe]:
    """Inputs to compare models on: the first samples, or random ones in 0 ... 1 and, if any are numbers, 0 ... 255.

    Random ones are 8, or as many, 2 at least, as hold 2**19 numbers: 3 images of 224x224, 2 of 600x600. A model that
    takes batches of one size alone gets just that many: a reshape in it may have the batch written down. `like`: see
    `shapes`.
    """
    own = batch_of(model)
    if inputs is not None:
        dtypes = [str(tensor.dtype) for tensor in model.inputs]
        first = [array[: own or count] for array in inputs]
        whole = first if own is None else [array[np.arange(own) % len(array)] for array in first]
        return [[data.cast(array, dtype) for array, dtype in zip(whole, dtypes, strict=True)]]
    ranges = (1.0,) if all(vocabularies) else (1.0, 255.0)
    given = shapes(model, vocabularies, _free(model), like)
    few = own or min(count, _MOST, max(_LEAST, _ELEMENTS // max(1, _elements(given))))
    return [random(model, vocabularies, few, given, high, seed) for high in ranges]


def _free(model: keras.Model) -> int:
    """Fewer where Keras loops over steps of steps: 64 times 64 steps of words and sentences take minutes."""
    nested = any(list(tensor.shape[1:]).count(None) > 1 for tensor in model.inputs)
    loops = any(isinstance(layer, keras.layers.TimeDistributed) for layer in private.layers(model))
    return _NESTED if nested and loops else _FREE


def shapes(model: keras.Model, vocabularies: Vocabularies, wanted: int, like: Probe | None = None) -> Shapes:
    """Shapes of samples that the model takes, one for each input: free dimensions are `wanted`, or what is next to it.

    A reshape that puts three steps side by side takes multiples of three alone, convolutions without padding ask for 75
    pixels, a mask may be half as wide as its image. Where nothing else will do, the shapes are those of `like`, inputs
    that the model takes; without it `wanted`: then the call that needs them says why.
    """
    first, *others = _candidates(model, wanted)
    if all(None not in tensor.shape[1:] for tensor in model.inputs):
        return first
    most = max(_LARGEST, _elements(first))
    small = [found for found in others if _elements(found) <= most]
    own = [] if like is None else [[array.shape[1:] for array in like]]
    return next((found for found in (first, *small, *own) if _takes(model, vocabularies, found)), first)


def _candidates(model: keras.Model, wanted: int) -> Iterator[Shapes]:
    """`wanted` first: one size for all inputs, then one input some times as long as another or a bit longer."""
    free = sum(None in tensor.shape[1:] for tensor in model.inputs)
    nearest = sorted((wanted, *_SIZES), key=lambda size: abs(size - wanted))
    for size in nearest:
        yield _shapes(model, [size] * free)
    if free > 1:
        for factors in islice(_factors(free), _TRIES):
            # Not 1, which goes with any other size.
            yield _shapes(model, [max(2, wanted // max(factors)) * factor for factor in factors])
        for more, place in product(_DIFFERENCES, range(free)):
            yield _shapes(model, [wanted + more * (place == other) for other in range(free)])
    # A table of positions that is read as a whole takes as many steps as it has places.
    for size in sorted(size for size in private.sizes(model) if _SIZES[0] < size < _SIZES[-1]):
        yield _shapes(model, [size] * free)


def _factors(count: int) -> Iterator[tuple[int, ...]]:
    """How many times as long as the shortest each of so many inputs may be, small factors first."""
    for most in _FACTORS[1:]:
        every = product([factor for factor in _FACTORS if factor <= most], repeat=count)
        yield from (factors for factors in every if (min(factors), max(factors)) == (1, most))


def _shapes(model: keras.Model, sizes: Sequence[int]) -> Shapes:
    """The shapes of samples with these sizes for the free dimensions of each input that has some."""
    most, left = hub.longest(model), iter(sizes)
    found = []
    for tensor in model.inputs:
        free = next(left) if None in tensor.shape[1:] else 0
        found.append(tuple(min(free, most or free) if size is None else size for size in tensor.shape[1:]))
    return found


def _elements(given: Shapes) -> int:
    """Numbers in one sample."""
    return sum(prod(shape) for shape in given)


def _takes(model: keras.Model, vocabularies: Vocabularies, given: Shapes) -> bool:
    batch = next((tensor.shape[0] for tensor in model.inputs if tensor.shape[0] is not None), 1)
    inputs = [tf.constant(array) for array in random(model, vocabularies, batch, given)]
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
        found = live.call(model, random(model, anything, other, shapes(model, anything, _free(model))))
    except Exception:
        return own
    return None if {len(output) for output in found} == {other} else own


def random(
    model: keras.Model, vocabularies: Vocabularies, count: int, given: Shapes, high: float = 1.0, seed: int = 0
) -> Probe:
    """`count` random samples for each input: indices inside its vocabulary where it has one, else 0 ... `high`.

    `vocabularies`: see `case.Case`. `given`: the shapes of one sample.
    """
    rng = np.random.default_rng(seed)
    found = []
    for tensor, vocabulary, one in zip(model.inputs, vocabularies, given, strict=True):
        shape = (count, *one)
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
