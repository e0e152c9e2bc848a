"""Quality on a real model and real data. Slow: a training of minutes each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import pruning
from pruning.contract.result import Result
from tests.pruning.keras import small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
MODEL, DATA = small.SHARED / "resnet8_cifar10.h5", small.SHARED / "cifar10_small.npz"


def run(out: Path, target: Any, epochs: int) -> Result:
    if not MODEL.exists() or not DATA.exists():
        pytest.skip(f"{MODEL} or {DATA} is missing")
    return pruning.prune(
        MODEL, {"pruning": target, "recovery": [{"stage": "fine_tune", "epochs": epochs}]}, DATA, out=out
    )


def accuracy(result: Result, out: Path) -> float:
    """The test accuracy in the result, which must be that of the file in plain Keras, to the digit."""
    assert result.recovery is not None
    assert result.recovery.test is not None
    found = result.recovery.test.metrics["accuracy"].recovered
    model = keras.saving.load_model(out / "pruned.keras", compile=False)
    with np.load(DATA) as data:
        said = np.argmax(model.predict(data["x_test"].astype("float32"), verbose=0), axis=1)
        assert found == (said == data["y_test"].reshape(-1)).sum() / len(said)
    return float(found or 0)


def test_half_the_macs_of_resnet8(tmp_path: Path) -> None:
    target = {"target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.5}}
    result = run(tmp_path, target, epochs=5)
    assert result.measures.after.macs <= result.measures.before.macs / 2
    assert accuracy(result, tmp_path) >= 0.77


def test_half_the_weights_of_resnet8(tmp_path: Path) -> None:
    result = run(tmp_path, {"structure": "weight", "target": {"type": "ratio", "value": 0.5}}, epochs=4)
    assert result.measures.after.prunable_sparsity == pytest.approx(0.5, abs=1e-4)
    assert accuracy(result, tmp_path) >= 0.86
