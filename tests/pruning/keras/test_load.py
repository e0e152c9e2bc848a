from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from pruning.contract.errors import UnreadableFile, UnsafeFile, UnsupportedFormat
from pruning.keras.load import load
from pruning.keras.private import variables
from tests.pruning.keras import small

INPUT = {"batch_input_shape": [None, 4], "name": "a", "units": 3, "activation": "relu"}
KERAS2 = {
    "class_name": "Sequential",
    "keras_version": "2.5.0",
    "config": {
        "name": "old",
        "layers": [
            {"class_name": "Dense", "config": INPUT},
            {"class_name": "Dense", "config": {"name": "b", "units": 2, "activation": "softmax"}},
        ],
    },
}
WEIGHTS = {
    "a": [np.full((4, 3), 0.5, np.float32), np.arange(3, dtype=np.float32)],
    "b": [np.arange(6, dtype=np.float32).reshape(3, 2), np.ones(2, np.float32)],
}


def write_weights(group: h5py.Group, weights: dict[str, list[Any]]) -> None:
    """As Keras 2 wrote them: layers in order, each a group whose weights have names."""
    group.attrs["layer_names"] = [name.encode() for name in weights]
    group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.5.0"
    for layer, arrays in weights.items():
        inner = group.create_group(layer)
        names = [f"{layer}/w{i}:0" for i in range(len(arrays))]
        inner.attrs["weight_names"] = [name.encode() for name in names]
        for name, array in zip(names, arrays, strict=True):
            inner.create_dataset(name, data=array)


def keras2_file(path: Path, config: Any = KERAS2, weights: Any = WEIGHTS, training: Any = None) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        if training is not None:
            file.attrs["training_config"] = json.dumps(training)
        write_weights(file.create_group("model_weights"), weights)
    return path


def by_hand(x: Any) -> Any:
    hidden = np.maximum(x @ WEIGHTS["a"][0] + WEIGHTS["a"][1], 0)
    logits = hidden @ WEIGHTS["b"][0] + WEIGHTS["b"][1]
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def test_a_keras_2_file_computes_what_its_weights_say(tmp_path: Path) -> None:
    training = {
        "loss": "categorical_crossentropy",
        "metrics": ["accuracy"],
        "optimizer_config": {"class_name": "SGD", "config": {"learning_rate": 0.1, "decay": 0.0, "momentum": 0.9}},
    }
    model = load(keras2_file(tmp_path / "upload", training=training))
    np.testing.assert_allclose(model(X).numpy(), by_hand(X), rtol=1e-6)
    assert model.get_compile_config()["loss"] == "categorical_crossentropy"


def test_how_it_was_trained_is_no_reason_to_refuse_a_model(tmp_path: Path) -> None:
    training = {"loss": "my_loss", "optimizer_config": {"class_name": "MyOptimizer", "config": {}}}
    assert load(keras2_file(tmp_path / "upload.h5", training=training)).compiled is False


def test_weights_only_with_keras_2_json(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights", "w") as file:
        write_weights(file, WEIGHTS)
    model = load(tmp_path / "weights", json.dumps(KERAS2))
    np.testing.assert_allclose(model(X).numpy(), by_hand(X), rtol=1e-6)
    with pytest.raises(UnreadableFile, match="weights only"):
        load(tmp_path / "weights")
    other = copy.deepcopy(KERAS2)
    other["config"]["layers"][0]["config"]["units"] = 7
    with pytest.raises(UnreadableFile, match="cannot load"):
        load(tmp_path / "weights", json.dumps(other))
    with pytest.raises(UnreadableFile, match="no JSON"):
        load(tmp_path / "weights", "{")


def test_keras_3_weights_with_keras_3_json(tmp_path: Path) -> None:
    model = small.residual()
    model.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "m.weights.h5").rename(tmp_path / "blob")
    again = load(tmp_path / "blob", model.to_json())
    x = small.images(4)[0]
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_keras_3_files_keep_values_and_compile_config(tmp_path: Path, suffix: str) -> None:
    model = small.residual()
    model.save(tmp_path / f"m.{suffix}")
    again = load(tmp_path / f"m.{suffix}")
    x = small.images(4)[0]
    np.testing.assert_array_equal(again(x), model(x))
    assert again.get_compile_config()["loss"] == "sparse_categorical_crossentropy"


def test_variables_are_named_as_in_the_file(tmp_path: Path) -> None:
    model = small.residual()
    arrays = small.case(model, tmp_path).archive.arrays
    found = variables(model)
    assert set(found) == set(arrays)
    for path, array in arrays.items():
        np.testing.assert_array_equal(found[path], array)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"model = keras.Sequential()", "neither"),
        (b"MZ" + bytes(100), "executable"),
        (b"\x7fELF" + bytes(100), "executable"),
        (b"PK\x03\x04" + bytes(100), "cut off"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "cannot load|cut off"),
    ],
)
def test_no_model_at_all(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(UnreadableFile, match=words):
        load(tmp_path / "upload")


def test_truncated_files(tmp_path: Path) -> None:
    model = small.residual()
    for suffix in ("keras", "h5"):
        path = tmp_path / f"m.{suffix}"
        model.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableFile):
            load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    model = small.residual()
    kernel = model.get_layer("branch").kernel
    broken = kernel.numpy()
    broken[0, 0, 0, 0] = value
    kernel.assign(broken)
    model.save(tmp_path / "m.keras")
    with pytest.raises(UnreadableFile, match="branch/kernel"):
        load(tmp_path / "m.keras")


def edited(path: Path, change: Any) -> Path:
    """The model file with another config."""
    small.residual().save(path)
    with zipfile.ZipFile(path) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


def test_custom_unknown_and_unsafe_classes(tmp_path: Path) -> None:
    def replaced(**entry: Any) -> Any:
        return lambda config: config["config"]["layers"][1].update(entry)

    path = tmp_path / "m.keras"
    with pytest.raises(UnreadableFile, match=r"MyConv.*custom class"):
        load(edited(path, replaced(class_name="MyConv", module="my_package", registered_name="Custom>MyConv")))
    with pytest.raises(UnreadableFile, match=r"NoSuchLayer.*does not have"):
        load(edited(path, replaced(class_name="NoSuchLayer")))
    for entry in (
        {"class_name": "Lambda"},
        {"class_name": "TFSMLayer"},
        {"class_name": "system", "module": "os"},
        {"class_name": "eval", "module": "builtins"},
        {"class_name": "function", "module": "builtins", "config": "TFSMLayer"},
        {"class_name": "get_file", "module": "keras.utils"},
    ):
        with pytest.raises(UnsafeFile):
            load(edited(path, replaced(**entry)))


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_functions_in_layers_and_operations_are_refused_by_name(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    for output in (keras.layers.Lambda(lambda x: x * 2)(inputs), keras.ops.map(lambda row: row * 2, inputs)):
        keras.Model(inputs, keras.layers.Dense(2)(output)).save(tmp_path / "m.keras")
        with pytest.raises(UnsafeFile, match=r"'(Lambda|__lambda__)'.*can run code"):
            load(tmp_path / "m.keras")


def test_a_zip_that_is_no_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as bundle:
        bundle.writestr("readme.txt", "hello")
    with pytest.raises(UnsupportedFormat, match=r"readme\.txt"):
        load(tmp_path / "z")


def test_real_keras_2_file() -> None:
    path = small.SHARED / "resnet8_cifar10.h5"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    model = load(path)
    assert (model.count_params(), model.input_shape) == (78666, (None, 32, 32, 3))
    assert model.get_compile_config()["loss"] == "categorical_crossentropy"


def test_a_model_without_input_shape_is_refused(tmp_path: Path) -> None:
    config = copy.deepcopy(KERAS2)
    del config["config"]["layers"][0]["config"]["batch_input_shape"]
    with pytest.raises(UnreadableFile, match="input shape"):
        load(keras2_file(tmp_path / "m.h5", config))


def test_compiling_keeps_the_layers_of_a_nested_model(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="deep")], name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)))
    model.save(tmp_path / "m.h5")
    np.testing.assert_array_equal(load(tmp_path / "m.h5")(X), model(X))
