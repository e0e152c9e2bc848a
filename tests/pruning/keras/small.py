"""Small models and data for the engine's Keras half; models are seeded, so tests see the same numbers every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from pruning import archive as archives
from pruning.case import Case
from pruning.keras.pipeline import normalize
from pruning.planning import read, study

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
CLASSES = 3


def residual(seed: int = 0) -> keras.Model:
    """A small residual CNN with softmax, 8x8x2 -> 3 classes, compiled."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="stem_bn")(x))
    y = layers.Conv2D(8, 3, padding="same", name="branch")(x)
    y = layers.BatchNormalization(name="branch_bn")(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Dropout(0.5)(x)
    x = layers.Conv2D(12, 3, strides=2, name="last")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    outputs = layers.Dense(CLASSES, activation="softmax", name="head")(x)
    model = keras.Model(inputs, outputs, name="residual")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def images(count: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images whose class shows in their mean: x (n, 8, 8, 2) float32, y (n,) int64."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    values = rng.normal(size=(count, 8, 8, 2)) * 0.3 + (labels - 1)[:, None, None, None]
    return values.astype(np.float32), labels


def splits(train: int = 192, validation: int = 64, test: int = 64) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a data set by the names of the contract."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for seed, (name, count) in enumerate({"train": train, "validation": validation, "test": test}.items()):
        found[f"x_{name}"], found[f"y_{name}"] = images(count, seed)
    return found


def case(model: keras.Model, folder: Path) -> Case:
    """A model as the engine sees it."""
    path = folder / "model.keras"
    normalize(model, path)
    return study(read(path))


def reread(path: Path) -> archives.Archive:
    """A written file's archive."""
    return archives.read(path)
