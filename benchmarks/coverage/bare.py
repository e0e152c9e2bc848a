"""A pruned file in a process that has Keras and nothing of this project: `python -I bare.py MODEL REFERENCE OUT`.

REFERENCE holds inputs `x0`, `x1`, ... and outputs `y0`, ... of the masked original. OUT gets a JSON object after each
step, so that what was reached is known whatever happens next.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Arrays = list[np.ndarray[Any, Any]]


def main(path: str, reference: str, out: str) -> None:
    """Load and compare, convert and compare, train one step."""
    found: dict[str, Any] = {}

    def note(**what: Any) -> None:
        found.update(what)
        Path(out).write_text(json.dumps(found), encoding="utf-8")

    assert "pruning" not in sys.modules
    model = keras.saving.load_model(path)
    with np.load(reference) as arrays:
        inputs, expected = ([arrays[key] for key in sorted(arrays) if key[0] == kind] for kind in "xy")
    outputs = keras.tree.flatten(model(keras.tree.pack_sequence_as(model.input, inputs), training=False))
    outputs = [np.asarray(output) for output in outputs]
    note(bare=relative(expected, outputs))
    try:
        note(litert=relative(outputs, in_litert(model, inputs)))
    except Exception as error:
        note(litert_problem=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    note(fit=fits(model, inputs, outputs))


def relative(expected: Arrays, found: Arrays) -> float:
    """The largest difference over the largest expected value; outputs are matched by shape and order."""
    return max(float(np.abs(a.astype(float) - b).max() / np.abs(a).max()) for a, b in zip(expected, found, strict=True))


def in_litert(model: keras.Model, inputs: Arrays) -> Arrays:
    """The outputs of the converted model, one sample at a time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.tflite")
        model.export(str(path), format="litert", verbose=False)
        interpreter = tf.lite.Interpreter(str(path))
        runner = interpreter.get_signature_runner()
    names, known = [tensor.name for tensor in model.inputs], sorted(runner.get_input_details())
    given = dict(zip(names if sorted(names) == known else known, inputs, strict=True))
    samples = [runner(**{name: array[at : at + 1] for name, array in given.items()}) for at in range(len(inputs[0]))]
    return [np.concatenate([sample[key] for sample in samples]) for key in sorted(samples[0])]


def fits(model: keras.Model, inputs: Arrays, outputs: Arrays) -> bool:
    """Whether one step of `fit` has a finite loss, moves a weight and leaves all finite."""
    model.compile(keras.optimizers.Adam(1e-5), "mean_squared_error", run_eagerly=True)
    before = [np.array(variable) for variable in model.trainable_variables]
    targets = [np.zeros_like(output) for output in outputs]
    packed = keras.tree.pack_sequence_as(model.input, inputs)
    history = model.fit(packed, targets[0] if len(targets) == 1 else targets, batch_size=len(inputs[0]), verbose=0)
    after = [np.array(variable) for variable in model.trainable_variables]
    moved = any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    return moved and bool(np.isfinite(history.history["loss"]).all()) and all(np.isfinite(a).all() for a in after)


if __name__ == "__main__":
    main(*sys.argv[1:])
