"""The proof of surgery: in float64, with redrawn weights, the masked original computes what the pruned model does."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pruning import archive as archives
from pruning import graph as graphs
from pruning import surgery, units
from pruning.archive import Archive
from pruning.graph import Graph
from pruning.keras import live, masked
from pruning.keras.private import in_double
from pruning.rules.trace import NormalizedAxes
from pruning.units import Units
from tests import graphs as graphs_of_zoo

Arrays = list[np.ndarray[Any, Any]]


def archived(model: keras.Model) -> Archive:
    """A model as its file has it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        archive = archives.read(path)
        # The map stays readable after the file is gone; copies are easier to look at in a debugger.
        return replace(archive, arrays={key: np.array(array) for key, array in archive.arrays.items()})


def loaded(archive: Archive) -> keras.Model:
    """The archive as Keras opens it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        archives.write(path, archive)
        return keras.saving.load_model(path, compile=False)


def traced(archive: Archive, normalized_axes: NormalizedAxes = "keep") -> tuple[Graph, Units]:
    """Graph and units of an archive, names checked."""
    graph = graphs.build(archive.config)
    graphs.check_names(graph, archive.names)
    return graph, units.find(graph, archive.arrays, normalized_axes)


def redrawn(archive: Archive, found: Units, seed: int = 0) -> Archive:
    """The archive in float64 with fresh weights: kernels He-scaled, positive vectors in [0.5, 1.5], else normal 0.3."""
    rng = np.random.default_rng(seed)
    arrays = {}
    # What a TimeDistributed wraps may be a normalisation.
    positive = ("Normalization", "TimeDistributed")
    normalizations = {entry.weights for entry in found.layers if any(word in entry.class_name for word in positive)}
    for path, array in archive.arrays.items():
        if array.dtype.kind != "f":
            arrays[path] = array
        elif array.ndim > 1:
            arrays[path] = rng.normal(0, np.sqrt(2 / np.prod(array.shape[:-1])), array.shape)
        elif any(path in paths for paths in normalizations):
            arrays[path] = rng.uniform(0.5, 1.5, array.shape)
        else:
            arrays[path] = rng.normal(0, 0.3, array.shape)
    return replace(archive, config=live.computing_in(archive.config, "float64"), arrays=arrays)


def random_inputs(archive: Archive, graph: Graph, seed: int = 0) -> Arrays:
    """Three samples for each input; unknown sizes are 12, integers lie in 0 to 3."""
    rng = np.random.default_rng(seed)
    dtypes = [
        layer["config"].get("dtype", "float64")
        for layer in archive.config["config"]["layers"]
        if layer["class_name"] == "InputLayer"
    ]
    inputs = []
    for position, tensor in enumerate(graph.inputs):
        shape = [3 if axis == 0 else n or 12 for axis, n in enumerate(graph.shapes[tensor] or ())]
        whole = position < len(dtypes) and str(dtypes[position]).startswith(("int", "uint"))
        inputs.append(rng.integers(0, 4, shape) if whole else rng.normal(0, 1, shape))
    return inputs


class Live:
    """An archive's model as Keras opens and runs it, with any values for its arrays."""

    def __init__(self, archive: Archive, model: keras.Model | None = None) -> None:
        self.archive = archive
        self.model = in_double(model or loaded(archive))
        # TensorFlow convolves channels first on a CPU only by XLA.
        first = '"channels_first"' in json.dumps(archive.config)
        self.call = tf.function(self.model, jit_compile=True, autograph=False) if first else self.model

    def run(self, inputs: Arrays, arrays: archives.Arrays | None = None) -> Arrays:
        """The outputs in order; `arrays` replace the model's own, for this and later runs."""
        if arrays is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.weights.h5"
                path.write_bytes(archives.written_h5(replace(self.archive, arrays=arrays)))
                self.model.load_weights(path)
        struct = getattr(self.model, "_inputs_struct", None)
        fed = inputs[0] if struct is None else keras.tree.pack_sequence_as(struct, inputs)
        found = self.call(keras.tree.map_structure(tf.constant, fed), training=False)
        return [np.asarray(output) for output in keras.tree.flatten(found)]


@contextmanager
def double() -> Iterator[None]:
    """Models built inside compute in float64."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


class Proof:
    """One model's units, put to the proof in float64.

    `model`: the archive's own, built in float64 with random weights; without it the weights are redrawn and loaded.
    """

    def __init__(self, archive: Archive, model: keras.Model | None = None, seed: int = 0) -> None:
        self.archive, self.seed = archive, seed
        self.graph, self.units = traced(archive)
        self.fresh = redrawn(archive, self.units, seed) if model is None else archive
        self.inputs = random_inputs(self.fresh, self.graph, seed)
        self.live = Live(self.fresh, model)
        self.original = self.live.run(self.inputs)

    def differences(self, removed: Any = None, normalized_axes: NormalizedAxes = "keep") -> tuple[float, float]:
        """(masked against pruned, original against masked); units are found anew, by the rules as they are now."""
        _, found = traced(self.archive, normalized_axes)
        removed = some_units(found, self.seed) if removed is None else removed
        pruned = surgery.apply(self.fresh, self.graph, found, removed)
        surgery.check(pruned, found, removed)
        with masked.without(self.live.model, found, removed):
            expected = self.live.run(self.inputs, surgery.mask(self.fresh.arrays, found, removed))
        return difference(expected, Live(pruned).run(self.inputs)), difference(self.original, expected)


def difference(first: Arrays, second: Arrays) -> float:
    """The largest difference over all outputs, relative to the largest value of that output."""
    worst = 0.0
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        worst = max(worst, float(np.max(np.abs(a - b)) / max(np.max(np.abs(a)), 1e-30)))
    return worst


def some_units(found: Units, seed: int = 0, share: float = 0.5) -> np.ndarray[Any, Any]:
    """About this share of the units of every group that may be pruned, at least one stays."""
    rng = np.random.default_rng(seed)
    removed = [np.empty(0, np.int64)]
    for group in found.groups:
        width = len(group.units)
        if group.barrier is None and width > 1:
            removed.append(rng.choice(group.units, max(1, min(width - 1, round(share * width))), replace=False))
    return np.concatenate(removed)


@cache
def zoo(name: str) -> Proof:
    """A model of the zoo, built once for all tests."""
    with double():
        model = graphs_of_zoo.build(name)
    archive = archived(model)
    return Proof(archive, None if "float16" in json.dumps(archive.config) else model)
