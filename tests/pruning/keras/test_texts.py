"""Models that read texts, on data sets of texts: measured as Keras does, recovered, refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import pruning
from pruning.contract.errors import DatasetMismatch

Arrays = dict[str, Any]


def texts(count: int, seed: int) -> tuple[Any, Any]:
    """Three words each; the first one says the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    rest = rng.choice(["so", "the", "film"], (count, 2))
    return np.array([f"{('bad', 'good')[label]} {a} {b}" for label, (a, b) in zip(labels, rest, strict=True)]), labels


def splits() -> Arrays:
    made: Arrays = {}
    for seed, (split, count) in enumerate({"train": 200, "validation": 50, "test": 50}.items()):
        made[f"x_{split}"], made[f"y_{split}"] = texts(count, seed)
    return made


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of texts, trained for a moment."""
    keras.utils.set_random_seed(0)
    data = splits()
    vectorize = L.TextVectorization(max_tokens=20, output_sequence_length=4, name="vectorize")
    vectorize.adapt(data["x_train"])
    text = keras.Input((), dtype="string", name="text")
    x = L.Conv1D(16, 2, padding="same", activation="relu", name="conv")(
        L.Embedding(20, 8, name="embed")(vectorize(text))
    )
    x = L.Dense(12, activation="relu", name="wide")(L.GlobalMaxPooling1D()(x))
    model = keras.Model(text, L.Dense(2, activation="softmax", name="classes")(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(tf.constant(data["x_train"]), data["y_train"], epochs=5, verbose=0)
    path = tmp_path_factory.mktemp("reader") / "reader.keras"
    model.save(path)
    return path


def pruned(reader: Path, data: Any, out: Path, recovery: Any, **wanted: Any) -> Any:
    how = {"target": {"type": "ratio", "value": 0.5}, **wanted}
    return pruning.prune(reader, {"pruning": how, "recovery": recovery, "measures": {"latency": None}}, data, out=out)


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
@pytest.mark.parametrize("kind", ["U", "S"])
def test_what_is_left_is_measured_on_texts_as_keras_does(reader: Path, kind: str, tmp_path: Path) -> None:
    data = {name: array.astype(kind) if name[0] == "x" else array for name, array in splits().items()}
    np.savez(tmp_path / "texts.npz", **data)
    stage = {"stage": "fine_tune", "epochs": 4, "learning_rate": 0.01}
    result = pruned(reader, tmp_path / "texts.npz", tmp_path, [stage])
    assert result.data["arrays"][0] == {"name": "x_train", "shape": [200], "dtype": "string"}
    found = result.recovery.test
    for path, loss, accuracy in (
        (reader, found.loss.original, found.metrics["accuracy"].original),
        (tmp_path / "pruned.keras", found.loss.recovered, found.metrics["accuracy"].recovered),
    ):
        model = keras.saving.load_model(path)
        np.testing.assert_allclose(
            model.evaluate(tf.constant(data["x_test"]), data["y_test"], verbose=0), [loss, accuracy], rtol=1e-4
        )
    assert found.metrics["accuracy"].recovered == 1.0
    assert result.measures.after.macs < result.measures.before.macs


@pytest.mark.parametrize(
    ("recovery", "wanted"),
    [
        ([{"stage": "least_squares"}], {}),
        ([{"stage": "fold"}, {"stage": "batch_norm"}], {}),
        ([], {"criterion": {"name": "taylor"}}),
        ([], {"criterion": {"name": "wanda"}, "structure": "weight"}),
    ],
)
def test_what_looks_at_samples_reads_texts(reader: Path, recovery: Any, wanted: Any, tmp_path: Path) -> None:
    result = pruned(reader, splits(), tmp_path, recovery, **wanted)
    assert [stage.stage for stage in result.stages] == [stage["stage"] for stage in recovery]
    assert result.verification.passed
    assert all(warning.code != "verification_without_power" for warning in result.warnings)
    assert result.recovery.test.metrics["accuracy"].original == 1.0


def test_texts_and_numbers_are_not_taken_for_each_other(reader: Path, tmp_path: Path) -> None:
    numbers = splits() | {"x_train": np.ones(200)}
    with pytest.raises(DatasetMismatch, match="'x_train' holds float64, the model's input 'text' takes string"):
        pruned(reader, numbers, tmp_path, [{"stage": "batch_norm"}])
    keras.Sequential([keras.Input((1,)), L.Dense(4), L.Dense(2)]).save(tmp_path / "numbers.keras")
    with pytest.raises(DatasetMismatch, match=r"holds string, the model's input .* takes float32"):
        pruned(tmp_path / "numbers.keras", {"x_train": np.array([["a"], ["b"]])}, tmp_path, [{"stage": "batch_norm"}])


@pytest.mark.parametrize("sign", [0x110000, 0xD800])
def test_what_is_no_unicode_is_named(reader: Path, sign: int, tmp_path: Path) -> None:
    data = splits()
    broken = np.ascontiguousarray(data["x_test"])
    broken.view(np.uint32).reshape(50, -1)[7, 3] = sign
    np.savez(tmp_path / "texts.npz", **data | {"x_test": broken})
    with pytest.raises(DatasetMismatch, match="array 'x_test' holds a text at index 7 that is no Unicode"):
        pruned(reader, tmp_path / "texts.npz", tmp_path, [])
