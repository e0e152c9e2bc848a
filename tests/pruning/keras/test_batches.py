"""Models that were made for one size of batch, with that written down in a reshape or for states that they keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import pruning
from pruning.contract.errors import DatasetMismatch
from pruning.keras import probe

DEAD = [1, 4]


@pytest.fixture(params=[1, 3])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> keras.Model:
    """Convolution, a reshape to steps, a mean; two of its eight channels are dead."""
    batch = request.param
    inputs = keras.Input(batch_shape=(batch, 8, 8, 3))
    x = L.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = ops.mean(ops.reshape(x, (batch, -1, 8)), axis=1)
    made = keras.Model(inputs, L.Dense(2)(x))
    kernel, bias = made.get_layer("conv").get_weights()
    kernel[..., DEAD] = 0
    made.get_layer("conv").set_weights([kernel, bias])
    made.save(tmp_path / "model.keras")
    return made


def prune(folder: Path, data: Path | None = None, share: float = 0.25, **how: str) -> Any:
    pruned = {"target": {"type": "ratio", "value": share}, "scope": "layer", **how}
    spec = {"pruning": pruned, "measures": {"latency": None}}
    return pruning.prune(folder / "model.keras", spec, data, out=folder)


def test_it_is_proven_on_batches_of_that_size(model: keras.Model, tmp_path: Path) -> None:
    result = prune(tmp_path)
    assert [layer.width_after for layer in result.layers if layer.name == "conv"] == [6]
    x = np.random.default_rng(0).random(model.inputs[0].shape, np.float32)
    pruned = keras.saving.load_model(tmp_path / "pruned.keras")
    np.testing.assert_allclose(pruned(x), model(x), atol=1e-5)


def test_data_that_it_cannot_compute_are_refused_with_the_reason(model: keras.Model, tmp_path: Path) -> None:
    x = np.zeros((8, 8, 8, 3), np.float32)
    np.savez(tmp_path / "data.npz", x_validation=x, y_validation=np.zeros(8, np.int64))
    batch = model.inputs[0].shape[0]
    with pytest.raises(DatasetMismatch, match=f"validation data; it was made for batches of {batch}, and"):
        prune(tmp_path, tmp_path / "data.npz")


def test_a_batch_that_only_the_inputs_name_binds_nobody(model: keras.Model) -> None:
    inputs = keras.Input(batch_shape=(64, 4))
    assert probe.batch_of(keras.Model(inputs, L.Dense(2)(inputs))) is None
    assert probe.batch_of(model) == model.inputs[0].shape[0]


@pytest.fixture
def stateful(tmp_path: Path) -> keras.Model:
    """Layers that keep their states between calls, a branch that adds nothing between them."""
    inputs = keras.Input(batch_shape=(2, 6, 5))
    x = L.RNN(L.StackedRNNCells([L.GRUCell(8), L.LSTMCell(8)]), stateful=True, return_sequences=True)(inputs)
    x = x + L.Dense(8, activation="relu", kernel_initializer="zeros")(x)
    model = keras.Model(inputs, L.Dense(2)(L.LSTM(8, stateful=True, name="top")(x)))
    model.save(tmp_path / "model.keras")
    return model


def test_the_proof_begins_each_run_without_the_states_of_the_last(stateful: keras.Model, tmp_path: Path) -> None:
    result = prune(tmp_path)
    assert result.verification.structure.has_power
    assert [layer.width_after for layer in result.layers if layer.name == "top"] == [6]


def test_so_does_the_proof_of_blocks(stateful: keras.Model, tmp_path: Path) -> None:
    assert prune(tmp_path, share=0.5, structure="layer", scope="global").verification.structure.has_power
    pruned = keras.saving.load_model(tmp_path / "pruned.keras")
    for x in np.random.default_rng(0).random((3, 2, 6, 5), np.float32):
        np.testing.assert_allclose(pruned(x), stateful(x), atol=1e-5)
