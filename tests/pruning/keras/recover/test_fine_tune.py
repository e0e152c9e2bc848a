from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest

from pruning.contract.errors import DatasetMismatch
from pruning.contract.spec import Evaluation, FineTuneStage
from pruning.keras.data import opened, ports
from pruning.keras.evaluate import evaluator
from pruning.keras.objective import resolve
from pruning.keras.private import variables
from pruning.keras.recover import Context, run
from tests.pruning.keras import small


def context(model: keras.Model, arrays: Any = None, **values: Any) -> Context:
    with opened(arrays or small.splits(), model) as dataset:
        train, validation = dataset.split("train"), dataset.split("validation")
    objective = resolve(Evaluation(), model.get_compile_config(), ports(model)[1], ["softmax"], validation)
    judge = partial(evaluator(model, objective, validation), validation, 32)
    return Context(model, train, judge, objective, **{"report": lambda *_: None, **values})


def stage(**values: Any) -> FineTuneStage:
    return FineTuneStage(stage="fine_tune", **{"epochs": 3, "batch_size": 32, "learning_rate": 0.01, **values})


def weights(model: keras.Model) -> list[Any]:
    return [np.array(value) for value in model.get_weights()]


def test_it_learns_and_keeps_the_best_epoch() -> None:
    model = small.residual()
    told: list[Any] = []
    where = context(model, report=lambda *line: told.append(line))
    history = run(stage(), where)
    assert where.judge is not None
    assert where.judge().metrics["accuracy"] == max(epoch["val_accuracy"] for epoch in history) > 0.9
    assert [line[:3] for line in told if "val_loss" in line[3]] == [(n * 6, 18, "steps") for n in (1, 2, 3)]


def test_the_same_seed_trains_the_same_weights() -> None:
    found = []
    for seed in (3, 3, 4):
        model = small.residual()
        run(stage(epochs=1), context(model, seed=seed))
        found.append(weights(model)[0])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_masks_hold_exactly_and_the_rest_trains() -> None:
    model = small.residual()
    path = "layers/conv2d_1/vars/0"
    kernel = variables(model)[path]
    mask = np.random.default_rng(0).random(kernel.shape) < 0.5
    kernel.assign(kernel.numpy() * mask)
    before = kernel.numpy()
    run(stage(epochs=1), context(model, masks={path: mask}))
    after = kernel.numpy()
    assert (after[~mask] == 0).all()
    assert (after[mask] != before[mask]).all()


def test_training_never_leaves_a_model_worse_on_validation() -> None:
    model = small.residual()
    run(stage(), context(model))
    before = weights(model)
    arrays = small.splits()
    arrays["y_train"] = (arrays["y_train"] + 1) % small.CLASSES
    history = run(stage(learning_rate=1.0, learning_rate_schedule="constant", patience=1), context(model, arrays))
    assert len(history) == 1
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_frozen_layers_stay_frozen() -> None:
    model = small.residual()
    model.get_layer("branch").trainable = False
    before = [np.array(value) for value in model.get_layer("branch").get_weights()]
    stem = np.array(model.get_layer("stem").kernel)
    run(stage(), context(model))
    for old, new in zip(before, model.get_layer("branch").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(stem, np.array(model.get_layer("stem").kernel))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_one_step_of_each_optimizer_is_that_of_keras(optimizer: str) -> None:
    """Without dropout and in one batch, a step here is a step of `model.fit`."""

    def linear() -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 2))
        flat = keras.layers.Flatten()(inputs)
        regularizer = keras.regularizers.L2(0.01)
        outputs = keras.layers.Dense(3, activation="softmax", kernel_regularizer=regularizer)(flat)
        model = keras.Model(inputs, outputs)
        model.compile(
            {
                "adam": keras.optimizers.Adam(0.01),
                "adamw": keras.optimizers.AdamW(0.01),
                "sgd": keras.optimizers.SGD(0.01, momentum=0.9),
                "rmsprop": keras.optimizers.RMSprop(0.01),
            }[optimizer],
            "sparse_categorical_crossentropy",
        )
        return model

    ours, theirs = linear(), linear()
    arrays = small.splits(train=64)
    run(stage(epochs=1, batch_size=64, optimizer=optimizer, learning_rate_schedule="constant"), context(ours, arrays))
    theirs.fit(arrays["x_train"], arrays["y_train"], batch_size=64, epochs=1, verbose=0, shuffle=False)
    for mine, other in zip(weights(ours), weights(theirs), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-6)


def test_without_labels_or_validation_it_says_what_is_missing() -> None:
    where = context(small.residual())
    with pytest.raises(DatasetMismatch, match="x_validation"):
        run(stage(), Context(where.model, where.train, None, where.objective, where.report))
