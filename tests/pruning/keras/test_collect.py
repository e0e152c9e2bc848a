"""Evidence against what it stands for: activations of the model's own layers, gradients by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from pruning import criteria, surgery
from pruning.case import Case
from pruning.contract.criteria import OBD, OBS, SNIP, ActivationMean, APoZ, Criterion, Flap, HRank, Taylor, Wanda
from pruning.contract.errors import DatasetMismatch
from pruning.criteria import Evidence
from pruning.keras import collect, live, readers
from pruning.keras.data import Labels, Samples
from pruning.keras.objective import Loss, Objective
from tests import equivalence, graphs
from tests.pruning.keras import small

MSE = Objective((Loss("mean_squared_error"),), (1.0,), (), "inferred")
PLAIN: dict[str, Any] = {"normalization": "none", "batch_size": 16}


def case_of(model: keras.Model) -> Case:
    archive = equivalence.archived(model)
    return Case(archive, *equivalence.traced(archive))


def samples_for(model: keras.Model, count: int = 40, seed: int = 0) -> Samples:
    """Normal inputs and labels."""
    rng = np.random.default_rng(seed)
    inputs, labels = (
        [rng.normal(size=(count, *tensor.shape[1:])).astype(np.float32) for tensor in tensors]
        for tensors in (model.inputs, model.outputs)
    )
    dtypes = tuple(str(tensor.dtype) for tensor in model.inputs)
    return Samples("train", tuple(inputs), tuple(Labels(array, "dense", "y_train") for array in labels), dtypes)


def seen(model: keras.Model, criterion: Criterion, samples: Samples) -> tuple[Case, Evidence]:
    case = case_of(model)
    return case, collect.evidence(case, criterion, samples, MSE)


def entering(model: keras.Model, layer: str, inputs: Any) -> np.ndarray[Any, Any]:
    """What a layer of a model is called with."""
    return np.asarray(keras.Model(model.input, model.get_layer(layer).input)(inputs))


def perceptron() -> keras.Model:
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((6,), name="x")
    x = L.Dense(5, "relu", name="first")(x)
    x = L.Dense(4, "relu", name="second")(x)
    return graphs.randomized(keras.Model(inputs, L.Dense(2, name="head")(x)), 3)


# --- activations -----------------------------------------------------------------------------------------------------


def test_channels_first_show_what_the_same_layers_show_with_channels_last() -> None:
    found = []
    for channels_first in (True, False):
        keras.utils.set_random_seed(2)
        how: dict[str, Any] = {"data_format": "channels_first" if channels_first else "channels_last"}
        inputs = keras.Input((2, 6, 7) if channels_first else (6, 7, 2))
        x = L.Conv2D(3, 3, activation="relu", **how)(L.Conv2D(4, 3, activation="relu", **how)(inputs))
        model = keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D(**how)(x)))
        images = np.random.default_rng(0).normal(size=(20, 6, 7, 2)).astype(np.float32)
        images = np.moveaxis(images, -1, 1) if channels_first else images
        samples = Samples("train", (images,), (), ("float32",))
        inputs_seen = seen(model, Wanda(name="wanda", batch_size=16), samples)[1].inputs
        found.append({path: one.square for path, one in inputs_seen.items()})
    assert found[0].keys() == found[1].keys() != set()
    for path, first in found[0].items():
        np.testing.assert_allclose(first, found[1][path], rtol=1e-4)


def test_inputs_are_those_of_the_live_layers_over_all_batches() -> None:
    model = small.residual()
    images, _ = small.images(40)
    samples = Samples("train", (images,), (), ("float32",))
    case, found = seen(model, OBS(name="obs", batch_size=16), samples)
    for layer, path in (("branch", "layers/conv2d_1/vars/0"), ("head", "layers/dense/vars/0")):
        inputs = found.inputs[path]
        rows = entering(model, layer, images).astype(np.float64)
        rows = rows.reshape(-1, rows.shape[-1])
        assert inputs.covariance is not None
        for values, expected in (
            (inputs.mean, rows.mean(0)),
            (inputs.variance, rows.var(0)),
            (inputs.absolute, np.abs(rows).mean(0)),
            (inputs.zeros, (rows == 0).mean(0)),
            (inputs.covariance, rows.T @ rows / len(rows)),
            (inputs.square, (rows**2).mean(0)),
        ):
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    assert set(case.units.sizes) >= set(found.inputs)


def test_maps_have_the_ranks_and_nuclear_norms_of_numpy() -> None:
    inputs = keras.Input((4, 6, 3))
    model = keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Conv2D(2, 3, name="conv")(inputs))))
    images = np.random.default_rng(0).normal(size=(5, 4, 6, 3)).astype(np.float32)
    images[:, :, :, 1] = images[:, :1, :, 1]
    images[:, :, :, 2] = 0
    _, found = seen(model, HRank(name="hrank", batch_size=2), Samples("train", (images,), (), ("float32",)))
    maps = found.inputs["layers/conv2d/vars/0"]
    assert maps.rank is not None
    assert maps.nuclear is not None
    assert maps.rank.tolist() == [4, 1, 0]
    singular = np.linalg.svd(np.moveaxis(images, -1, 1), compute_uv=False).sum(-1).mean(0)
    np.testing.assert_allclose(maps.nuclear, singular, rtol=1e-5, atol=1e-6)


def test_a_shared_layer_sees_all_its_calls() -> None:
    a, b = keras.Input((3,)), keras.Input((3,))
    shared = L.Dense(2, name="shared")
    model = keras.Model([a, b], L.Dense(1)(L.Concatenate()([shared(a), shared(b)])))
    rng = np.random.default_rng(0)
    both = [rng.normal(size=(20, 3)).astype(np.float32) for _ in range(2)]
    _, found = seen(model, ActivationMean(name="activation_mean"), Samples("train", tuple(both), (), ("float32",) * 2))
    (path,) = (path for path, inputs in found.inputs.items() if inputs.mean.shape == (3,))
    np.testing.assert_allclose(found.inputs[path].absolute, np.abs(np.concatenate(both)).mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.inputs[path].variance, np.concatenate(both).var(0), rtol=1e-5)


def test_masked_steps_are_left_out() -> None:
    inputs = keras.Input((5, 2))
    x = L.Masking(mask_value=0.0)(inputs)
    model = keras.Model(inputs, L.LSTM(3)(L.Dense(4, name="dense")(x)))
    steps = np.random.default_rng(0).normal(size=(6, 5, 2)).astype(np.float32)
    steps[:, 3:] = 0
    _, found = seen(model, ActivationMean(name="activation_mean"), Samples("train", (steps,), (), ("float32",)))
    expected = np.abs(steps[:, :3]).mean((0, 1))
    np.testing.assert_allclose(found.inputs["layers/dense/vars/0"].absolute, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["separable", "grouped", "mixed_precision"])
def test_what_enters_a_kernel_predicts_what_leaves_it(name: str) -> None:
    """Of a linear layer without borders the mean output is the kernel, summed over its window, times the mean input."""
    inputs = keras.Input((6, 6, 4), dtype="float32")
    policy = "mixed_float16" if name == "mixed_precision" else None
    layer: Any = {
        "separable": lambda: L.SeparableConv2D(6, 1, depth_multiplier=2, use_bias=False, name="probed"),
        "grouped": lambda: L.Conv2D(6, 1, groups=2, use_bias=False, name="probed"),
        "mixed_precision": lambda: L.Conv2D(6, 1, use_bias=False, dtype=policy, name="probed"),
    }[name]()
    model = keras.Model(inputs, L.Dense(2, name="head")(L.GlobalAveragePooling2D()(layer(inputs))))
    images = np.random.default_rng(0).normal(size=(8, 6, 6, 4)).astype(np.float32)
    _, found = seen(model, ActivationMean(name="activation_mean"), Samples("train", (images,), (), ("float32",)))
    last = "pointwise_kernel" if name == "separable" else "kernel"
    kernel = np.asarray(getattr(layer, last), np.float64)[0, 0]
    path = next(path for path, variable in live.variables(model).items() if variable is getattr(layer, last))
    mean = found.inputs[path].mean
    if name == "grouped":
        # Both groups of inputs are one average: so they are where both have the same mean.
        np.testing.assert_allclose(mean, images.mean((0, 1, 2)).reshape(2, 2).mean(0), rtol=1e-4, atol=1e-6)
    else:
        np.testing.assert_allclose(found.inputs["layers/dense/vars/0"].mean, mean @ kernel, rtol=1e-3, atol=1e-3)


def test_inner_layers_of_attention_are_read() -> None:
    inputs = keras.Input((5, 8))
    x = L.MultiHeadAttention(2, 3, value_dim=4, name="mha")(inputs, inputs)
    model = graphs.randomized(keras.Model(inputs, L.Dense(2)(x)))
    case, found = seen(model, OBS(name="obs"), samples_for(model))
    output = found.inputs["layers/multi_head_attention/output_dense/vars/0"]
    assert (output.axes, output.mean.shape) == ((0, 1), (2, 4))
    assert output.covariance is not None
    assert output.covariance.shape == (8, 8)
    scores = criteria.score(OBS(name="obs"), case.units, found)
    assert {len(values) for values in scores.values()} >= {4}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (L.Conv1D(2, 1, data_format="channels_first"), (2, 3, 5)),
        (L.SeparableConv2D(2, 1, data_format="channels_first"), (2, 3, 5, 5)),
        (L.Conv2DTranspose(2, 1, data_format="channels_first"), (2, 3, 5, 5)),
    ],
)
def test_channels_first_are_turned(layer: Any, shape: tuple[int, ...]) -> None:
    layer.build(shape)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    reader = next(reader for classes, reader in readers.READERS.items() if isinstance(layer, classes))
    reading = next(reader(layer, tf.constant(values), None))
    assert reading.sizes == (3,)
    np.testing.assert_array_equal(reading.values, np.moveaxis(values, 1, -1))


@pytest.mark.parametrize(("steps", "turned"), [(4, False), (None, False), (4, True)])
def test_layers_in_a_loop_of_the_graph_are_not_read(steps: int | None, turned: bool) -> None:
    inputs = keras.Input((steps, 3))
    x = L.Dense(4)(inputs)
    x = keras.ops.reshape(x, (2, -1, 4)) if turned else x  # as many steps as there are samples in a batch, twice
    model = keras.Model(inputs, L.GlobalAveragePooling1D()(L.TimeDistributed(L.Dense(2))(x)))
    rows = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    _, found = seen(model, ActivationMean(name="activation_mean"), Samples("train", (rows,), (), ("float32",)))
    inner = {path for path in found.inputs if "time_distributed" in path}
    assert bool(inner) == (not turned)
    assert "layers/dense/vars/0" in found.inputs


# --- gradients -------------------------------------------------------------------------------------------------------


def double(case: Case) -> keras.Model:
    """The model in float64: differences of losses of one in float32 are noise in their third digit."""
    return live.build(live.computing_in(case.archive.config, "float64"), case.archive.arrays)


def loss_without(case: Case, model: keras.Model, samples: Samples, removed: Any, share: float) -> float:
    """The mean loss where `share` of the weights that read these units is gone. `model`: see `double`."""
    masked = surgery.mask(case.archive.arrays, case.units, removed)
    stays = np.float64(1 - share)
    arrays = {path: stays * array + (1 - stays) * masked[path] for path, array in case.archive.arrays.items()}
    live.assign(model, arrays)
    said = np.asarray(model(samples.inputs[0]), np.float64)
    live.assign(model, case.archive.arrays)
    return float(np.square(said - samples.labels[0].values).mean())


def attention() -> keras.Model:
    inputs = keras.Input((4, 6))
    x = L.MultiHeadAttention(3, 4, value_dim=5, name="mha")(inputs, inputs)
    return graphs.randomized(keras.Model(inputs, L.Dense(2, name="head")(L.Flatten()(x))), 3)


@pytest.mark.parametrize("build", [perceptron, attention])
def test_taylor_is_the_slope_of_the_loss_as_a_unit_fades(build: Callable[[], keras.Model]) -> None:
    model = build()
    samples = samples_for(model)
    criterion = Taylor(name="taylor", power="absolute", normalization="none", batch_size=40)
    case, found = seen(model, criterion, samples)
    scores = criteria.score(criterion, case.units, found)
    prunable = [group for group in case.units.groups if group.barrier is None]
    assert {group.structure for group in prunable} >= ({"head", "channel"} if build is attention else {"channel"})
    assert set(scores) == {group.id for group in prunable}
    whole = double(case)
    for group in prunable:
        for place, unit in enumerate(group.units):
            after, before = (loss_without(case, whole, samples, [unit], share) for share in (1e-2, -1e-2))
            assert scores[group.id][place] == pytest.approx(abs(after - before) / 2e-2, rel=2e-3, abs=1e-5)
    squared = criterion.model_copy(update={"power": "square"})
    for group, values in criteria.score(squared, case.units, found).items():
        np.testing.assert_allclose(values, scores[group] ** 2, rtol=1e-6)


def test_obd_is_half_the_fisher_information_times_squared_weights() -> None:
    model = perceptron()
    samples = samples_for(model)
    criterion = OBD(name="obd", normalization="none", batch_size=1)
    case, found = seen(model, criterion, samples)
    rows = entering(model, "head", samples.inputs[0]).astype(np.float64)
    kernel, said = np.asarray(model.get_layer("head").kernel, np.float64), np.asarray(model(samples.inputs[0]))
    # The loss of a sample is the mean of two squares, so its gradient by the output is what the output is off.
    off = said - samples.labels[0].values
    fisher = np.square(rows[:, :, None] * off[:, None, :]).mean(0)
    np.testing.assert_allclose(
        criteria.score(criterion, case.units, found)["second"], 0.5 * (fisher * kernel**2).sum(1), rtol=1e-4
    )
    weights = criteria.score_weights(criterion, ["layers/dense_2/vars/0"], found)["layers/dense_2/vars/0"]
    np.testing.assert_allclose(weights, np.sqrt(0.5 * fisher) * np.abs(kernel), rtol=1e-4)


def test_snip_is_the_gradient_times_the_weight_whatever_the_batches() -> None:
    model = perceptron()
    samples = samples_for(model)
    found = [seen(model, SNIP(name="snip", batch_size=size), samples) for size in (7, 40)]
    rows = entering(model, "head", samples.inputs[0]).astype(np.float64)
    kernel, said = np.asarray(model.get_layer("head").kernel, np.float64), np.asarray(model(samples.inputs[0]))
    expected = np.abs(rows.T @ (said - samples.labels[0].values) / len(rows) * kernel)
    path = "layers/dense_2/vars/0"
    for _, evidence in found:
        scores = criteria.score_weights(SNIP(name="snip"), [path], evidence)[path]
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-7)


# --- scores by hand on a real model ----------------------------------------------------------------------------------


def test_scores_of_activations_by_hand() -> None:
    model = perceptron()
    samples = samples_for(model)
    case, found = seen(model, OBS(name="obs", batch_size=16), samples)
    x = entering(model, "head", samples.inputs[0]).astype(np.float64)
    kernel = np.asarray(model.get_layer("head").kernel, np.float64)

    def score(criterion: Any) -> Any:
        return criteria.score(criterion, case.units, found)["second"]

    near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-7}
    np.testing.assert_allclose(score(ActivationMean(name="activation_mean", **PLAIN)), np.abs(x).mean(0), **near)
    np.testing.assert_allclose(score(APoZ(name="apoz", **PLAIN)), (x > 0).mean(0), **near)
    norm = np.sqrt((x**2).mean(0))
    np.testing.assert_allclose(score(Wanda(name="wanda", **PLAIN)), norm * np.abs(kernel).sum(1), **near)
    np.testing.assert_allclose(score(Flap(name="flap", **PLAIN)), x.var(0) * (kernel**2).sum(1), **near)
    weights = criteria.score_weights(Wanda(name="wanda"), ["layers/dense_2/vars/0"], found)["layers/dense_2/vars/0"]
    np.testing.assert_allclose(weights, norm[:, None] * np.abs(kernel), **near)


def test_obs_is_the_error_left_after_least_squares_without_the_unit() -> None:
    model = perceptron()
    samples = samples_for(model)
    criterion = OBS(name="obs", damping=0.01, **PLAIN)
    case, found = seen(model, criterion, samples)
    x = entering(model, "head", samples.inputs[0]).astype(np.float64)
    kernel = np.asarray(model.get_layer("head").kernel, np.float64)
    hessian = x.T @ x / len(x)
    ridge = 0.01 * np.trace(hessian) / len(hessian)
    expected = []
    for unit in range(len(kernel)):
        others = np.delete(np.arange(len(kernel)), unit)
        lost = np.outer(x[:, unit], kernel[unit])
        # The others' change that makes up for what is lost, with ridge around their old weights.
        left = hessian[np.ix_(others, others)] + ridge * np.eye(len(others))
        change = np.linalg.solve(left, x[:, others].T @ lost / len(x))
        error = np.square(lost - x[:, others] @ change).sum() / len(x) + ridge * np.square(change).sum()
        expected.append(error)
    np.testing.assert_allclose(criteria.score(criterion, case.units, found)["second"], expected, rtol=1e-3)


def test_obs_of_units_with_several_inputs_and_without_second_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = keras.Input((4, 4, 2))
    x = L.Flatten()(L.Conv2D(3, 3, activation="relu", name="conv")(inputs))
    model = graphs.randomized(keras.Model(inputs, L.Dense(2, name="head")(x)))
    samples = samples_for(model)
    criterion = OBS(name="obs", **PLAIN)
    case, found = seen(model, criterion, samples)
    x = entering(model, "head", samples.inputs[0]).astype(np.float64)
    kernel = np.asarray(model.get_layer("head").kernel, np.float64)
    hessian = x.T @ x / len(x)
    ridge = 0.01 * np.trace(hessian) / len(hessian)
    inverse = np.linalg.inv(hessian + ridge * np.eye(12))
    expected = []
    for unit in range(3):
        block = np.arange(unit, 12, 3)
        schur = np.linalg.inv(inverse[np.ix_(block, block)]) - ridge * np.eye(4)
        expected.append(np.trace(kernel[block].T @ schur @ kernel[block]))
    np.testing.assert_allclose(criteria.score(criterion, case.units, found)["conv"], expected, rtol=1e-3)
    monkeypatch.setattr(collect, "WIDEST", 8)
    case, found = seen(model, criterion, samples)
    alone = ((x**2).mean(0)[:, None] * kernel**2).sum(1).reshape(4, 3).sum(0)
    np.testing.assert_allclose(criteria.score(criterion, case.units, found)["conv"], alone, rtol=1e-4)


# --- the whole -------------------------------------------------------------------------------------------------------

EVERY: list[Criterion] = [
    ActivationMean(name="activation_mean"),
    APoZ(name="apoz"),
    HRank(name="hrank"),
    Wanda(name="wanda"),
    Flap(name="flap"),
    OBS(name="obs"),
    Taylor(name="taylor"),
    OBD(name="obd"),
    SNIP(name="snip"),
]


@pytest.mark.parametrize("criterion", EVERY, ids=lambda one: one.name)
def test_a_dead_unit_of_a_trained_network_scores_lowest(criterion: Criterion, tmp_path: Path) -> None:
    """`last` has no normalisation behind it: without weights and bias its unit 5 is zero on every image."""
    model = small.residual()
    layer = model.get_layer("last")
    kernel, bias = (np.array(weight) for weight in layer.get_weights())
    kernel[..., 5], bias[:] = 0, 1.0
    bias[5] = 0
    layer.set_weights([kernel, bias])
    images, labels = small.images(64)
    samples = Samples("train", (images,), (Labels(labels, "sparse", "y_train"),), ("float32",))
    objective = Objective((Loss("sparse_categorical_crossentropy"),), (1.0,), (), "inferred")
    case = small.case(model, tmp_path)
    found = [collect.evidence(case, criterion, samples, objective, seed) for seed in (3, 3)]
    first, second = (criteria.score(criterion, case.units, each, 3) for each in found)
    assert all(np.array_equal(first[group], second[group]) for group in first)
    assert set(first) == {"stem", "last"}
    assert first["last"].argmin() == 5
    assert first["last"][5] < 0.5 * np.delete(first["last"], 5).min()


def test_samples_are_drawn_by_the_seed() -> None:
    model = perceptron()
    samples, case = samples_for(model), case_of(model)
    criterion = ActivationMean(name="activation_mean", samples=10)
    one, same, other = (
        collect.evidence(case, criterion, samples, seed=seed).inputs["layers/dense/vars/0"].mean for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.allclose(one, other)


def test_what_is_missing_or_not_finite_is_said() -> None:
    model = perceptron()
    case, samples = case_of(model), samples_for(model)
    with pytest.raises(DatasetMismatch, match="taylor needs training samples and their labels"):
        collect.evidence(case, Taylor(name="taylor"), replace(samples, labels=()), MSE)
    with pytest.raises(DatasetMismatch, match="apoz needs training samples"):
        collect.evidence(case, APoZ(name="apoz"))
    huge = replace(samples, inputs=(np.full_like(samples.inputs[0], 3e38),))
    for criterion in (APoZ(name="apoz"), SNIP(name="snip")):
        with pytest.raises(DatasetMismatch, match="is not finite on the training samples"):
            collect.evidence(case, criterion, huge, MSE)


def test_half_precision_is_measured_in_single() -> None:
    model = graphs.build("mixed_precision")
    case, samples = case_of(model), samples_for(model)
    found = collect.evidence(case, Taylor(name="taylor"), samples, MSE)
    whole = live.build(live.computing_in(case.archive.config, "float32"), case.archive.arrays)
    assert not live.computes_in(whole, {"float16"})
    again = collect.evidence(case_of(whole), Taylor(name="taylor"), samples, MSE)
    for path, gradients in found.gradients.items():
        np.testing.assert_allclose(gradients.mean, again.gradients[path].mean, rtol=1e-5, atol=1e-7)
        assert np.abs(gradients.mean).max() > 0


def test_images_of_free_size_that_are_resized_are_looked_at_in_the_size_of_the_samples() -> None:
    inputs = keras.Input((None, None, 2))
    x = L.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = L.UpSampling2D(2, interpolation="bilinear")(L.AveragePooling2D(2)(x))
    model = keras.Model(inputs, L.Conv2D(2, 1, name="last")(x))
    x = np.random.default_rng(0).normal(size=(6, 8, 12, 2)).astype(np.float32)
    train = Samples("train", (x,), (), ("float32",))
    found = collect.evidence(case_of(model), ActivationMean(name="activation_mean", **PLAIN), train)
    read = keras.Model(inputs, model.get_layer("last").input)(x).numpy()
    ((_, last),) = [item for item in found.inputs.items() if len(item[1].mean) == 4]
    np.testing.assert_allclose(last.mean, read.mean(axis=(0, 1, 2)), rtol=1e-5)
