"""The proof of what rewiring leaves: in float64 it computes what the original computes with its blocks bypassed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pruning import archive as archives
from pruning import graph as reading
from pruning import measures, nodes, planning, rewiring
from pruning.blocks import Block
from pruning.case import Case
from pruning.contract.errors import ContradictorySpec, VerificationFailed
from pruning.contract.result import Check
from pruning.keras import live, probe, verify
from tests import block_models, equivalence, graphs, random_graphs
from tests.pruning.test_blocks import case


def proof(here: Case, gone: list[Block]) -> tuple[Check, Check, keras.Model]:
    """Structure, values, and the model that is left, as Keras builds it."""
    cut = rewiring.apply(here.archive, here.blocks, gone)
    rewiring.check(cut, here.units, here.blocks, gone)
    left = live.build(cut.config, cut.arrays)
    probes = probe.probes(left, here.vocabularies, None, 0)
    structure = verify.structure(here, measures.NONE, probes, 0, gone)
    return structure, verify.delivered(here, cut, measures.NONE, probes, gone), left


def choices(here: Case) -> list[list[Block]]:
    """Each block alone, and as many as can go together."""
    every = list(here.blocks.found)
    while not here.blocks.feasible(every):
        every.pop()
    return [[block] for block in here.blocks.found] + ([every] if len(every) > 1 else [])


def holds(here: Case, gone: list[Block]) -> None:
    structure, values, left = proof(here, gone)
    assert structure.relative_difference < 1e-12
    assert values.relative_difference < 1e-6
    assert structure.has_power
    assert values.has_power
    assert left.count_params() == sum(
        int(np.prod(here.units.sizes[path]))
        for entry in here.units.layers
        if entry.name not in here.blocks.lost(gone)
        for path in entry.weights
    )


WITH_BLOCKS = [
    name for name in block_models.MODELS if name not in ("u_net", "wide_and_deep", "two_towers", "no_blocks")
]


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_all_blocks_gone_equals_all_bypassed(name: str) -> None:
    holds(case(name), choices(case(name))[-1])


@pytest.mark.parametrize(("name", "id"), [("two_branches", "left2"), ("shared_encoder", "norm#3"), ("gates", "add")])
def test_one_block_gone_equals_it_bypassed(name: str, id: str) -> None:
    holds(case(name), list(case(name).blocks.named([id])))


def test_chains_in_branches_gone_equal_them_bypassed() -> None:
    for name, ids in (("bottleneck", ["b0_relu", "b1_relu"]), ("mixers", ["norm0", "down1"])):
        holds(case(name), list(case(name).blocks.named(ids)))


def test_all_parts_of_a_branch_gone_leave_what_enters_twice() -> None:
    here = case("mixers")
    holds(here, list(here.blocks.named(["norm0", "down0"])))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_each_block_gone_equals_it_bypassed(name: str) -> None:
    for gone in choices(case(name)):
        holds(case(name), gone)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", graphs.ZOO)
def test_each_block_of_the_zoo(name: str) -> None:
    here = planning.study(equivalence.archived(graphs.build(name)))
    for gone in choices(here):
        structure, values, _ = proof(here, gone)
        assert structure.relative_difference < 1e-9
        assert values.relative_difference < 1e-4


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@settings(max_examples=4, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    holds_on_a_random_graph(data)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_many_random_graphs(data: st.DataObject) -> None:
    holds_on_a_random_graph(data)


def holds_on_a_random_graph(data: st.DataObject) -> None:
    here = planning.study(equivalence.archived(random_graphs.model(data.draw)))
    gone = [block for block in here.blocks.found if data.draw(st.booleans())]
    if gone and here.blocks.feasible(gone):
        structure, values, _ = proof(here, gone)
        assert structure.relative_difference < 1e-9
        assert values.relative_difference < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("builder", "shape", "count"), [("ResNet50", (64, 64, 3), 16), ("MobileNetV2", (64, 64, 3), 10)]
)
def test_models_of_keras(builder: str, shape: tuple[int, ...], count: int) -> None:
    model = getattr(keras.applications, builder)(weights=None, input_shape=shape, classes=10)
    here = planning.study(equivalence.archived(model))
    assert sum(block.kind == "branch" for block in here.blocks.found) == count
    holds(here, list(here.blocks.found[::3]))
    holds(here, choices(here)[-1])


# --- Keras' order and names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", graphs.THINNED)
def test_the_order_of_layers_is_that_of_keras(name: str) -> None:
    def check(entry: Any) -> None:
        if entry["class_name"] != "Sequential":
            assert rewiring.ordered(entry) == list(range(len(entry["config"]["layers"])))
        for layer in entry["config"]["layers"]:
            if nodes.is_model(layer):
                check(layer)

    check(equivalence.zoo(name).archive.config)


def test_what_stays_has_the_names_and_places_that_keras_gives_it(tmp_path: Path) -> None:
    here = case("two_branches")
    cut = rewiring.apply(here.archive, here.blocks, here.blocks.named(["left1", "left2"]))
    archives.write(tmp_path / "cut.keras", cut)
    keras.saving.load_model(tmp_path / "cut.keras", compile=False).save(tmp_path / "again.keras")
    again = archives.read(tmp_path / "again.keras")
    assert [layer["config"]["name"] for layer in again.config["config"]["layers"]] == [
        layer["config"]["name"] for layer in cut.config["config"]["layers"]
    ]
    assert again.names == cut.names
    assert again.arrays.keys() == cut.arrays.keys()
    for path, array in again.arrays.items():
        np.testing.assert_array_equal(array, cut.arrays[path])


def test_arrays_keep_their_values_and_say_where_they_lay() -> None:
    here = case("bottleneck")
    cut = rewiring.apply(here.archive, here.blocks, here.blocks.named(["out1"]))
    kept = rewiring.keep_map(here.archive, cut)
    assert {array.path for array in kept.arrays} == set(cut.arrays)
    for array in kept.arrays:
        np.testing.assert_array_equal(cut.arrays[array.path], here.archive.arrays[array.source])
    moved = {array.source: array.path for array in kept.arrays}
    (last,) = [layer.path for layer in here.graph.layers if layer.name == "c2_conv"]
    assert moved[f"{last}/vars/0"] != f"{last}/vars/0"


def test_rewiring_is_pure_and_nothing_gone_is_nothing_changed() -> None:
    here = case("gates")
    before = copy.deepcopy(here.archive.config)
    rewiring.apply(here.archive, here.blocks, here.blocks.found)
    assert here.archive.config == before
    same = rewiring.apply(here.archive, here.blocks, ())
    assert same.arrays.keys() == here.archive.arrays.keys()
    assert same.names == here.archive.names


def test_an_input_without_a_reader_is_refused() -> None:
    here = case("pre_norm")
    with pytest.raises(ContradictorySpec, match="no reader"):
        rewiring.apply(here.archive, here.blocks, here.blocks.found)


def test_a_model_without_a_block_trains_on(tmp_path: Path) -> None:
    here = case("post_norm")
    archives.write(
        tmp_path / "cut.keras", rewiring.apply(here.archive, here.blocks, here.blocks.named(["dense0_norm"]))
    )
    model = keras.saving.load_model(tmp_path / "cut.keras", compile=False)
    model.compile("sgd", "mse")
    before = [np.array(weight) for weight in model.trainable_weights]
    model.fit([np.ones((4, 5), "int32"), np.ones((4, 5, 5), bool)], np.ones((4, 2)), verbose=0)
    assert any((a != np.array(b)).any() for a, b in zip(before, model.trainable_weights, strict=True))


# --- planted mistakes ------------------------------------------------------------------------------------------------


def _swapped(before: Any, after: Any) -> dict[str, str | None]:
    moves = _RENAMED(before, after)
    return {**moves, "layers/conv2d": moves["layers/conv2d_1"], "layers/conv2d_1": moves["layers/conv2d"]}


def _config_order(entry: Any) -> list[int]:
    return list(range(len(entry["config"]["layers"])))


def _one_too_far(tensor: int, stand_ins: Any) -> int:
    """The tensor before the one that entered."""
    return _THROUGH(tensor, stand_ins) - 1


def _not_renumbered(call: Any, numbers: Any) -> Any:
    return call


def _kept_places(before: Any, after: Any) -> dict[str, str | None]:
    return {old: old if new is not None else None for old, new in _RENAMED(before, after).items()}


_RENAMED, _THROUGH = rewiring.renamed, rewiring.through


@pytest.mark.parametrize(
    ("what", "name", "ids", "bug"),
    [
        ("renamed", "two_branches", ["left3"], _swapped),
        ("renamed", "bottleneck", ["out1"], _kept_places),
        ("ordered", "two_branches", ["left1", "left2", "left3"], _config_order),
        ("through", "two_branches", ["left3"], _one_too_far),
        ("_renumbered", "shared_encoder", ["norm#3"], _not_renumbered),
    ],
)
def test_a_planted_mistake_is_caught(
    what: str, name: str, ids: list[str], bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = case(name)
    gone = list(here.blocks.named(ids))
    monkeypatch.setattr(rewiring, what, bug)
    with pytest.raises((VerificationFailed, KeyError)):
        proof(here, gone)


def test_a_reference_that_reads_the_graph_wrongly_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bypass itself is held against the model: run call by call, with nothing bypassed, it says the same."""
    here, read = case("two_branches"), reading.build
    gone = list(here.blocks.named(["left2"]))

    def misread(config: dict[str, Any]) -> reading.Graph:
        graph = read(config)
        first = next(op for op in graph.ops if op.name == "right1")
        return replace(
            graph, ops=tuple(replace(op, args=first.args) if op.name == "right2" else op for op in graph.ops)
        )

    monkeypatch.setattr(reading, "build", misread)
    with pytest.raises(VerificationFailed, match="call by call"):
        proof(here, gone)
