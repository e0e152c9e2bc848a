"""Operations that mix units compute without the removed ones, by NumPy; whole runs with `normalized_axes: prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import pruning
from pruning import units as unit_finder
from pruning.contract.spec import Pruning
from pruning.keras import live, masked
from pruning.planning import read, study
from tests.pruning.keras.test_heads import QUIET, tokens, transformer

PRUNE = Pruning.model_validate(
    {"target": {"type": "ratio", "value": 0.5}, "constraints": {"normalized_axes": "prune"}, "scope": "layer"}
)
GONE = [1, 4]


def _layer(x: Any, eps: float) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def _groups(x: Any, eps: float) -> Any:
    # Channels 0 and 4, 1 and 5, ... stand at one place of the two groups.
    halves = x.reshape(*x.shape[:-1], 2, -1)
    mean, var = (f(halves, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    return ((halves - mean) / np.sqrt(var + eps)).reshape(x.shape)


DEFINITIONS: dict[str, tuple[Any, list[int], Any]] = {
    "layer": (L.LayerNormalization, GONE, lambda x: _layer(x, 1e-3)),
    "rms": (L.RMSNormalization, GONE, lambda x: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)),
    "unit": (L.UnitNormalization, GONE, lambda x: x / np.sqrt((x**2).sum(-1, keepdims=True))),
    "mean": (lambda: lambda x: x / ops.mean(x, -1, True), GONE, lambda x: x / x.mean(-1, keepdims=True)),
    "max": (lambda: lambda x: x - ops.max(x, -1, True), GONE, lambda x: x - x.max(-1, keepdims=True)),
    "spread": (lambda: lambda x: x / ops.std(x, -1, True), GONE, lambda x: x / x.std(-1, keepdims=True)),
    "group": (lambda: L.GroupNormalization(2), [1, 5], lambda x: _groups(x, 1e-3)),
}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_statistics_are_those_of_the_kept_units(name: str, tmp_path: Path) -> None:
    make, gone, definition = DEFINITIONS[name]
    inputs = keras.Input((3, 4))
    x = L.Dense(8, name="before")(inputs)
    y = L.Conv1D(2, 1, name="after")(make()(x))
    model = keras.Model(inputs, [x, y])
    keras.Model(inputs, y).save(tmp_path / "m.keras")
    units = study(read(tmp_path / "m.keras"), PRUNE).units
    width = units.widths["before"]
    batch = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    before, _ = live.call(model, [batch])
    kernel, bias = (np.asarray(array) for array in model.get_layer("after").get_weights())
    kept = [index for index in range(8) if index not in gone]
    expected = definition(np.asarray(before)[..., kept]) @ kernel[0][kept] + bias
    kernel[0][gone] = 0
    model.get_layer("after").set_weights([kernel, bias])
    with masked.without(model, units, width[gone]):
        _, found = live.call(model, [batch])
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-5)
    _, again = live.call(model, [batch])
    assert not np.allclose(np.asarray(again), expected, rtol=1e-2)


def test_a_transformer_loses_the_width_of_its_stream(tmp_path: Path) -> None:
    transformer().save(tmp_path / "m.keras")
    result = pruning.prune(tmp_path / "m.keras", {**QUIET, "pruning": PRUNE.model_dump()}, out=tmp_path / "out")
    pruned = keras.saving.load_model(tmp_path / "out" / "pruned.keras", compile=False)
    assert pruned.get_layer("embed").units == 4
    assert {layer.gamma.shape for layer in pruned.layers if isinstance(layer, L.LayerNormalization)} == {(4,)}
    assert pruned.count_params() == result.measures.after.parameters
    assert result.verification is not None
    for check in (result.verification.structure, result.verification.delivered):
        assert check is not None
        assert check.has_power
    # One of two dimensions a head would be half of them: see `pruning.rules.bias_add`.
    assert [warning.detail[:42] for warning in result.warnings] == ["'grouped' has 2 dimensions a head and must"]
    pruned.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = pruned.get_layer("embed").get_weights()[0]
    pruned.fit(*tokens(), verbose=0)
    assert (pruned.get_layer("embed").get_weights()[0] != before).any()


def test_kept_by_default_and_said_so(tmp_path: Path) -> None:
    transformer().save(tmp_path / "m.keras")
    archive = read(tmp_path / "m.keras")
    for case, stays in ((study(archive), True), (study(archive, PRUNE), False)):
        (group,) = [group for group in case.units.groups if "embed" in group.producers]
        assert (group.barrier is not None) == stays
        if group.barrier is not None:
            assert group.barrier.code == "normalized_axis"
            assert "normalized_axes is keep" in group.barrier.detail
    assert unit_finder.find(study(archive).graph, archive.arrays).count == study(archive, PRUNE).units.count
