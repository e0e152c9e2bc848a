"""Widths at which Keras would add a bias along another axis than its own are not left, and that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
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
