"""Heads, key and value dimensions: whole runs on a small transformer, and what rules and targets make of heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import pruning
from pruning.contract.errors import ContradictorySpec, InfeasibleTarget, NothingToPrune, TargetOutOfRange
from pruning.contract.result import LayerReport, Result
from tests.pruning.keras import small
from tests.thinned import thinned

EVIDENCE = ["fpgm", "taylor", "obd", "snip", "wanda", "flap", "obs", "activation_mean", "lamp"]
QUIET: dict[str, Any] = {"recovery": [], "measures": {"latency": None}}


def transformer(seed: int = 0) -> keras.Model:
    """Tokens (6, 5) -> 3 classes: attention with 4 heads (key 6, value 4), and grouped with 6 query and 3 key heads."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input((6, 5))
    x = layers.Dense(8, name="embed")(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(4, 6, value_dim=4, name="attention")(x, x)])
    x = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.GroupQueryAttention(4, 6, 3, name="grouped")(x, x, use_causal_mask=True)])
    x = layers.Dense(8, name="out")(layers.Dense(12, "gelu", name="mlp")(layers.LayerNormalization()(x)))
    return keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling1D()(x)))


def tokens(count: int = 32, seed: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 6, 5)).astype(np.float32), rng.integers(0, 3, count)


def run(folder: Path, model: keras.Model, spec: dict[str, Any], **options: Any) -> tuple[Result, dict[str, list[int]]]:
    """A whole run and the plan's kept indices by group."""
    model.save(folder / "m.keras")
    result = pruning.prune(folder / "m.keras", {**QUIET, "pruning": spec, **options}, out=folder / "out")
    plan = json.loads((folder / "out" / "plan.json").read_text())
    assert plan["structure"] == spec.get("structure", "channel")
    return result, {group["id"]: group["keep"] for group in plan["groups"]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformer")
    transformer().save(folder / "m.keras")
    return folder


def dry(folder: Path, spec: dict[str, Any]) -> Result:
    return pruning.prune(folder / "m.keras", {"pruning": spec, "dry_run": True})


def predicted_of(result: Result) -> tuple[int, int, int]:
    return result.measures.after.parameters, result.measures.after.macs, result.measures.after.size_bytes


def predicted(folder: Path, spec: dict[str, Any]) -> tuple[int, int, int]:
    """What a dry run says of the job, to the digit."""
    return predicted_of(dry(folder, spec))


def rows(result: Result) -> dict[str, LayerReport]:
    return {row.name: row for row in result.layers}


def widths(result: Result) -> dict[str, tuple[int | None, int | None]]:
    return {name: (row.width_before, row.width_after) for name, row in rows(result).items()}


def lost(count: int, kept: list[int]) -> list[int]:
    return [index for index in range(count) if index not in kept]


def test_heads_go_and_the_model_computes_what_the_others_did(tmp_path: Path) -> None:
    model = transformer()
    spec = {"structure": "head", "target": {"type": "ratio", "value": 0.5}, "scope": "layer"}
    result, keep = run(tmp_path, model, spec)
    pruned = keras.saving.load_model(tmp_path / "out" / "pruned.keras", compile=False)
    attention, grouped = pruned.get_layer("attention"), pruned.get_layer("grouped")
    assert (attention.num_heads, attention.key_dim, attention.value_dim) == (2, 6, 4)
    assert (grouped.num_query_heads, grouped.num_key_value_heads, grouped.head_dim) == (2, 1, 4)
    assert pruned.get_layer("mlp").units == 12
    (of_attention, of_grouped) = keep.values()
    kernel, bias = model.get_layer("attention").output_dense.get_weights()
    kernel[lost(4, of_attention)] = 0
    model.get_layer("attention").output_dense.set_weights([kernel, bias])
    kernel, bias = model.get_layer("grouped")._output_dense.get_weights()
    kernel[[head for head in range(6) if head // 2 not in of_grouped]] = 0
    model.get_layer("grouped")._output_dense.set_weights([kernel, bias])
    x, y = tokens()
    np.testing.assert_allclose(pruned.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
    assert result.verification is not None
    assert result.verification.structure is not None
    assert result.verification.structure.has_power
    assert result.measures.after.parameters == pruned.count_params()
    assert predicted(tmp_path, spec) == predicted_of(result)
    assert widths(result)["attention"] == (4, 2)
    assert widths(result)["grouped"] == (6, 2)
    pruned.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = attention.output_dense.get_weights()[0]
    pruned.fit(x, y, verbose=0)
    assert (attention.output_dense.get_weights()[0] != before).any()


def test_key_and_value_dimensions_go_and_the_scores_stay(tmp_path: Path) -> None:
    model = transformer()
    spec = {"target": {"type": "ratio", "value": 0.5}, "scope": "layer"}
    result, keep = run(tmp_path, model, spec)
    assert predicted(tmp_path, spec) == predicted_of(result)
    pruned = keras.saving.load_model(tmp_path / "out" / "pruned.keras", compile=False)
    attention, grouped = pruned.get_layer("attention"), pruned.get_layer("grouped")
    assert (attention.num_heads, attention.key_dim, attention.value_dim) == (4, 3, 2)
    assert (grouped.num_query_heads, grouped.num_key_value_heads, grouped.head_dim) == (6, 3, 2)
    whole = model.get_layer("attention")
    for dense, dims, axis in (("query_dense", lost(6, keep["attention#2"]), 2), ("output_dense", [], 1)):
        kernel, bias = getattr(whole, dense).get_weights()
        gone = dims if axis == 2 else lost(4, keep["attention"])
        kernel[(slice(None),) * axis + (gone,)] = 0
        if axis == 2:
            bias[:, gone] = 0
        getattr(whole, dense).set_weights([kernel, bias])
    whole, gone = model.get_layer("grouped"), lost(4, keep["grouped"])
    kernel, bias = whole._query_dense.get_weights()
    kernel[..., gone], bias[:, gone] = 0, 0
    whole._query_dense.set_weights([kernel, bias])
    kernel, bias = whole._output_dense.get_weights()
    kernel[:, gone] = 0
    whole._output_dense.set_weights([kernel, bias])
    kernel, bias = model.get_layer("out").get_weights()
    kernel[lost(12, keep["mlp"])] = 0
    model.get_layer("out").set_weights([kernel, bias])
    kernel, bias = model.get_layer("head").get_weights()
    kernel[lost(8, keep["out"])] = 0
    model.get_layer("head").set_weights([kernel, bias])
    x, _ = tokens()
    np.testing.assert_allclose(pruned.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)
    assert result.measures.after.parameters == pruned.count_params()


def test_a_dead_head_goes_first(tmp_path: Path) -> None:
    model = transformer()
    for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
        dense = getattr(model.get_layer("attention"), name)
        kernel, bias = dense.get_weights()
        at = (2,) if name == "output_dense" else (slice(None), 2)
        kernel[at] *= 1e-4
        dense.set_weights([kernel, bias])
    x, _ = tokens()
    before = model.predict(x, verbose=0)
    spec = {"structure": "head", "target": {"type": "threshold", "value": 0.01}, "criterion": {"name": "l2"}}
    result, keep = run(tmp_path, model, spec)
    assert list(keep.values()) == [[0, 1, 3], [0, 1, 2]]
    pruned = keras.saving.load_model(tmp_path / "out" / "pruned.keras", compile=False)
    np.testing.assert_allclose(pruned.predict(x, verbose=0), before, rtol=1e-4, atol=1e-4)
    assert {warning.code for warning in result.warnings} == {"verification_without_power"}


@pytest.mark.parametrize("criterion", [{"name": "l1"}, {"name": "mean_abs"}, {"name": "random"}])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_every_criterion_ranks_heads(saved: Path, criterion: dict[str, str], scope: str) -> None:
    spec = {"structure": "head", "criterion": criterion, "scope": scope, "target": {"type": "ratio", "value": 0.4}}
    result = dry(saved, spec)
    assert result.plan is not None
    # 4 heads and 3 groups of them: 0.4 of 7 over all, 2 and 1 (1.6 and 1.2) layer by layer.
    assert sum(group.width - len(group.keep) for group in result.plan.groups) == 3
    assert rows(result)["mlp"].parameters_after == rows(result)["mlp"].parameters_before


def test_a_budget_on_macs_is_met_by_heads_alone(saved: Path) -> None:
    spec = {"structure": "head", "target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.7}}
    result = dry(saved, spec)
    assert 0.5 < (result.measures.ratio["macs"] or 0) <= 0.7
    low = {"structure": "head", "target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.1}}
    with pytest.raises(InfeasibleTarget) as failed:
        dry(saved, low)
    assert failed.value.floor is not None


def test_macs_of_an_attention_by_hand(saved: Path) -> None:
    spec = {"structure": "head", "target": {"type": "manual"}, "layers": {"attention": {"remove": [3]}}}
    row = rows(dry(saved, spec))["attention"]
    a_head = 6 * 8 * (6 + 6 + 4) + 6 * 6 * (6 + 4) + 6 * 4 * 8
    assert (row.macs_before, row.macs_after) == (4 * a_head, 3 * a_head)
    assert row.parameters_before - row.parameters_after == 8 * (6 + 6 + 4) + 6 + 6 + 4 + 4 * 8


def test_rules_name_heads_by_index(saved: Path) -> None:
    manual: dict[str, Any] = {"structure": "head", "target": {"type": "manual"}}
    plan = dry(saved, {**manual, "layers": {"attention": {"remove": [0, 2]}, "grouped": {"remove": [1]}}}).plan
    assert plan is not None
    # Query heads 0 and 1 share the first key head: they go together.
    assert [group.keep for group in plan.groups] == [[1, 3], [1, 2]]
    plan = dry(saved, {**manual, "layers": {"attention": {"keep": [3]}}}).plan
    assert plan is not None
    assert [group.keep for group in plan.groups] == [[3], [0, 1, 2]]
    with pytest.raises(TargetOutOfRange, match="4 units"):
        dry(saved, {**manual, "layers": {"attention": {"remove": [4]}}})
    with pytest.raises(ContradictorySpec):
        dry(saved, {**manual, "layers": {"attention": {"remove": [0, 1, 2, 3]}}})
    with pytest.raises(NothingToPrune, match="structure channel"):
        dry(saved, {**manual, "layers": {"mlp": {"remove": [0]}}})


def test_skip_protects_all_that_an_attention_makes(saved: Path) -> None:
    skip = {"attention": {"skip": True}}
    for structure in ("channel", "head"):
        spec = {"structure": structure, "target": {"type": "ratio", "value": 0.3}, "layers": skip}
        row = rows(dry(saved, spec))["attention"]
        assert row.parameters_after == row.parameters_before
        assert row.kept_because == "skipped by `layers`"


def test_each_structure_removes_its_own(saved: Path) -> None:
    channels = dry(saved, {"target": {"type": "ratio", "value": 0.5}})
    assert channels.plan is not None
    heads = dry(saved, {"structure": "head", "target": {"type": "ratio", "value": 0.5}})
    assert heads.plan is not None
    assert not {group.id for group in channels.plan.groups} & {group.id for group in heads.plan.groups}
    found = pruning.inspect(saved / "m.keras")
    of = {group.id: group.structure for group in found.groups}
    assert {of[group.id] for group in channels.plan.groups} == {"channel"}
    assert {of[group.id] for group in heads.plan.groups} == {"head"}
    assert {layer.name: layer.heads for layer in found.layers if layer.heads} == {"attention": 4, "grouped": 6}


def test_a_model_without_heads_says_so(tmp_path: Path) -> None:
    small.residual().save(tmp_path / "m.keras")
    with pytest.raises(NothingToPrune, match="no heads"):
        dry(tmp_path, {"structure": "head", "target": {"type": "ratio", "value": 0.5}})


def test_heads_that_must_stay_are_named(tmp_path: Path) -> None:
    inputs, mask = keras.Input((6, 5)), keras.Input((4, 6, 6))
    x = keras.layers.MultiHeadAttention(4, 6, name="attention")(inputs, inputs, attention_mask=mask)
    keras.Model([inputs, mask], x).save(tmp_path / "m.keras")
    with pytest.raises(NothingToPrune, match="'attention': meets an axis without units"):
        dry(tmp_path, {"structure": "head", "target": {"type": "ratio", "value": 0.5}})


@pytest.mark.parametrize("structure", ["channel", "head"])
@pytest.mark.parametrize("name", thinned(EVIDENCE, 3))
def test_criteria_with_evidence_score_what_an_attention_has(saved: Path, name: str, structure: str) -> None:
    x, y = tokens(48)
    spec = {"structure": structure, "criterion": {"name": name}, "target": {"type": "ratio", "value": 0.4}}
    data = {"x_train": x, "y_train": y, "x_validation": x[:8], "y_validation": y[:8]}
    result = pruning.prune(saved / "m.keras", {"pruning": spec, "dry_run": True}, data)
    assert result.plan is not None
    lost_by = {group.id: group.width - len(group.keep) for group in result.plan.groups}
    assert sum(lost_by.values()) > 0
    unscored = {row.name for row in result.layers if "nothing to score" in (row.kept_because or "")}
    assert not unscored
