"""The estimate against moments computed by hand in NumPy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from pruning.contract.spec import BatchNormStage
from pruning.keras.data import opened
from pruning.keras.recover import Context, run


def context(model: keras.Model, x: Any) -> tuple[Context, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    with opened({"x_train": x}, model) as dataset:
        train = dataset.split("train")
    return Context(model, train, None, None, lambda done, total, *_: told.append((done, total))), told


def stage(**values: Any) -> BatchNormStage:
    return BatchNormStage(stage="batch_norm", **values)


def moments(layer: Any) -> tuple[Any, Any]:
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


X = np.random.default_rng(0).normal(3.0, 2.0, (50, 4)).astype(np.float32) * np.array([1, 2, 3, 4], np.float32)


def test_the_first_layer_gets_the_moments_of_all_samples() -> None:
    norm = keras.layers.BatchNormalization(momentum=0.9)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), norm])
    where, told = context(model, X)
    run(stage(batch_size=20), where)
    mean, variance = moments(norm)
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, X.var(axis=0), rtol=1e-4)
    assert told == [(20, 50), (40, 50), (50, 50)]


def test_a_later_layer_sees_what_the_earlier_one_normalised() -> None:
    first, second = keras.layers.BatchNormalization(), keras.layers.BatchNormalization()
    first_kernel = np.random.default_rng(1).normal(size=(4, 4))
    dense = keras.layers.Dense(4, activation="relu")
    model = keras.Sequential([keras.Input((4,)), first, dense, second])
    dense.set_weights([first_kernel, np.full(4, 0.1)])
    run(stage(batch_size=50), context(model, X)[0])
    normal = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + first.epsilon)
    hidden = np.maximum(normal @ first_kernel + 0.1, 0)
    mean, variance = moments(second)
    np.testing.assert_allclose(mean, hidden.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(variance, hidden.var(axis=0), rtol=1e-3)


def test_frozen_nested_and_shared_layers() -> None:
    shared = keras.layers.BatchNormalization(trainable=False)
    inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
    inputs = keras.Input((4,))
    doubled = keras.layers.Rescaling(2.0)(inputs)
    model = keras.Model(inputs, keras.layers.Add()([inner(inputs), inner(doubled)]))
    run(stage(batch_size=50), context(model, X)[0])
    mean, _ = moments(shared)
    np.testing.assert_allclose(mean, 1.5 * X.mean(axis=0), rtol=1e-5)
    assert shared.trainable is False


def test_weights_stay_and_the_same_seed_gives_the_same_samples() -> None:
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), norm])
    before = [np.array(value) for value in model.layers[0].get_weights()]
    found = []
    for _ in range(2):
        run(stage(samples=10), context(model, X)[0])
        found.append(moments(norm))
    for old, new in zip(before, model.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(found[0], found[1])
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found[0][0], X.mean(axis=0), rtol=1e-5)


def test_a_model_without_any_is_left_alone() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    assert run(stage(), context(model, X)[0]) == []


def test_masked_steps_do_not_count() -> None:
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3, 1)), keras.layers.Masking(), norm])
    x = np.array([[[1.0], [3.0], [0.0]], [[5.0], [0.0], [0.0]]], np.float32)
    run(stage(), context(model, x)[0])
    mean, variance = moments(norm)
    np.testing.assert_allclose([mean[0], variance[0]], [3.0, 8 / 3], rtol=1e-5)


def test_images_of_free_size_that_are_resized_are_taken_in_the_size_of_the_samples() -> None:
    norm = keras.layers.BatchNormalization()
    resized = keras.layers.UpSampling2D(2, interpolation="bilinear")
    model = keras.Sequential([keras.Input((None, None, 2)), resized, norm])
    x = np.random.default_rng(0).normal(3.0, 2.0, (6, 8, 12, 2)).astype(np.float32)
    where, _ = context(model, x)
    run(stage(), where)
    mean, variance = moments(norm)
    np.testing.assert_allclose(mean, resized(x).numpy().mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, resized(x).numpy().var(axis=(0, 1, 2)), rtol=1e-4)
