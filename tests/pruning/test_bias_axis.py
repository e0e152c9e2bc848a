"""Widths at which Keras would add a bias along another axis than its own are not left, and that is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

import pruning
from pruning import planning
from pruning.contract.errors import ContradictorySpec
from pruning.contract.request import PruneRequest
from pruning.contract.result import Result
from pruning.contract.spec import Spec
from pruning.keras import pipeline

RATIO = {"type": "ratio", "value": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    first: dict[str, Any] = {"padding": "same", "data_format": "channels_first", "activation": "relu"}
    inputs = keras.Input((2, 6, 8))
    x = L.Conv2D(16, 3, name="wide", **first)(inputs)
    x = L.Conv2D(9, 3, name="narrow", **first)(x)
    x = L.Conv2D(6, 3, name="free", use_bias=False, **first)(x)
    x = L.GlobalMaxPooling2D(data_format="channels_first")(x)
    pipeline.normalize(keras.Model(inputs, L.Dense(2)(x)), folder / "model.keras")
    return folder


def _dry_run(folder: Path, **pruning: Any) -> Result:
    spec = Spec.model_validate({"pruning": pruning, "dry_run": True})
    return planning.dry_run(PruneRequest(model=str(folder / "model.keras"), out=str(folder), spec=spec))


def _said(result: Result) -> list[str]:
    return [warning.detail.split(":")[0] for warning in result.warnings if warning.code == "bias_axis"]


def test_a_unit_that_stays_for_it_is_said(folder: Path) -> None:
    result = _dry_run(folder, target=RATIO, scope="layer")
    assert {layer.name: layer.width_after for layer in result.layers if layer.width_before}["wide"] == 9
    assert _said(result) == ["'wide' has 9 channels and must not have 8"]


def test_so_is_a_layer_that_keeps_all(folder: Path) -> None:
    result = _dry_run(folder, target={"type": "manual"}, layers={"wide": {"remove": [0]}})
    assert _said(result) == ["'narrow' has 9 channels and must not have 8"]
    assert _said(_dry_run(folder, target=RATIO, structure="weight")) == []


def test_a_rule_that_asks_for_it_is_refused(folder: Path) -> None:
    with pytest.raises(ContradictorySpec, match="'narrow' would have 8 channels: channels come first"):
        _dry_run(folder, target={"type": "manual"}, layers={"narrow": {"remove": [3]}})


def _attention(steps: int | None) -> keras.Model:
    inputs = keras.Input((steps, 5))
    x = L.MultiHeadAttention(4, 3, value_dim=2, name="attention")(inputs, inputs)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def _grouped() -> keras.Model:
    inputs = keras.Input((6, 5))
    x = L.GroupQueryAttention(4, 6, 3, name="attention")(inputs, inputs)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def _einsum() -> keras.Model:
    inputs = keras.Input((6, 5))
    x = L.EinsumDense("bqm,muh->bquh", (6, 6, 3), bias_axes="uh", name="split")(inputs)
    x = L.EinsumDense("bquh,uhm->bqm", (6, 4), bias_axes="m", name="joined")(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        # As many steps as heads: Keras would add the biases of heads to the steps. A free axis may come so long.
        (_attention(4), ["'attention' has 2 dimensions a head and must not have 1"] * 2),
        (_attention(None), ["'attention' has 2 dimensions a head and must not have 1"] * 2),
        (_attention(5), []),
        (_grouped(), ["'attention' has 2 dimensions a head and must not have 1"]),
        (_einsum(), ["'split' has 2 units of the last axis and must not have 1"]),
    ],
    ids=["as many steps as heads", "free steps", "other steps", "grouped", "einsum"],
)
def test_a_bias_of_several_axes_keeps_them_apart(model: keras.Model, said: list[str], tmp_path: Path) -> None:
    model.save(tmp_path / "model.keras")
    floor = pruning.inspect(tmp_path / "model.keras").floor
    target = {"type": "budget", "measure": "parameters", "at_most": floor["parameters"]}
    spec = {"pruning": {"target": target}, "recovery": [], "measures": {"latency": None}}
    result = pruning.prune(tmp_path / "model.keras", spec, out=tmp_path)
    assert {"macs": result.measures.after.macs, "parameters": result.measures.after.parameters} == {
        "macs": floor["macs"],
        "parameters": floor["parameters"],
    }
    assert _said(result) == said


def test_a_plan_that_leaves_one_dimension_is_refused(tmp_path: Path) -> None:
    _grouped().save(tmp_path / "model.keras")
    plan = {"structure": "channel", "groups": [{"id": "attention", "width": 4, "keep": [1]}]}
    with pytest.raises(ContradictorySpec, match="'attention' would have 1 dimensions a head"):
        pruning.prune(
            tmp_path / "model.keras", {"pruning": {"target": {"type": "plan", "plan": plan}}, "dry_run": True}
        )


def _gated(add: Any) -> keras.Model:
    inputs = keras.Input((6, 5))
    x = L.Conv1D(8, 3, padding="same", name="wide")(inputs)
    return keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling1D()(add(x, L.Dense(1, name="shift")(inputs)))))


def _shifted_channels() -> keras.Model:
    first: dict[str, Any] = {"data_format": "channels_first"}
    inputs = keras.Input((5, 4, 6))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="wide", **first)(inputs)
    x = L.Add()([x, L.GlobalAveragePooling2D(keepdims=True, **first)(x)])
    return keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling2D(**first)(x)))


@pytest.mark.parametrize(
    "build",
    [
        lambda: _gated(lambda x, y: L.Add()([x, y])),
        lambda: _gated(lambda x, y: L.Average()([x, y])),
        lambda: _gated(lambda x, y: x + y),
        _shifted_channels,
    ],
    ids=["add", "average", "operator", "channels first"],
)
def test_one_sample_is_added_as_many_are(build: Callable[[], keras.Model], tmp_path: Path) -> None:
    """Left with 6 units, as long as the other axis, Keras would add the small tensor along the wrong one."""
    build().save(tmp_path / "model.keras")
    rule = {"layers": {"wide": {"ratio": 0.25}}, "target": {"type": "manual"}}
    quiet = {"recovery": [], "measures": {"latency": None}}
    with pytest.raises(ContradictorySpec, match="would have 6 units"):
        pruning.prune(tmp_path / "model.keras", {"pruning": rule, **quiet}, out=tmp_path)
    wanted = {"target": {"type": "ratio", "value": 0.25}}
    result = pruning.prune(tmp_path / "model.keras", {"pruning": wanted, **quiet}, out=tmp_path)
    assert {layer.name: layer.width_after for layer in result.layers}["wide"] == 7
    assert [said.partition(" has ")[2] for said in _said(result)] == ["7 units and must not have 6"]
    model = keras.saving.load_model(tmp_path / "pruned.keras")
    samples = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")
    one_by_one = np.concatenate([np.asarray(model(samples[i : i + 1])) for i in range(3)])
    np.testing.assert_allclose(one_by_one, model(samples), rtol=1e-5, atol=1e-6)


def test_sums_whose_axes_cannot_be_mistaken_lose_what_they_are_asked_to(tmp_path: Path) -> None:
    """Residual sums, and channels that are shifted on the last axis."""
    inputs = keras.Input((6, 6, 4))
    x = L.Conv2D(8, 3, padding="same", name="wide")(inputs)
    x = L.Add()([x, L.Conv2D(8, 1)(inputs), L.GlobalAveragePooling2D(keepdims=True)(x)])
    keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling2D()(x))).save(tmp_path / "model.keras")
    spec = {"pruning": {"target": {"type": "ratio", "value": 0.25}}, "recovery": [], "measures": {"latency": None}}
    result = pruning.prune(tmp_path / "model.keras", spec, out=tmp_path)
    assert {layer.name: layer.width_after for layer in result.layers}["wide"] == 6
    assert _said(result) == []
