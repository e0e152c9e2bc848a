"""Where removed units can be told from kept ones, least squares brings the original back."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

from pruning import surgery
from pruning.contract.spec import LeastSquaresStage
from pruning.keras import live
from pruning.keras.recover import least_squares
from tests import graphs as zoo
from tests.pruning.keras.recover.repaired import bench, far, outputs

EXACT = LeastSquaresStage(stage="least_squares", ridge=1e-10)


def conv(x: Any, filters: int, size: int = 3, **options: Any) -> Any:
    return L.Conv2D(filters, size, **{"padding": "same", **options})(x)


def norm_relu(x: Any) -> Any:
    return L.ReLU()(L.BatchNormalization()(x))


def residual() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    x = norm_relu(conv(inputs, 6, use_bias=False))
    y = L.BatchNormalization()(conv(norm_relu(conv(x, 8, use_bias=False)), 6, use_bias=False))
    x = L.ReLU()(L.Add()([x, y]))
    y = L.BatchNormalization()(conv(norm_relu(conv(x, 6, strides=2)), 8))
    x = L.ReLU()(L.Add()([y, conv(x, 8, 1, strides=2)]))
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))


def kinds_of_convolutions() -> keras.Model:
    inputs = keras.Input((8, 8, 2))
    x = conv(inputs, 8, activation="relu")
    x = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(x)
    x = L.SeparableConv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = conv(x, 8, dilation_rate=2, groups=2, activation="relu")
    x = L.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))


def one_dimension() -> keras.Model:
    inputs = keras.Input((12, 3))
    x = L.Conv1D(6, 3, padding="causal", activation="relu")(inputs)
    x = L.EinsumDense("abc,cd->abd", output_shape=(None, 6), bias_axes="d", activation="relu")(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling1D()(x)))


def shared_and_nested() -> keras.Model:
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    tower = keras.Sequential([keras.Input((6,)), L.Dense(8, "relu"), L.Dense(6, "relu")], name="tower")
    joined = L.Concatenate()([tower(left), tower(right)])
    return keras.Model([left, right], [L.Dense(2)(L.Dense(6, "relu")(joined)), L.Dense(1)(joined)])


def in_time() -> keras.Model:
    inputs = keras.Input((5, 4, 4, 2))
    x = L.TimeDistributed(keras.Sequential([keras.Input((4, 4, 2)), conv_layer(6), L.Flatten(), L.Dense(6, "relu")]))(
        inputs
    )
    return keras.Model(inputs, L.TimeDistributed(L.Dense(2))(x))


def mixed_over_steps() -> keras.Model:
    """Layers that read steps run at each channel: where channels go the pruned network has fewer places than before."""
    inputs = keras.Input((5, 4))
    x = L.Permute((2, 1))(L.Dense(6)(inputs))
    x = L.Dense(5)(L.Dense(8, "relu")(x))
    return keras.Model(inputs, L.Dense(2)(L.Permute((2, 1))(x)))


def conv_layer(filters: int) -> Any:
    return L.Conv2D(filters, 3, padding="same", activation="relu")


MODELS = [residual, kinds_of_convolutions, one_dimension, shared_and_nested, in_time, mixed_over_steps]


def images(model: keras.Model, count: int = 48, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(count, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]


@pytest.mark.parametrize("build", MODELS)
def test_twins_of_kept_units_are_made_up_for_exactly(build: Any) -> None:
    """Every second unit, everywhere, is a twin of a kept one: removing it must cost nothing after the repair."""
    made = bench(zoo.randomized(build()))
    train, other = images(made.original), images(made.original, 8, seed=1)
    sliced, _, history = made.repair(EXACT, train)
    before = outputs(made.original, other)
    assert far(before, outputs(made.sliced(), other)) > 0.05
    assert far(before, outputs(sliced, other)) < 2e-3
    assert history[0]["left_alone"] == 0


def test_a_combination_of_kept_units_by_hand() -> None:
    """Without activation unit 2 is unit 0 + 2 * unit 1 + 3: what read it reads those, and the bias takes the rest."""
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), L.Dense(2, name="b")])
    rng = np.random.default_rng(0)
    kernel, reading = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    kernel[:, 2] = kernel[:, 0] + 2 * kernel[:, 1]
    model.set_weights([kernel, np.array([0, 0, 3]), reading, np.ones(2)])
    made = bench(model, {"a": [2]})
    _, arrays, history = made.repair(EXACT, images(model))
    found, bias = arrays["layers/dense_1/vars/0"], arrays["layers/dense_1/vars/1"]
    np.testing.assert_allclose(found[0], reading[0] + reading[2], rtol=1e-4)
    np.testing.assert_allclose(found[1], reading[1] + 2 * reading[2], rtol=1e-4)
    np.testing.assert_allclose(bias, 1 + 3 * reading[2], rtol=1e-4)
    np.testing.assert_allclose(found[2], reading[2], rtol=1e-6)
    assert history == [{"layers": 2.0, "left_alone": 0.0, "samples": 48.0}]


def test_ridge_holds_on_to_the_old_weights() -> None:
    made = bench(zoo.randomized(residual()))
    stiff = EXACT.model_copy(update={"ridge": 1e6})
    _, arrays, _ = made.repair(stiff, images(made.original))
    for path, array in made.case.archive.arrays.items():
        if array.ndim > 1:
            np.testing.assert_allclose(arrays[path], array, rtol=1e-3, atol=1e-5)


def test_the_order_of_units_and_samples_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 6)), rng.normal(size=(6, 3))
    x = [rng.normal(size=(64, 5)).astype(np.float32)]
    order = rng.permutation(6)
    found = []
    for places, rows in ((np.arange(6), np.arange(64)), (order, rng.permutation(64))):
        model = keras.Sequential([keras.Input((5,)), L.Dense(6, "relu", name="a"), L.Dense(3)])
        model.set_weights([first[:, places], np.zeros(6), second[places], np.zeros(3)])
        gone = [int(np.flatnonzero(places == unit)[0]) for unit in (1, 4)]
        sliced, _, _ = bench(model, {"a": gone}).repair(LeastSquaresStage(stage="least_squares"), [x[0][rows]])
        found.append(outputs(sliced, x))
    assert far(found[0], found[1]) < 1e-4


def test_the_sum_is_what_the_last_term_is_solved_for() -> None:
    """The first term loses a unit that nothing can replace; the second, which knows it too, makes up for the sum."""
    inputs = keras.Input((4,))
    hidden = L.Dense(4, name="hidden")(inputs)
    wide = L.Dense(6, name="wide")(inputs)
    total = L.Add()([L.BatchNormalization()(L.Dense(3, name="one")(hidden)), L.Dense(3, name="two")(wide)])
    made = bench(zoo.randomized(keras.Model(inputs, total)), {"hidden": [0, 2]})
    x = images(made.original)
    sliced, _, _ = made.repair(EXACT, x)
    before = outputs(made.original, x)
    assert far(before, outputs(made.sliced(), x)) > 0.05
    assert far(before, outputs(sliced, x)) < 1e-3


def test_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = zoo.randomized(residual())
    finally:
        keras.config.set_dtype_policy("float32")
    made = bench(model)
    sliced, arrays, _ = made.repair(LeastSquaresStage(stage="least_squares"), images(made.original))
    other = images(made.original, 8, seed=1)
    assert far(outputs(made.original, other), outputs(sliced, other)) < 0.05
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_the_same_seed_gives_the_same_arrays_and_what_is_not_touched_stays() -> None:
    made = bench(zoo.randomized(residual()))
    x = images(made.original)
    one, two = (made.repair(LeastSquaresStage(stage="least_squares", samples=20), x)[1] for _ in range(2))
    first = made.case.archive.arrays
    for path, array in one.items():
        np.testing.assert_array_equal(array, two[path])
    # The first layer reads what the original reads: there is nothing to make up for.
    np.testing.assert_allclose(one["layers/conv2d/vars/0"], first["layers/conv2d/vars/0"], rtol=1e-5, atol=1e-6)


def test_what_is_not_known_is_left_alone() -> None:
    inputs = keras.Input((6, 4))
    x = L.LSTM(6)(L.Conv1D(6, 3, activation="relu")(inputs))
    made = bench(zoo.randomized(keras.Model(inputs, L.Dense(2)(x))))
    _, arrays, history = made.repair(EXACT, images(made.original))
    assert (history[0]["layers"], history[0]["left_alone"]) == (2.0, 2.0)
    for path in (path for path in arrays if "lstm" in path):
        np.testing.assert_array_equal(arrays[path], made.case.archive.arrays[path])


def test_an_attention_without_some_of_its_key_and_value_dimensions() -> None:
    """Queries that surgery scales and the output projection are left alone; what follows makes up for some of it."""
    inputs = keras.Input((6, 8))
    x = L.Add()([inputs, L.MultiHeadAttention(2, 4, value_dim=6, name="attention")(inputs, inputs)])
    x = L.LayerNormalization()(x)
    model = zoo.randomized(keras.Model(inputs, L.Dense(3)(L.Dense(8, "relu")(x))))
    made = bench(model, {})
    groups = [group for group in made.case.units.groups if group.barrier is None and group.structure == "channel"]
    made.removed = np.concatenate([group.units[::3] for group in groups])
    x = images(model)
    sliced, arrays, history = made.repair(LeastSquaresStage(stage="least_squares"), x)
    before = outputs(made.original, x)
    assert far(before, outputs(sliced, x)) < far(before, outputs(made.sliced(), x))
    query = next(path for path in arrays if "query_dense/vars/0" in path)
    np.testing.assert_array_equal(arrays[query], made.case.archive.arrays[query])
    assert history[0]["left_alone"] >= 2
    masked = surgery.mask(arrays, made.case.units, made.removed)
    assert far(outputs(sliced, x), outputs(live.build(made.case.archive.config, masked), x)) < 1e-4


def test_what_a_rectifier_cuts_off_is_asked_only_to_stay_there() -> None:
    asked, gives = np.array([2.0, -1.0, -1.0, 7.0, 9.0]), np.array([0.5, 0.5, -3.0, 5.0, 8.0])
    np.testing.assert_array_equal(least_squares._cut(asked, gives, 0.0, np.inf), [2.0, 0.0, -3.0, 7.0, 9.0])
    np.testing.assert_array_equal(least_squares._cut(asked, gives, 0.0, 6.0), [2.0, 0.0, -3.0, 6.0, 8.0])


@pytest.mark.parametrize("norm", [False, True])
def test_knowing_the_rectifier_comes_closer(norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the units are lost for good; what the next layer gives behind its rectifier is nearer with more turns."""
    inputs = keras.Input((16,))
    x = L.Dense(12, use_bias=not norm, name="second")(L.Dense(24, "relu", name="first")(inputs))
    x = L.ReLU()(L.BatchNormalization()(x) if norm else x)
    made = bench(zoo.randomized(keras.Model(inputs, x)), {"first": range(0, 24, 2)})
    data, found = images(made.original, 600), []
    for turns in (1, 3):
        monkeypatch.setattr(least_squares, "_TURNS", turns)
        sliced, _, _ = made.repair(LeastSquaresStage(stage="least_squares"), data)
        found.append(np.square(outputs(sliced, data)[0] - outputs(made.original, data)[0]).mean())
    assert found[1] < 0.97 * found[0]
