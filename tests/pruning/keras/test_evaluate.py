"""Against plain Keras: what we say of a model is what `model.evaluate` says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pruning.contract.errors import DatasetMismatch
from pruning.contract.spec import Evaluation
from pruning.keras.data import Labels, Samples, opened, ports, scored
from pruning.keras.evaluate import Scores, compare, evaluator, interval_of_ratio, key, some_outputs, total_loss
from pruning.keras.heads import observed
from pruning.keras.objective import Loss, Metric, Objective, resolve
from tests.pruning.keras import small


def judged(model: keras.Model, x: Any, y: Any, activation: str | None, **requested: Any) -> tuple[Scores, Objective]:
    with opened({"x_test": x, "y_test": y}, model) as dataset:
        samples = dataset.split("test")
    objective = resolve(Evaluation(**requested), model.get_compile_config(), scored(model), [activation], samples)
    return evaluator(model, objective, samples)(samples, 32), objective


def test_loss_and_accuracy_are_those_of_keras() -> None:
    model = small.residual()
    x, y = small.images(100)
    scores, _ = judged(model, x, y, "softmax")
    loss, accuracy = model.evaluate(x, y, verbose=0, batch_size=32)
    assert scores.loss == pytest.approx(loss, rel=1e-6)
    assert scores.metrics["accuracy"] == pytest.approx(accuracy, abs=1e-7)
    assert scores.metrics["accuracy"] * 100 == pytest.approx(round(scores.metrics["accuracy"] * 100), abs=1e-9)


def test_splits_may_differ_in_their_free_dimensions() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.Conv1D(2, 3, padding="same")])
    model.compile(loss="mean_squared_error")
    rng = np.random.default_rng(0)
    data = {f"{name}_test": rng.normal(size=(8, 12, size)) for name, size in (("x", 3), ("y", 2))}
    data |= {f"{name}_train": rng.normal(size=(8, 7, size)) for name, size in (("x", 3), ("y", 2))}
    with opened(data, model) as dataset:
        splits = dataset.splits()
    score = evaluator(model, Objective((Loss("mean_squared_error"),), (1.0,), (), "request"), splits["train"])
    for name, samples in splits.items():
        expected = model.evaluate(data[f"x_{name}"], data[f"y_{name}"], verbose=0)
        assert score(samples, 32).loss == pytest.approx(expected, rel=1e-5)


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
    report = compare(scores, scores, scores, objective)
    assert report.metrics["auc"].interval is None
    assert report.metrics["precision"].interval == (1.0, 1.0)


def test_an_output_that_was_compiled_without_a_loss_counts_nothing() -> None:
    keras.utils.set_random_seed(2)
    inputs = keras.Input((4,), name="x")
    low = keras.layers.Dense(1, name="low")(inputs)
    high = keras.layers.Dense(3, activation="softmax", name="high")(inputs)
    model = keras.Model(inputs, {"low": low, "high": high})
    model.compile(loss={"high": "sparse_categorical_crossentropy"}, metrics={"high": ["accuracy"]})
    rng = np.random.default_rng(0)
    x, wide, classes = rng.normal(size=(90, 4)), 100 * rng.normal(size=90), rng.integers(0, 3, 90)
    expected = model.evaluate(x, {"low": wide, "high": classes}, verbose=0, batch_size=32, return_dict=True)
    with opened({"x_test": x, "y_test__low": wide, "y_test__high": classes}, model) as dataset:
        samples = dataset.split("test")
    activations = [None if port.name == "low" else "softmax" for port in ports(model)[1]]
    objective = resolve(Evaluation(), model.get_compile_config(), scored(model), activations, samples)
    scores = evaluator(model, objective, samples)(samples, 32)
    assert (objective.loss_name, objective.source) == ("sparse_categorical_crossentropy", "compile_config")
    assert scores.loss == pytest.approx(expected["loss"], rel=1e-5)
    assert scores.metrics == {"high_accuracy": pytest.approx(expected["high_accuracy"], rel=1e-6)}


def test_a_model_that_gives_a_number_per_sample_without_an_axis() -> None:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(1, activation="sigmoid")(inputs)
    model = keras.Model(inputs, keras.ops.squeeze(hidden, -1))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 4)), rng.integers(0, 2, 90)
    for loss, metrics in (("mse", ["mae"]), ("binary_crossentropy", ["accuracy", "auc"])):
        twin = keras.Model(inputs, hidden)
        twin.compile(loss=loss, metrics=metrics)
        expected = twin.evaluate(x, y, verbose=0, batch_size=32)
        for labels in (y, y[:, None]):
            scores, _ = judged(model, x, labels, "sigmoid", loss=loss, metrics=metrics)
            assert [scores.loss, *scores.metrics.values()] == pytest.approx(expected, rel=1e-5)


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
    counted = replace(objective, metrics=(Metric("fp", "false_positives", 0),))
    assert key(Scores(1, 0.3, {"fp": 1.0}, {}), counted) > key(Scores(1, 0.4, {"fp": 9.0}, {}), counted)


def test_options_of_compiled_metrics_are_those_of_keras() -> None:
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    m = keras.metrics
    metrics = [
        m.Precision(thresholds=0.3, name="p"),
        m.Recall(thresholds=[0.35], name="r"),
        m.Precision(class_id=1, name="p1"),
        m.Recall(top_k=2, name="r2"),
        m.BinaryAccuracy(threshold=0.0, name="none"),
        m.Accuracy(name="equal"),
        m.F1Score(average="macro", name="f1"),
        m.CategoricalCrossentropy(label_smoothing=0.2, name="smooth"),
        m.MeanMetricWrapper(keras.losses.huber, delta=0.1, name="near"),
        "AUC",
    ]
    model.compile(loss=keras.losses.CategoricalFocalCrossentropy(gamma=0.0), metrics=metrics)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(70, 4)), np.eye(3)[rng.integers(0, 3, 70)]
    expected = model.evaluate(x, y, verbose=0, batch_size=70)
    scores, objective = judged(model, x, y, "softmax")
    assert [scores.loss, *scores.metrics.values()] == pytest.approx(expected, rel=1e-5)
    assert (list(scores.metrics)[:3], objective.left_out) == (["p", "r", "p1"], ())


def masked() -> tuple[keras.Model, Any, Any]:
    keras.utils.set_random_seed(4)
    layers = [keras.layers.Embedding(6, 4, mask_zero=True), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([keras.Input((5,), dtype="int32"), *layers])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    return model, rng.integers(0, 6, (40, 5)) * (rng.random((40, 5)) < 0.6), rng.integers(0, 3, (40, 5))


def test_masked_steps_are_left_out_as_in_keras() -> None:
    model, x, y = masked()
    scores, objective = judged(model, x, y, "softmax")
    loss, accuracy = model.evaluate(x, y, verbose=0, batch_size=40)
    assert (scores.loss, scores.metrics["accuracy"]) == pytest.approx((loss, accuracy), rel=1e-5)
    in_training = total_loss(objective, [y], [model(tf.constant(x), training=True)])
    assert float(tf.reduce_mean(in_training)) == pytest.approx(loss, rel=1e-5)
    assert compare(scores, scores, scores, objective).metrics["accuracy"].interval == (1.0, 1.0)


def test_probabilities_are_seen_whatever_layers_make_them() -> None:
    layers = keras.layers
    inputs = keras.Input((2, 4))
    spread = layers.TimeDistributed(layers.Dense(3, activation="softmax"))(inputs)
    mean = layers.Average()([layers.Dense(3, activation="softmax")(inputs) for _ in range(2)])
    one = layers.Maximum()([layers.Dense(1, activation="sigmoid")(inputs) for _ in range(2)])
    model = keras.Model(inputs, [spread, mean, one, layers.Dense(3)(inputs), layers.Softmax()(mean)])
    x = np.random.default_rng(0).normal(size=(20, 2, 4)) * 3
    with opened({"x_test": x}, model) as dataset:
        outputs = some_outputs(model, dataset.split("test"))
    found = observed((None, None, None, None, "softmax"), outputs)
    assert found == ("softmax", "softmax", "probabilities", None, "softmax")


def test_what_keras_cannot_compute_is_said_in_a_sentence() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    labels = Labels(np.ones((5, 2)), "dense", "y_test")
    samples = Samples("test", (np.ones((5, 4)),), (labels,), ("float32",))
    objective = Objective((Loss("categorical_crossentropy"),), (1.0,), (), "request")
    with pytest.raises(DatasetMismatch, match=r"cannot compute the test data: .*shape"):
        evaluator(model, objective, samples)(samples, 5)
