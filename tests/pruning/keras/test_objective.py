from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pruning.contract.errors import DatasetMismatch, InvalidSpec
from pruning.contract.spec import Evaluation
from pruning.keras.data import Port, Samples, check_labels
from pruning.keras.objective import Objective, check, resolve


def objective(
    labels: Any,
    shape: tuple[int, ...] = (3,),
    activation: str | None = "softmax",
    compiled: Any = None,
    **requested: Any,
) -> Objective:
    port = Port("out", shape, "float32")
    values = np.asarray(labels)
    samples = Samples("test", (np.zeros((len(values), 1)),), (check_labels("y", values, port),), ("float32",))
    found = resolve(Evaluation(**requested), compiled, [port], [activation], samples)
    check(found, [port], samples)
    return found


SPARSE, ONE_HOT = [0, 2, 1], np.eye(3)


def parts(found: Objective) -> tuple[str, dict[str, Any], list[tuple[str, str]], str]:
    return (
        found.losses[0].name,
        dict(found.losses[0].options),
        [(metric.label, metric.name) for metric in found.metrics],
        found.source,
    )


@pytest.mark.parametrize(
    ("labels", "shape", "activation", "loss", "options", "metric"),
    [
        (SPARSE, (3,), "softmax", "sparse_categorical_crossentropy", {}, "sparse_categorical_accuracy"),
        (SPARSE, (3,), None, "sparse_categorical_crossentropy", {"from_logits": True}, "sparse_categorical_accuracy"),
        (ONE_HOT, (3,), "softmax", "categorical_crossentropy", {}, "categorical_accuracy"),
        (ONE_HOT, (3,), None, "categorical_crossentropy", {"from_logits": True}, "categorical_accuracy"),
        ([0, 1, 1], (1,), "sigmoid", "binary_crossentropy", {}, "binary_accuracy"),
        ([0, 1, 1], (1,), None, "binary_crossentropy", {"from_logits": True}, "binary_accuracy"),
        ([[0, 1, 1], [1, 1, 1]], (3,), "sigmoid", "binary_crossentropy", {}, "binary_accuracy"),
        ([0.5, 2.5], (1,), None, "mean_squared_error", {}, "mean_absolute_error"),
        ([[0.5, 2.5, -1.0]], (3,), None, "mean_squared_error", {}, "mean_absolute_error"),
    ],
)
def test_what_is_inferred_from_output_and_labels(
    labels: Any, shape: tuple[int, ...], activation: str | None, loss: str, options: Any, metric: str
) -> None:
    found = parts(objective(labels, shape, activation))
    assert (found[0], found[1], found[2][0][1], found[3]) == (loss, options, metric, "inferred")


def test_the_compile_config_comes_before_inference_and_turns_sparse() -> None:
    compiled = {
        "loss": {"class_name": "CategoricalCrossentropy", "config": {"from_logits": True, "label_smoothing": 0.1}},
        "metrics": [["accuracy", {"class_name": "TopKCategoricalAccuracy", "config": {"name": "top2", "k": 2}}]],
    }
    assert parts(objective(SPARSE, compiled=compiled)) == (
        "sparse_categorical_crossentropy",
        {"from_logits": True},
        [("accuracy", "sparse_categorical_accuracy"), ("top2", "sparse_top_k_categorical_accuracy")],
        "compile_config",
    )
    assert objective(SPARSE, compiled=compiled).metrics[1].options == {"k": 2}
    assert parts(objective(ONE_HOT, compiled=compiled))[:2] == (
        "categorical_crossentropy",
        {"from_logits": True, "label_smoothing": 0.1},
    )
    sparse = {"loss": "sparse_categorical_crossentropy", "metrics": ["sparse_categorical_accuracy"]}
    assert parts(objective(ONE_HOT, compiled=sparse))[:3] == (
        "categorical_crossentropy",
        {},
        [("sparse_categorical_accuracy", "categorical_accuracy")],
    )


def test_a_loss_that_keras_does_not_have_is_passed_over() -> None:
    assert parts(objective(SPARSE, compiled={"loss": "my_loss", "metrics": None}))[3] == "inferred"


def test_the_request_comes_first_and_logits_follow_the_output() -> None:
    compiled = {"loss": "mse", "metrics": ["mae"]}
    found = parts(
        objective(SPARSE, activation=None, compiled=compiled, loss="categorical_crossentropy", metrics=["accuracy"])
    )
    assert found == (
        "sparse_categorical_crossentropy",
        {"from_logits": True},
        [("accuracy", "sparse_categorical_accuracy")],
        "request",
    )
    assert parts(objective(SPARSE, loss="sparse_categorical_crossentropy"))[1] == {}


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="use sparse_categorical_crossentropy"):
        objective(SPARSE, loss="binary_crossentropy")
    with pytest.raises(DatasetMismatch, match="one class per sample"):
        objective(SPARSE, loss="mean_squared_error")
    with pytest.raises(DatasetMismatch, match="label 2 at index"):
        objective([0, 2], (1,), "sigmoid", loss="binary_crossentropy")
    with pytest.raises(InvalidSpec, match="metric precision"):
        objective(SPARSE, metrics=["precision"])


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_classes_are_not_compared_on_an_output_of_one_value(loss: str) -> None:
    with pytest.raises(InvalidSpec, match="one value per sample, of which it is 0"):
        objective([0, 1, 1], (1,), "sigmoid", loss=loss)
    found = objective([0, 1, 1], (1,), "sigmoid", {"loss": loss, "metrics": ["accuracy", "categorical_accuracy"]})
    assert parts(found) == ("binary_crossentropy", {}, [("accuracy", "binary_accuracy")], "inferred")
    assert [sentence.split(" cannot")[0] for sentence in found.left_out] == ["metric categorical_accuracy"]
    with pytest.raises(InvalidSpec, match="the output has one value per sample"):
        objective([0, 1, 1], (1,), "sigmoid", metrics=["sparse_categorical_accuracy"])


def test_a_loss_keeps_the_options_that_are_zero_and_one_of_whole_batches_is_refused() -> None:
    focal = {"class_name": "CategoricalFocalCrossentropy", "config": {"gamma": 0.0, "alpha": 0.5, "name": "focal"}}
    assert objective(ONE_HOT, compiled={"loss": focal}).losses[0].options == {"gamma": 0.0, "alpha": 0.5}
    with pytest.raises(InvalidSpec, match="loss dice compares a batch as a whole"):
        objective(ONE_HOT, compiled={"loss": {"class_name": "Dice", "config": {"axis": None}}})
    with pytest.raises(InvalidSpec, match="Keras cannot compute loss huber"):
        objective(ONE_HOT, compiled={"loss": {"class_name": "Huber", "config": {"delta": "wide"}}})


def test_compiled_metrics_that_class_labels_do_not_go_with_are_left_out_by_name() -> None:
    metrics = ["AUC", {"class_name": "F1Score", "config": {"name": "f1"}}, "accuracy"]
    found = objective(SPARSE, compiled={"metrics": metrics})
    assert [metric.label for metric in found.metrics] == ["accuracy"]
    assert [sentence.split(" cannot")[0] for sentence in found.left_out] == ["metric AUC", "metric f1"]
    found = objective(ONE_HOT, compiled={"metrics": [metrics[1], {"class_name": "Mine", "module": "mine"}, "mae"]})
    assert [metric.label for metric in found.metrics] == ["mae"]
    assert "(3,) values instead of one number" in found.left_out[0]
    assert len(found.left_out) == 2
    assert [metric.label for metric in objective(SPARSE, compiled={"metrics": ["AUC"]}).metrics] == ["accuracy"]


def test_an_output_known_to_hold_probabilities_takes_no_logits() -> None:
    assert objective([0, 1], (1,), "probabilities").losses[0].options == {}
    assert objective(SPARSE, activation="probabilities", loss="categorical_crossentropy").losses[0].options == {}
    assert objective([0.5, 0.25], (1,), "probabilities").losses[0].name == "mean_squared_error"
