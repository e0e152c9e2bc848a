"""Keras 2 architectures, layer by layer: what Keras 3 makes of them must compute what Keras 2 computed."""

from __future__ import annotations

import copy
import json
from typing import Any

import keras
import numpy as np
import pytest

from pruning.contract.errors import UnreadableFile
from pruning.keras.legacy import modernize, modernize_training

Config = dict[str, Any]
BASE = {"trainable": True, "dtype": "float32"}
IMAGE, SERIES = [None, 8, 8, 3], [None, 6, 3]


def part(class_name: str, **config: Any) -> Config:
    return {"class_name": class_name, "config": config}


CONV = {
    "filters": 4,
    "kernel_size": [3, 3],
    "strides": [1, 1],
    "padding": "same",
    "data_format": "channels_last",
    "dilation_rate": [1, 1],
    "groups": 1,
    "activation": "linear",
    "use_bias": True,
    "kernel_initializer": part("GlorotUniform", seed=None, dtype="float32"),
    "bias_initializer": part("Zeros", dtype="float32"),
    "kernel_regularizer": None,
    "bias_regularizer": None,
    "activity_regularizer": None,
    "kernel_constraint": None,
    "bias_constraint": None,
}
GLOROT = part("GlorotUniform", seed=None)
DEPTHWISE = {k: v for k, v in CONV.items() if k != "filters" and not k.startswith("kernel_")} | {
    "kernel_size": [3, 3],
    "depth_multiplier": 1,
    "depthwise_initializer": GLOROT,
    "depthwise_regularizer": None,
    "depthwise_constraint": None,
}
SEPARABLE = CONV | {
    "depth_multiplier": 1,
    **{f"{half}_initializer": GLOROT for half in ("depthwise", "pointwise")},
    **{f"{half}_{kind}": None for half in ("depthwise", "pointwise") for kind in ("regularizer", "constraint")},
}
RNN = {
    "units": 4,
    "activation": "tanh",
    "use_bias": True,
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "stateful": False,
    "unroll": False,
    "time_major": False,
    "kernel_initializer": GLOROT,
    "recurrent_initializer": part("Orthogonal", gain=1.0, seed=None),
    "bias_initializer": part("Zeros"),
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
}
LSTM = RNN | {"recurrent_activation": "sigmoid", "unit_forget_bias": True, "implementation": 2}
GRU = RNN | {"recurrent_activation": "sigmoid", "reset_after": True, "implementation": 2}
EMBEDDING = {
    "input_dim": 10,
    "output_dim": 4,
    "embeddings_initializer": part("RandomUniform", minval=-0.05, maxval=0.05, seed=None),
    "embeddings_regularizer": None,
    "activity_regularizer": None,
    "embeddings_constraint": None,
    "mask_zero": False,
    "input_length": 6,
    "batch_input_shape": [None, 6],
}
NORM = {
    "axis": [3],
    "momentum": 0.99,
    "epsilon": 0.001,
    "center": True,
    "scale": True,
    "beta_initializer": part("Zeros"),
    "gamma_initializer": part("Ones"),
    "moving_mean_initializer": part("Zeros"),
    "moving_variance_initializer": part("Ones"),
    "beta_regularizer": None,
    "gamma_regularizer": None,
    "beta_constraint": None,
    "gamma_constraint": None,
}
SCALING = part("VarianceScaling", scale=1.0, mode="fan_in", distribution="normal", seed=None, dtype="float32")
CASES: list[tuple[str, Config, list[int | None], tuple[int | None, ...]]] = [
    ("Conv2D", CONV, IMAGE, (None, 8, 8, 4)),
    ("DepthwiseConv2D", DEPTHWISE, IMAGE, (None, 8, 8, 3)),
    ("SeparableConv2D", SEPARABLE, IMAGE, (None, 8, 8, 4)),
    ("Conv2DTranspose", CONV | {"output_padding": None}, IMAGE, (None, 8, 8, 4)),
    ("LSTM", LSTM, SERIES, (None, 4)),
    ("GRU", GRU, SERIES, (None, 4)),
    ("SimpleRNN", RNN, SERIES, (None, 4)),
    ("Bidirectional", {"layer": part("LSTM", name="l", **BASE, **LSTM), "merge_mode": "concat"}, SERIES, (None, 8)),
    ("TimeDistributed", {"layer": part("Dense", name="d", units=3, **BASE)}, SERIES, (None, 6, 3)),
    ("Embedding", EMBEDDING, [None, 6], (None, 6, 4)),
    ("BatchNormalization", NORM, IMAGE, (None, 8, 8, 3)),
    ("BatchNormalizationV1", NORM | {"renorm": False, "fused": True}, IMAGE, (None, 8, 8, 3)),
    ("SpatialDropout2D", {"rate": 0.5, "noise_shape": None, "seed": None}, IMAGE, (None, 8, 8, 3)),
    ("LeakyReLU", {"alpha": 0.1}, IMAGE, (None, 8, 8, 3)),
    ("Dense", {"units": 3, "kernel_initializer": SCALING}, [None, 4], (None, 3)),
    ("Dense", {"units": 3, "dtype": part("Policy", name="mixed_float16")}, [None, 4], (None, 3)),
    ("Dense", {"units": 3, "kernel_regularizer": part("L1L2", l1=0.0, l2=0.001)}, [None, 4], (None, 3)),
    (
        "ConvLSTM2D",
        CONV | LSTM | {"padding": "same", "kernel_size": [3, 3], "filters": 2} | {"units": None},
        [None, 5, 8, 8, 3],
        (None, 8, 8, 2),
    ),
]


def functional(class_name: str, config: Config, shape: list[int | None], name: str = "x") -> Config:
    given = {"batch_input_shape": shape, "dtype": "float32", "sparse": False, "ragged": False, "name": "input_1"}
    layer = {"class_name": class_name, "config": BASE | config | {"name": name}, "name": name}
    return {
        "class_name": "Functional",
        "keras_version": "2.5.0",
        "backend": "tensorflow",
        "config": {
            "name": "m",
            "layers": [
                {"class_name": "InputLayer", "config": given, "name": "input_1", "inbound_nodes": []},
                {**layer, "inbound_nodes": [[["input_1", 0, 0, {}]]]},
            ],
            "input_layers": [["input_1", 0, 0]],
            "output_layers": [[name, 0, 0]],
        },
    }


def built(config: Config) -> keras.Model:
    return keras.models.model_from_json(json.dumps(modernize(config)))


@pytest.mark.parametrize(
    ("class_name", "config", "shape", "expected"), CASES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_a_layer_of_keras_2(class_name: str, config: Config, shape: list[int | None], expected: Any) -> None:
    """The output's shape, and every value of the config that Keras 3 has too."""
    config = {key: value for key, value in config.items() if value is not None or key != "units"}
    model = built(functional(class_name, config, shape))
    assert model.output_shape == expected
    agree(config, model.layers[-1].get_config())


# An axis is a number now, and "normal" always meant the truncated one.
RENAMED: dict[str, Any] = {"[3]": 3, "normal": "truncated_normal"}


def agree(old: Config, new: Config) -> None:
    """Values of Keras 2's config against Keras 3's: numbers, texts, and objects by class and parameters."""
    for key, value in old.items():
        if key not in new or key in ("name", "dtype"):
            continue
        found = new[key]
        if isinstance(value, dict):
            assert found["class_name"] == value["class_name"], key
            agree(value["config"], found["config"])
        else:
            assert (list(found) if isinstance(found, tuple) else found) == RENAMED.get(str(value), value), key


def test_what_a_layer_of_keras_2_computes() -> None:
    """Renamed parameters and defaults that changed, by hand."""
    x = np.array([[-2.0, 1.0, 0.5, 3.0]], np.float32)
    leaky = built(functional("LeakyReLU", {"alpha": 0.1}, [None, 4]))
    np.testing.assert_allclose(leaky([x]), [[-0.2, 1.0, 0.5, 3.0]], rtol=1e-6)
    norm = built(functional("BatchNormalization", NORM | {"axis": [1], "epsilon": 0.25}, [None, 4]))
    norm.set_weights([np.full(4, value, np.float32) for value in (2.0, 1.0, 0.5, 0.75)])
    np.testing.assert_allclose(norm([x]), 2 * (x - 0.5) / 1.0 + 1, rtol=1e-6)
    table = built(functional("Embedding", EMBEDDING | {"batch_input_shape": [None, 2]}, [None, 2]))
    rows = np.arange(40, dtype=np.float32).reshape(10, 4)
    table.set_weights([rows])
    np.testing.assert_array_equal(table([np.array([[3, 9]])]), rows[[[3, 9]]])


def test_a_gru_of_keras_2_resets_after_the_product() -> None:
    """One step from zero: the candidate is tanh(x W + b + r * c), where c is the recurrent bias."""
    model = built(functional("GRU", GRU | {"units": 1}, [None, 1, 1]))
    kernel, inner = np.array([[0.3, -0.4, 0.5]], np.float32), np.zeros((1, 3), np.float32)
    bias = np.array([[0.1, 0.2, -0.3], [0.0, 0.0, 0.7]], np.float32)
    model.set_weights([kernel, inner, bias])
    x = 2.0
    z, r = (1 / (1 + np.exp(-(x * kernel[0, gate] + bias[0, gate]))) for gate in (0, 1))
    candidate = np.tanh(x * kernel[0, 2] + bias[0, 2] + r * bias[1, 2])
    np.testing.assert_allclose(model([np.full((1, 1, 1), x, np.float32)]), [[(1 - z) * candidate]], rtol=1e-5)


def test_the_argument_is_left_alone() -> None:
    config = functional("DepthwiseConv2D", DEPTHWISE, IMAGE)
    before = copy.deepcopy(config)
    modernize(config)
    assert config == before


def test_a_model_of_class_model_and_names_with_slashes() -> None:
    config = functional("Conv2D", CONV, IMAGE, name="block/conv") | {"class_name": "Model"}
    model = built(config)
    assert model.layers[-1].name == "block_conv"
    config["config"]["layers"].append(copy.deepcopy(config["config"]["layers"][1]))
    twin = config["config"]["layers"][2]
    twin["name"] = twin["config"]["name"] = "block_conv"
    config["config"]["output_layers"] = [["block/conv", 0, 0], ["block_conv", 0, 0]]
    assert [layer.name for layer in built(config).layers[1:]] == ["block_conv_", "block_conv"]


def test_a_sequential_model_keeps_its_input_shape() -> None:
    """Keras 3 alone would add a dimension to `batch_input_shape` and say nothing."""
    layers = [part("Dense", name="a", units=3, batch_input_shape=[None, 4], **BASE), part("Dense", name="b", units=2)]
    model = built({"class_name": "Sequential", "config": {"name": "s", "layers": layers}})
    assert (model.input_shape, model.output_shape) == ((None, 4), (None, 2))
    assert built({"class_name": "Sequential", "config": layers}).output_shape == (None, 2)


@pytest.mark.parametrize(
    ("class_name", "config", "words"),
    [
        ("LSTM", LSTM | {"time_major": True}, "time_major=True"),
        ("TFOpLambda", {"function": "math.add"}, "Replace it by a Keras layer"),
        ("PruneLowMagnitude", {"layer": part("Conv2D", **CONV)}, "strip_pruning"),
        ("CuDNNLSTM", {"units": 3}, "CuDNNLSTM"),
    ],
)
def test_what_has_no_equal_is_refused_by_name(class_name: str, config: Config, words: str) -> None:
    with pytest.raises(UnreadableFile, match=words):
        modernize(functional(class_name, config, SERIES, name="odd"))


def test_training_config_becomes_arguments_of_compile() -> None:
    training = {
        "loss": {"class_name": "SparseCategoricalCrossentropy", "config": {"reduction": "auto", "from_logits": True}},
        "metrics": [
            [{"class_name": "MeanMetricWrapper", "config": {"name": "accuracy", "fn": "categorical_accuracy"}}]
        ],
        "loss_weights": None,
        "optimizer_config": {"class_name": "Adam", "config": {"name": "Adam", "decay": 0.0, "learning_rate": 0.1}},
    }
    assert modernize_training(training) == {
        "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.1}},
        "loss": {
            "class_name": "SparseCategoricalCrossentropy",
            "config": {"reduction": "sum_over_batch_size", "from_logits": True},
        },
        "metrics": [["accuracy"]],
    }
