"""Quality on a real model and real data. Slow: a training of minutes each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import pruning
from pruning.contract.result import Result
from tests import graphs as zoo
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


@pytest.mark.parametrize(("scope", "bar"), [("layer", 0.68), ("global", 0.6)])
def test_least_squares_on_resnet8_without_labels(tmp_path: Path, scope: str, bar: float) -> None:
    """30 % of the channels, 600 training images, no labels; labels of the test split only judge."""
    if not MODEL.exists() or not DATA.exists():
        pytest.skip(f"{MODEL} or {DATA} is missing")
    spec = {"pruning": {"scope": scope, "target": {"type": "ratio", "value": 0.3}}}
    with np.load(DATA) as data:
        result = pruning.prune(MODEL, spec, {"x_train": data["x_train"]}, out=tmp_path)
        assert [stage.stage for stage in result.stages] == ["least_squares"]
        assert result.stages[0].history[0]["samples"] == 600
        model = keras.saving.load_model(tmp_path / "pruned.keras", compile=False)
        said = np.argmax(model.predict(data["x_test"].astype("float32"), verbose=0), axis=1)
        assert (said == data["y_test"].reshape(-1)).mean() >= bar


def test_repairs_break_no_larger_network(tmp_path: Path) -> None:
    """MobileNetV2 with random weights: depthwise, expanding and projecting convolutions, sums, all with statistics."""
    model = zoo.randomized(keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=10))
    model.save(tmp_path / "model.keras")
    spec = {
        "pruning": {"scope": "layer", "target": {"type": "ratio", "value": 0.3}},
        "recovery": [{"stage": "fold"}, {"stage": "least_squares", "samples": 64}],
        "measures": {"latency": None},
    }
    x = np.random.default_rng(0).normal(size=(64, 64, 64, 3)).astype(np.float32)
    result = pruning.prune(tmp_path / "model.keras", spec, {"x_train": x}, out=tmp_path)
    assert result.stages[1].history[0] == {"layers": 53.0, "left_alone": 0.0, "samples": 64.0}
    assert result.verification is not None
    assert result.verification.passed
    bare = pruning.prune(tmp_path / "model.keras", spec | {"recovery": []}, {"x_train": x}, out=tmp_path / "bare")
    assert bare.measures.after.parameters == result.measures.after.parameters
    found = [
        np.asarray(keras.saving.load_model(path / "pruned.keras", compile=False)(x))
        for path in (tmp_path, tmp_path / "bare")
    ]
    repaired, plain = (np.abs(one - np.asarray(model(x))).mean() for one in found)
    assert repaired < plain / 2
