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


def _gated(add: Any, width: int = 8, steps: int | None = 6) -> keras.Model:
    inputs = keras.Input((steps, 5))
    x = L.Conv1D(width, 3, padding="same", name="wide")(inputs)
    x = L.GlobalMaxPooling1D()(add(x, L.Dense(1, name="shift")(inputs)))
    return keras.Model(inputs, L.Dense(2)(L.Dense(8, name="hidden")(x)))


def _shifted_channels(width: int = 8, constant: bool = False) -> keras.Model:
    first: dict[str, Any] = {"data_format": "channels_first"}
    inputs = keras.Input((5, 4, 6))
    x = L.Conv2D(width, 3, padding="same", use_bias=False, name="wide", **first)(inputs)
    if constant:
        x = x + np.linspace(-1, 1, width, dtype="float32").reshape(-1, 1, 1)
    else:
        x = L.Add()([x, L.GlobalAveragePooling2D(keepdims=True, **first)(x)])
    return keras.Model(inputs, L.Dense(2)(L.Dense(8, name="hidden")(L.GlobalMaxPooling2D(**first)(x))))


@pytest.mark.parametrize(
    "build",
    [
        lambda: _gated(lambda x, y: L.Add()([x, y])),
        lambda: _gated(lambda x, y: L.Average()([x, y])),
        lambda: _gated(lambda x, y: x + y),
        _shifted_channels,
        lambda: _shifted_channels(constant=True),
    ],
    ids=["add", "average", "operator", "channels first", "constant"],
)
def test_one_sample_is_added_as_many_are(build: Callable[[], keras.Model], tmp_path: Path) -> None:
    """Left with 6 units, as long as the other axis, Keras would add the small tensor along the wrong one."""
    build().save(tmp_path / "model.keras")
    rule = {"layers": {"wide": {"ratio": 0.25}}, "target": {"type": "manual"}}
    quiet = {"recovery": [], "measures": {"latency": None}}
    with pytest.raises(ContradictorySpec, match=r"\(units of 'wide'\) would have 6 units"):
        pruning.prune(tmp_path / "model.keras", {"pruning": rule, **quiet}, out=tmp_path)
    wanted = {"target": {"type": "ratio", "value": 0.25}, "scope": "layer"}
    result = pruning.prune(tmp_path / "model.keras", {"pruning": wanted, **quiet}, out=tmp_path)
    assert result.verification is not None
    assert {layer.name: layer.width_after for layer in result.layers}["wide"] == 7
    assert [said.partition(" has ")[2] for said in _said(result)] == ["7 units and must not have 6"]
    model = keras.saving.load_model(tmp_path / "pruned.keras")
    samples = np.random.default_rng(0).normal(size=(3, *model.input_shape[1:])).astype("float32")
    one_by_one = np.concatenate([np.asarray(model(samples[i : i + 1])) for i in range(3)])
    np.testing.assert_allclose(one_by_one, model(samples), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("build", "length"),
    [
        (lambda: _gated(lambda x, y: L.Add()([x, y]), width=6), 6),
        (lambda: _shifted_channels(width=6), 6),
        (lambda: _shifted_channels(width=6, constant=True), 6),
        # Probes have 64 steps where they are free.
        (lambda: _gated(lambda x, y: x + y, width=64, steps=None), 64),
        (lambda: _gated(lambda x, y: x + y, width=128, steps=None), 64),
        (lambda: _gated(lambda x, y: x + y, width=8, steps=None), 4),
    ],
    ids=["steps", "channels first", "constant", "free steps", "free steps, wider", "free steps, narrower"],
)
def test_axes_that_are_or_may_come_as_long_keep_their_units(
    build: Callable[[], keras.Model], length: int, tmp_path: Path
) -> None:
    """Each model gives, also for one sample at that length, what the original gives without the hidden units."""
    build().save(tmp_path / "model.keras")
    spec = {
        "pruning": {"target": {"type": "ratio", "value": 0.5}, "scope": "layer"},
        "recovery": [],
        "measures": {"latency": None},
    }
    result = pruning.prune(tmp_path / "model.keras", spec, out=tmp_path)
    widths = {layer.name: (layer.width_before, layer.width_after) for layer in result.layers}
    assert widths["wide"][0] == widths["wide"][1]
    assert widths["hidden"] == (8, 4)
    original, pruned = (keras.saving.load_model(tmp_path / name) for name in ("model.keras", "pruned.keras"))
    before, after = (keras.Model(m.inputs[0], m.get_layer("hidden").input) for m in (original, pruned))
    for count in (1, 3):
        shape = (count, *(size or length for size in original.input_shape[1:]))
        samples = np.random.default_rng(0).normal(size=shape).astype("float32")
        np.testing.assert_allclose(after(samples), before(samples), rtol=1e-5, atol=1e-6)


def _middle() -> keras.Model:
    """A bias on an axis that is not the last one, of four units beside eight."""
    inputs = keras.Input((5, 3))
    x = L.EinsumDense("abc,cde->abde", (5, 4, 8), bias_axes="d", name="split")(inputs)
    x = L.EinsumDense("abde,def->abf", (5, 6), name="joined")(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


def _heads() -> keras.Model:
    """More heads than steps, which may be left as many."""
    inputs = keras.Input((5, 3))
    x = L.EinsumDense("abc,cde->abde", (5, 8, 2), bias_axes="de", name="split")(inputs)
    x = L.EinsumDense("abde,def->abf", (5, 6), name="joined")(x)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize(
    ("build", "refused", "what"),
    [
        (_middle, [4, 5, 6, 7], "'split' would have 4 units: Keras adds a bias"),
        (_heads, [1], "'split' would have 1 units of the last axis"),
    ],
    ids=["one axis", "heads"],
)
def test_a_bias_that_comes_to_be_as_long_as_another_axis(
    build: Callable[[], keras.Model], refused: list[int], what: str, tmp_path: Path
) -> None:
    build().save(tmp_path / "model.keras")
    quiet = {"recovery": [], "measures": {"latency": None}}
    rule = {"layers": {"split": {"remove": refused}}, "target": {"type": "manual"}}
    with pytest.raises(ContradictorySpec, match=what):
        pruning.prune(tmp_path / "model.keras", {"pruning": rule, **quiet}, out=tmp_path)
    floor = pruning.inspect(tmp_path / "model.keras").floor["parameters"]
    budget = {"target": {"type": "budget", "measure": "parameters", "at_most": floor}}
    result = pruning.prune(tmp_path / "model.keras", {"pruning": budget, **quiet}, out=tmp_path)
    assert result.verification is not None
    assert result.measures.after.parameters == floor


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
