"""Folding by hand: what is constant is kept exactly, what is not by its mean."""

from __future__ import annotations

from math import erf, exp, pi, sqrt

import keras
import numpy as np
import pytest
from keras import layers as L

from pruning.contract.spec import FoldStage
from pruning.keras.recover.expected import expectations, through
from tests import graphs as zoo
from tests.pruning.keras.recover.repaired import Bench, bench, far, outputs

FOLD = FoldStage(stage="fold")


def plant(model: keras.Model, layer: str, places: list[int]) -> None:
    """Make outputs of a layer constant: their kernels are zero, their biases stay."""
    kernel, *rest = model.get_layer(layer).get_weights()
    kernel[..., places] = 0
    model.get_layer(layer).set_weights([kernel, *rest])


def unpadded() -> keras.Model:
    """Convolutions without padding, a normalisation, a sum, a concatenation, pooling and a dense head."""
    inputs = keras.Input((12, 12, 3))
    x = L.Conv2D(6, 3, activation="relu", name="first")(inputs)
    x = L.Conv2D(8, 1, use_bias=False, name="second")(x)
    x = L.LeakyReLU()(L.BatchNormalization(name="norm")(x))
    y = L.Conv2D(8, 1, activation="tanh", name="branch")(x)
    x = L.Add()([x, y])
    x = L.DepthwiseConv2D(3, name="apart")(L.MaxPooling2D(2)(x))
    z = L.SeparableConv2D(4, 3, name="separable")(x)
    x = L.Conv2D(4, 3, activation="gelu", name="third")(x)
    x = L.Concatenate()([x, z])
    return keras.Model(inputs, L.Dense(3, name="head")(L.Flatten()(x)))


def planted() -> Bench:
    model = zoo.randomized(unpadded())
    for layer, places in PLANTED.items():
        plant(model, layer, places)
    # A channel is constant also where its scale is zero, whatever its kernel.
    norm = model.get_layer("norm")
    gamma, *rest = norm.get_weights()
    gamma[7] = 0
    norm.set_weights([gamma, *rest])
    return bench(model, {**PLANTED, "second": [2, 7]})


PLANTED = {"first": [0, 4], "second": [2], "branch": [2, 7], "third": [1]}
X = np.random.default_rng(3).normal(size=(8, 12, 12, 3)).astype(np.float32)


def test_planted_constants_are_kept_exactly_without_data() -> None:
    made = planted()
    sliced, _, history = made.repair(FOLD)
    before = outputs(made.original, [X])
    assert far(before, outputs(made.sliced(), [X])) > 1e-2
    assert far(before, outputs(sliced, [X])) < 1e-5
    assert history == [{"layers": 5.0, "left_alone": 0.0}]


def test_planted_constants_are_kept_exactly_with_data() -> None:
    made = planted()
    assert far(outputs(made.original, [X]), outputs(made.repair(FOLD, [X])[0], [X])) < 1e-5


def test_a_border_of_zeros_makes_it_approximate() -> None:
    inputs = keras.Input((9, 9, 3))
    x = L.Conv2D(6, 3, padding="same", activation="relu", name="first")(inputs)
    model = zoo.randomized(keras.Model(inputs, L.Conv2D(4, 3, padding="same", name="last")(x)))
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., 0], bias[0] = 0, 1
    model.get_layer("first").set_weights([kernel, bias])
    made = bench(model, {"first": [0]})
    x = X[:, :9, :9]
    (before,), (after,) = outputs(made.original, [x]), outputs(made.repair(FOLD)[0], [x])
    np.testing.assert_allclose(after[:, 1:-1, 1:-1], before[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    assert far([before], [after]) > 1e-3


def test_what_weights_do_not_tell_is_not_folded() -> None:
    model = zoo.randomized(keras.Sequential([keras.Input((4,)), L.Dense(5, "relu", name="a"), L.Dense(2, name="b")]))
    made = bench(model, {"a": [1]})
    _, arrays, history = made.repair(FOLD)
    assert history == [{"layers": 0.0, "left_alone": 1.0}]
    for path, array in made.case.archive.arrays.items():
        np.testing.assert_array_equal(arrays[path], array)


def test_what_has_no_product_is_counted_as_left_alone() -> None:
    inputs = keras.Input((6, 4))
    x = L.Dense(5, "relu", name="a")(inputs)
    model = zoo.randomized(keras.Model(inputs, [L.GRU(3)(x), L.Dense(2)(x)]))
    made = bench(model, {"a": [1]})
    x = np.random.default_rng(0).normal(size=(50, 6, 4)).astype(np.float32)
    assert made.repair(FOLD, [x])[2] == [{"layers": 1.0, "left_alone": 1.0}]


def test_with_data_the_mean_goes_into_the_bias() -> None:
    model = zoo.randomized(keras.Sequential([keras.Input((4,)), L.Dense(5, "relu", name="a"), L.Dense(2, name="b")]))
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    made = bench(model, {"a": [1, 3]})
    _, arrays, _ = made.repair(FOLD, [x])
    hidden = np.asarray(model.get_layer("a")(x)).mean(0)
    kernel, bias = model.get_layer("b").get_weights()
    np.testing.assert_allclose(arrays["layers/dense_1/vars/1"], bias + hidden[[1, 3]] @ kernel[[1, 3]], rtol=1e-5)
    np.testing.assert_array_equal(arrays["layers/dense_1/vars/0"], kernel)


@pytest.mark.parametrize(("beta", "gamma"), [(0.3, 0.8), (-1.0, 0.5), (0.7, -1.2), (0.4, 0.0)])
def test_a_normalised_channel_through_relu(beta: float, gamma: float) -> None:
    inputs = keras.Input((5,))
    norm = L.BatchNormalization()
    x = L.ReLU()(norm(L.Dense(1)(inputs)))
    made = bench(keras.Model(inputs, L.Dense(1)(x)), {})  # fmt: skip
    norm_path = "layers/batch_normalization/vars"
    made.case.archive.arrays[f"{norm_path}/0"][:] = gamma
    made.case.archive.arrays[f"{norm_path}/1"][:] = beta
    (relu,) = (op for op in made.case.graph.ops if op.class_name == "ReLU")
    mean, deviation = expectations(made.case, made.original)[relu.outputs[0]]
    s = abs(gamma)
    density, share = (
        exp(-((beta / s) ** 2) / 2) / sqrt(2 * pi) if s else 0.0,
        (1 + erf(beta / s / sqrt(2))) / 2 if s else 1,
    )
    np.testing.assert_allclose(mean, beta * share + s * density, rtol=1e-4)
    second = (beta**2 + s**2) * share + beta * s * density
    np.testing.assert_allclose(deviation, sqrt(max(0.0, second - mean.item() ** 2)), rtol=1e-3, atol=1e-7)


def test_through_a_function_by_hand() -> None:
    mean, deviation = through(lambda x: x**2, (np.array([0.0, 3.0, 2.0]), np.array([1.0, 0.0, np.nan])))
    np.testing.assert_allclose(mean, [1.0, 9.0, np.nan], rtol=1e-5)
    np.testing.assert_allclose(deviation, [sqrt(2), 0.0, np.nan], rtol=1e-5)
