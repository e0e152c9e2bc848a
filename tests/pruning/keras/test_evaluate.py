"""Against plain Keras: what we say of a model is what `model.evaluate` says."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from pruning.contract.spec import Evaluation
from pruning.keras.data import opened, ports
from pruning.keras.evaluate import Scores, compare, evaluator, interval_of_ratio, key
from pruning.keras.objective import Objective, resolve
from tests.pruning.keras import small


def judged(model: keras.Model, x: Any, y: Any, activation: str | None, **requested: Any) -> tuple[Scores, Objective]:
    with opened({"x_test": x, "y_test": y}, model) as dataset:
        samples = dataset.split("test")
    objective = resolve(Evaluation(**requested), model.get_compile_config(), ports(model)[1], [activation], samples)
    return evaluator(model, objective, samples)(samples, 32), objective


def test_loss_and_accuracy_are_those_of_keras() -> None:
    model = small.residual()
    x, y = small.images(100)
    scores, _ = judged(model, x, y, "softmax")
    loss, accuracy = model.evaluate(x, y, verbose=0, batch_size=32)
    assert scores.loss == pytest.approx(loss, rel=1e-6)
    assert scores.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert scores.metrics["accuracy"] * 100 == pytest.approx(round(scores.metrics["accuracy"] * 100), abs=1e-9)


def test_binary_metrics_are_those_of_keras() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, activation="sigmoid")])
    names = ["accuracy", "precision", "recall", "auc", "root_mean_squared_error", "cosine_similarity"]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 4)), rng.integers(0, 2, 90)
    metrics = ["accuracy", keras.metrics.Precision(), keras.metrics.Recall(), keras.metrics.AUC()]
    model.compile(loss="binary_crossentropy", metrics=[*metrics, keras.metrics.RootMeanSquaredError()])
    expected = model.evaluate(x, y, verbose=0, batch_size=32)
    scores, objective = judged(model, x, y, "sigmoid", loss="binary_crossentropy", metrics=names)
    assert [scores.loss, *(scores.metrics[name] for name in names[:-1])] == pytest.approx(expected, rel=1e-5)
    report = compare(scores, None, scores, objective)
    assert report.metrics["auc"].interval is None
    assert report.metrics["precision"].interval == (1.0, 1.0)


def test_two_outputs_add_their_weighted_losses() -> None:
    keras.utils.set_random_seed(2)
    inputs = keras.Input((4,), name="x")
    low = keras.layers.Dense(1, name="low")(inputs)
    high = keras.layers.Dense(3, activation="softmax", name="high")(inputs)
    model = keras.Model(inputs, [low, high])
    model.compile(
        loss={"low": "mse", "high": "sparse_categorical_crossentropy"},
        loss_weights={"low": 0.5, "high": 2.0},
        metrics={"low": ["mae"], "high": ["accuracy"]},
    )
    rng = np.random.default_rng(0)
    x, values, classes = rng.normal(size=(50, 4)), rng.normal(size=(50, 1)), rng.integers(0, 3, 50)
    with opened({"x_test": x, "y_test__low": values, "y_test__high": classes}, model) as dataset:
        samples = dataset.split("test")
    objective = resolve(Evaluation(), model.get_compile_config(), ports(model)[1], [None, "softmax"], samples)
    scores = evaluator(model, objective, samples)(samples, 64)
    expected = model.evaluate(x, {"low": values, "high": classes}, verbose=0, return_dict=True)
    assert scores.loss == pytest.approx(expected["loss"], rel=1e-5)
    assert scores.metrics["low_mae"] == pytest.approx(expected["low_mae"], rel=1e-5)
    assert scores.metrics["high_accuracy"] == pytest.approx(expected["high_accuracy"], rel=1e-5)


def test_r_and_ratio_by_hand() -> None:
    def scores(loss: float, hits: list[float]) -> Scores:
        column = np.array(hits)[:, None]
        return Scores(len(hits), loss, {"accuracy": float(column.mean())}, {"accuracy": column})

    _, objective = judged(small.residual(), *small.images(10), "softmax")
    found = compare(scores(0.4, [1, 1, 1, 0]), scores(2.0, [0, 0, 1, 0]), scores(0.5, [1, 1, 0, 0]), objective)
    assert (found.loss.r_pruned, found.loss.r_recovered) == (pytest.approx(0.2), pytest.approx(0.8))
    assert found.metrics["accuracy"].ratio == pytest.approx(2 / 3)
    assert found.metrics["accuracy"].pruned == 0.25


def test_the_interval_covers_what_a_normal_approximation_says() -> None:
    rng = np.random.default_rng(0)
    before = (rng.random((4000, 1)) < 0.9).astype(float)
    after = before * (rng.random((4000, 1)) < 0.95)
    low, high = interval_of_ratio(before, after, "accuracy") or (0, 0)
    spread = 1.96 * np.sqrt(0.05 * 0.95 / (4000 * 0.9))
    assert (low, high) == (pytest.approx(0.95 - spread, abs=0.006), pytest.approx(0.95 + spread, abs=0.006))
    assert interval_of_ratio(before, after, "accuracy") == (low, high)
    assert interval_of_ratio(before * 0, after, "accuracy") is None


def test_the_best_is_by_metric_then_by_loss() -> None:
    _, objective = judged(small.residual(), *small.images(10), "softmax")

    def scores(accuracy: float, loss: float) -> Scores:
        return Scores(1, loss, {"accuracy": accuracy}, {})

    ordered = [scores(0.5, float("nan")), scores(0.5, 0.4), scores(0.5, 0.3), scores(0.6, 9.0)]
    assert sorted(ordered, key=lambda one: key(one, objective)) == ordered
    _, errors = judged(
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), np.ones((9, 2)), np.ones(9) / 3, None
    )
    assert errors.metrics[0].label == "mean_absolute_error"
    lower = Scores(1, 1.0, {"mean_absolute_error": 0.1}, {})
    assert key(lower, errors) > key(Scores(1, 1.0, {"mean_absolute_error": 0.2}, {}), errors)
