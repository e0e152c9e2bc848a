"""Whole runs of structure layer on a small residual model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L

import pruning
from pruning import archive as archives
from pruning import planning, rewiring
from pruning.contract.errors import (
    ContradictorySpec,
    DatasetMismatch,
    DatasetRequired,
    InfeasibleTarget,
    LayerNotFound,
    NothingToPrune,
)
from pruning.contract.plan import Plan
from pruning.contract.request import InspectRequest
from pruning.keras import pipeline
from tests.pruning.keras import small
from tests.pruning.keras.test_pipeline import FINE_TUNE, Bench

LAYER: dict[str, Any] = {"structure": "layer"}
THIRD = {**LAYER, "target": {"type": "ratio", "value": 0.34}}


def deep() -> keras.Model:
    """Three residual branches, the second of which hardly adds anything, and a dense chain."""
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((8, 8, 2), name="image")
    x = L.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    for index in range(3):
        y = L.BatchNormalization(name=f"norm{index}")(L.Conv2D(6, 3, padding="same", name=f"conv{index}")(x))
        x = L.Add(name=f"add{index}")([x, y])
    x = L.Dense(6, activation="relu", name="dense")(L.GlobalAveragePooling2D(name="pool")(x))
    model = keras.Model(inputs, L.Dense(small.CLASSES, activation="softmax", name="head")(x), name="deep")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = deep()
    x, y = small.images(256, seed=9)
    model.fit(x, y, epochs=4, batch_size=16, verbose=0)
    idle = model.get_layer("norm1")
    idle.gamma.assign(idle.gamma * 1e-3)
    idle.beta.assign(idle.beta * 1e-3)
    path = tmp_path_factory.mktemp("deep") / "model.keras"
    pipeline.normalize(model, path)
    return path


@pytest.fixture
def bench(tmp_path: Path, trained: Path) -> Bench:
    (tmp_path / "model.keras").write_bytes(trained.read_bytes())
    found = Bench(tmp_path)
    found.save(small.splits())
    return found


def removed(plan: Plan | None) -> list[str]:
    assert plan is not None
    return plan.layers


def test_a_block_by_its_name(bench: Bench) -> None:
    spec = {**LAYER, "target": {"type": "manual"}, "layers": {"add0": {"remove": True}}}
    result = bench.prune(spec, recovery=[{"stage": "batch_norm"}, FINE_TUNE], exports=["keras", "h5"])
    model, rows = bench.delivered(), {row.name: row for row in result.layers}
    assert "conv0" not in [layer.name for layer in model.layers]
    assert {row.name for row in rows.values() if row.removed} == {"conv0", "norm0", "add0"}
    assert (rows["conv0"].width_before, rows["conv0"].width_after, rows["conv0"].parameters_after) == (6, 0, 0)
    assert (rows["conv1"].width_after, rows["conv1"].kept_because) == (6, None)
    assert rows["stem"].kept_because == "in no block whose input could stand for its output"
    after = result.measures.after
    assert (after.parameters, after.macs) == (model.count_params(), sum(row.macs_after for row in rows.values()))
    lost = 6 * 6 * 9 + 6 + 4 * 6
    assert result.removed.size == pytest.approx(lost / result.measures.before.parameters)
    assert result.verification is not None
    assert result.verification.structure is not None
    assert result.verification.structure.relative_difference < 1e-12
    assert result.verification.structure.has_power
    assert result.recovery is not None
    assert result.recovery.test is not None
    assert (result.recovery.test.metrics["accuracy"].ratio or 0) > 0.8
    assert [stage.stage for stage in result.stages] == ["batch_norm", "fine_tune"]
    produced = [path for _, _, path in bench.produced()]
    assert produced == ["pruned.keras", "pruned.h5", "plan.json", "keep_map.json"]


@pytest.mark.parametrize("criterion", ["block_influence", "loss_change"])
def test_what_adds_next_to_nothing_goes_first(bench: Bench, criterion: str) -> None:
    spec = {**THIRD, "criterion": {"name": criterion, "samples": 64}}
    predicted = bench.prune(spec, dry_run=True)
    assert bench.produced() == []
    assert removed(predicted.plan) == ["add1"]
    with pytest.raises(DatasetRequired, match=criterion):
        bench.prune(spec, data=False)


def test_the_loss_needs_labels_and_influence_none(bench: Bench) -> None:
    bench.save({name: array for name, array in small.splits().items() if name.startswith("x")})
    with pytest.raises(DatasetMismatch, match="labels"):
        bench.prune({**THIRD, "criterion": {"name": "loss_change"}}, dry_run=True)
    assert removed(bench.prune({**THIRD, "criterion": {"name": "block_influence"}}, dry_run=True).plan) == ["add1"]


def test_a_dry_run_predicts_the_job_to_the_digit(bench: Bench) -> None:
    spec = {
        **LAYER,
        "criterion": {"name": "bn_scale"},
        "target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.75},
    }
    predicted = bench.prune(spec, dry_run=True)
    assert removed(predicted.plan) == ["add1"]
    real = bench.prune(spec, recovery=[])
    for name in ("parameters", "macs", "size_bytes", "nonzero_parameters", "peak_memory_bytes", "sparse_bytes"):
        assert getattr(predicted.measures.after, name) == getattr(real.measures.after, name)
    assert (predicted.removed, predicted.layers) == (real.removed, real.layers)
    assert predicted.plan == Plan.model_validate_json((bench.folder / "out" / "plan.json").read_text())


def test_a_plan_replays_to_the_delivered_model(bench: Bench) -> None:
    bench.prune(THIRD, recovery=[])
    plan = Plan.model_validate_json((bench.folder / "out" / "plan.json").read_text())
    delivered = archives.read(bench.folder / "out" / "pruned.keras")
    again = bench.prune({**LAYER, "target": {"type": "plan", "plan": plan.model_dump()}}, recovery=[])
    assert again.verification is not None
    second = archives.read(bench.folder / "out" / "pruned.keras")
    assert second.config == delivered.config
    for path, array in delivered.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[path])


def test_budgets_are_met_with_the_least_removed(bench: Bench) -> None:
    case = planning.study(planning.read(bench.folder / "model.keras"))
    whole = (bench.folder / "model.keras").stat().st_size
    for measure, at_most in (("parameters", {"at_most_ratio": 0.6}), ("size_bytes", {"at_most": whole - 1})):
        result = bench.prune({**LAYER, "target": {"type": "budget", "measure": measure, **at_most}}, dry_run=True)
        bound = at_most.get("at_most") or 0.6 * result.measures.before.parameters
        gone = case.blocks.named(removed(result.plan))
        assert getattr(result.measures.after, measure) <= bound
        for block in gone:
            kept = rewiring.apply(case.archive, case.blocks, [other for other in gone if other is not block])
            parameters = sum(array.size for array in kept.arrays.values())
            assert (parameters if measure == "parameters" else archives.size_bytes(kept)) > bound


def test_out_of_reach_gives_the_floor_and_the_nearest_model(bench: Bench) -> None:
    with pytest.raises(InfeasibleTarget) as caught:
        bench.prune({**LAYER, "target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.01}})
    body = caught.value.body()
    nearest = planning.study(archives.read(bench.folder / "out" / body["nearest"]))
    assert body["floor"] == sum(nearest.blocks.macs(nearest.units, ()).values())
    assert [block.id for block in nearest.blocks.found] == []


def test_max_ratio_bounds_the_share_of_blocks(bench: Bench) -> None:
    spec = {**LAYER, "target": {"type": "ratio", "value": 0.9}, "constraints": {"max_ratio": 0.5}}
    with pytest.raises(InfeasibleTarget, match=r"lets 2 of 4 blocks go: a share of 0\.5 of the 4 that") as caught:
        bench.prune(spec, dry_run=True)
    assert caught.value.extra["floor"] == 0.5
    with pytest.raises(NothingToPrune, match=r"max_ratio 0\.2 lets 0 of 4 blocks go, .* max_ratio of 0\.25 or more"):
        bench.prune({**spec, "constraints": {"max_ratio": 0.2}}, dry_run=True)
    every = bench.prune({**LAYER, "target": {"type": "threshold", "value": 1e9}}, dry_run=True)
    assert removed(every.plan) == ["add0", "add1", "add2", "dense"]


def test_rules_of_layers(bench: Bench) -> None:
    everything = {**LAYER, "target": {"type": "threshold", "value": 1e9}}
    kept = bench.prune({**everything, "layers": {"conv[01]": {"skip": True}}}, dry_run=True)
    assert removed(kept.plan) == ["add2", "dense"]
    assert {row.name: row.kept_because for row in kept.layers}["norm0"] == "skipped by `layers`"
    with pytest.raises(LayerNotFound, match="'adds'"):
        bench.prune({**everything, "layers": {"adds": {"skip": True}}}, dry_run=True)
    with pytest.raises(NothingToPrune, match="'conv1' lies in block 'add1'"):
        bench.prune({**everything, "layers": {"conv1": {"remove": True}}}, dry_run=True)
    with pytest.raises(ContradictorySpec, match="skip for 'conv1' keeps block 'add1'"):
        bench.prune({**everything, "layers": {"conv1": {"skip": True}, "add1": {"remove": True}}}, dry_run=True)


def test_a_model_without_blocks_says_why(bench: Bench) -> None:
    inputs = keras.Input((8, 8, 2), name="image")
    outputs = L.Dense(3, "softmax")(L.Flatten()(L.Conv2D(4, 3)(inputs)))
    pipeline.normalize(keras.Model(inputs, outputs), bench.folder / "model.keras")
    with pytest.raises(NothingToPrune, match="no layer gives back the shape that it takes"):
        bench.prune(THIRD, dry_run=True)


def test_blocks_go_where_tensorflow_computes_channels_first_by_xla_alone(bench: Bench) -> None:
    first: dict[str, Any] = {"padding": "same", "data_format": "channels_first"}
    inputs = keras.Input((2, 6, 7), name="image")
    x = L.Conv2D(4, 3, activation="relu", **first)(inputs)
    x = L.Add(name="sum")([x, L.Conv2D(4, 3, name="branch", **first)(x)])
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D(data_format="channels_first")(x)))
    pipeline.normalize(model, bench.folder / "model.keras")
    result = bench.prune({**LAYER, "target": {"type": "manual"}, "layers": {"sum": {"remove": True}}}, data=False)
    assert [layer.name for layer in result.layers if layer.removed] == ["branch", "sum"]
    assert result.verification.delivered.relative_difference <= 1e-4


def test_blocks_that_compute_next_to_nothing_are_said_to(bench: Bench) -> None:
    inputs = keras.Input((8, 8, 2), name="image")
    x = L.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    gate = L.Dense(6, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(L.Conv2D(5, 3)(L.Multiply(name="gate")([x, gate])))))
    pipeline.normalize(model, bench.folder / "model.keras")
    rules = {"layers": {"gate": {"remove": True}}}
    result = bench.prune({**LAYER, "target": {"type": "manual"}, **rules}, data=False, dry_run=True)
    (warning,) = result.warnings
    assert warning.code == "macs_hardly_moved"
    assert warning.detail.startswith("the 1 of 1 blocks that went hold 0.2% of the MACs: the rest lies in")


def test_inspection_lists_blocks_and_the_floor(tmp_path: Path) -> None:
    deep().save(tmp_path / "deep.keras")
    request = InspectRequest(upload=str(tmp_path / "deep.keras"), format="keras", out=str(tmp_path))
    found = pipeline.inspect(request, lambda _: None)
    blocks = {block.id: block for block in found.blocks}
    assert list(blocks) == ["add0", "add1", "add2", "dense"]
    assert (blocks["add1"].kind, blocks["add1"].layers) == ("branch", ["conv1", "norm1", "add1"])
    assert (blocks["add1"].parameters, blocks["add1"].macs) == (6 * 6 * 9 + 6 + 24, 16 * 6 * 6 * 9)
    assert blocks["dense"].kind == "chain"
    lost = sum(block.macs for block in found.blocks), sum(block.parameters for block in found.blocks)
    assert found.layer_floor["macs"] == found.macs - lost[0]
    assert found.layer_floor["parameters"] == found.parameters - lost[1]


def test_blocks_go_behind_steps_side_by_side(tmp_path: Path) -> None:
    x = L.Dense(10)(L.Reshape((-1, 12))(inputs := keras.Input((None, 4))))
    outputs = L.Dense(2)(x + L.Dense(10, name="up")(L.Dense(6, activation="relu", name="down")(x)))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    pruned = {**LAYER, "target": {"type": "ratio", "value": 0.9}}
    result = pruning.prune(tmp_path / "model.keras", {"pruning": pruned, "measures": {"latency": None}})
    assert {layer.name for layer in result.layers if layer.removed} >= {"down", "up"}


def test_a_mask_that_an_attention_took_is_there_without_it(tmp_path: Path) -> None:
    tokens = keras.Input((6,), dtype="int32")
    x = L.Embedding(4, 8, mask_zero=True)(tokens)
    x = x + L.MultiHeadAttention(2, 4, name="first")(x, x)
    x = L.MultiHeadAttention(2, 4, name="second")(x, L.Dense(8)(x))
    keras.Model(tokens, L.Dense(2)(x)).save(tmp_path / "model.keras")
    (name,) = (block.id for block in pruning.inspect(tmp_path / "model.keras").blocks if block.id.startswith("add"))
    pruned = {**LAYER, "target": {"type": "manual"}, "layers": {name: {"remove": True}}}
    result = pruning.prune(tmp_path / "model.keras", {"pruning": pruned, "measures": {"latency": None}})
    assert result.verification.delivered.has_power


def test_blocks_go_in_front_of_a_softmax_that_is_a_layer(tmp_path: Path) -> None:
    # It is called with a mask of None, which what the proof puts in its place does not take.
    x = inputs = keras.Input((8,))
    x = x + L.Dense(8, activation="relu")(x)
    keras.Model(inputs, L.Softmax()(L.Dense(3)(x))).save(tmp_path / "model.keras")
    (name,) = (block.id for block in pruning.inspect(tmp_path / "model.keras").blocks if block.id.startswith("add"))
    pruned = {**LAYER, "target": {"type": "manual"}, "layers": {name: {"remove": True}}}
    result = pruning.prune(tmp_path / "model.keras", {"pruning": pruned, "measures": {"latency": None}})
    assert result.verification.delivered.has_power


def test_a_block_goes_with_one_inside_it(tmp_path: Path) -> None:
    x = inputs = keras.Input((8,))
    for width, name in ((5, "narrow"), (5, "inner"), (8, "outer")):
        x = L.Dense(width, activation="relu", name=name)(x)
    keras.Model(inputs, L.Dense(3, name="head")(x)).save(tmp_path / "model.keras")
    pruned = {**LAYER, "target": {"type": "ratio", "value": 0.9}}
    result = pruning.prune(tmp_path / "model.keras", {"pruning": pruned, "measures": {"latency": None}})
    assert {layer.name for layer in result.layers if layer.removed} == {"narrow", "inner", "outer"}
    assert result.measures.after.parameters == 8 * 3 + 3
