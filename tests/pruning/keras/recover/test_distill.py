from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from pruning.contract.spec import FineTuneStage
from pruning.keras import live
from pruning.keras.objective import Loss, Objective
from pruning.keras.recover import distill, run
from tests.pruning.keras import small
from tests.pruning.keras.recover.test_fine_tune import context


def softmax(values: Any) -> Any:
    exp = np.exp(values - values.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


BEFORE, AFTER = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)


def distance(loss: Loss, before: Any, after: Any, temperature: float = 4.0) -> Any:
    objective = Objective((loss,), (1.0,), (), "request")
    return distill.loss(objective, [tf.constant(before)], [tf.constant(after)], temperature).numpy()


@pytest.mark.parametrize("logits", [True, False])
def test_classes_follow_softened_probabilities(logits: bool) -> None:
    loss = Loss("sparse_categorical_crossentropy", {"from_logits": True} if logits else {})
    given = (BEFORE, AFTER) if logits else (softmax(BEFORE), softmax(AFTER))
    p, q = softmax(BEFORE / 4), softmax(AFTER / 4)
    by_hand = 16 * (p * np.log(p / q)).sum(axis=-1)
    np.testing.assert_allclose(distance(loss, *given), by_hand, rtol=1e-4)
    np.testing.assert_allclose(distance(loss, given[0], given[0]), 0, atol=1e-6)


def test_other_outputs_follow_values() -> None:
    by_hand = ((BEFORE - AFTER) ** 2).mean(axis=-1)
    np.testing.assert_allclose(distance(Loss("mean_squared_error"), BEFORE, AFTER), by_hand, rtol=1e-5)


def test_targets_are_the_originals_outputs_kept_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small.residual()
    train = context(model).train
    rows = np.array([3, 100, 7])
    expected = live.call(model, [train.inputs[0][rows]])[0].numpy()
    for limit in (2**20, 0):
        monkeypatch.setattr(distill, "_KEPT_BYTES", limit)
        found = distill.targets(model, train, 50)(rows, train.batch(rows)[0])
        np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_following_alone_brings_the_original_back_without_true_labels() -> None:
    original, model = small.residual(), small.residual()
    arrays = small.splits()
    original.fit(arrays["x_train"], arrays["y_train"], epochs=6, batch_size=32, verbose=0)
    model.set_weights(original.get_weights())
    noise = np.random.default_rng(0)
    model.get_layer("head").kernel.assign(noise.normal(size=(12, 3)) * 0.1)
    arrays["y_train"] = noise.integers(0, small.CLASSES, len(arrays["y_train"]))
    stage = FineTuneStage(stage="fine_tune", epochs=4, batch_size=32, learning_rate=0.01, distill=1.0)
    history = run(stage, context(model, arrays, original=original))
    assert max(epoch["val_accuracy"] for epoch in history) > 0.9
