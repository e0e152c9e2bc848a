"""With channels first: widths at which Keras would add the bias along the last axis are not left, and that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers as L

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
