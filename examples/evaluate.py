"""Open a .keras file in a bare Keras process and measure it, with nothing of Secateur's imported.

`python -m examples.evaluate MODEL.keras DATA.npz` prints JSON: parameters and the accuracy on validation and test.
"""

from __future__ import annotations

import json
import sys

import keras
import numpy as np


def main(model_path: str, data_path: str) -> None:
    """Print what the file holds and how often it is right."""
    model = keras.saving.load_model(model_path, compile=False)
    with np.load(data_path) as data:
        accuracy = {
            split: float(np.mean(model.predict(data[f"x_{split}"], verbose=0).argmax(1) == data[f"y_{split}"]))
            for split in ("validation", "test")
        }
    print(json.dumps({"parameters": model.count_params(), "accuracy": accuracy}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
