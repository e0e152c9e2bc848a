from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import keras
import pytest
from keras import layers as L

from pruning import graph as graphs
from pruning import planning
from pruning.contract.errors import UnreadableFile
from pruning.rules.extents import shape_of
from tests import equivalence
from tests import graphs as zoo


def _graph(name: str) -> graphs.Graph:
    return equivalence.zoo(name).graph


def test_snake_case_is_that_of_keras() -> None:
    from keras.src.utils.naming import to_snake_case

    for name in (
        "Conv2DTranspose",
        "BatchNormalization",
        "PReLU",
        "LSTM",
        "GRUCell",
        "Größe",
        "SeparableConv1D",
    ):
        assert graphs.snake_case(name) == to_snake_case(name)


@pytest.mark.parametrize("name", zoo.THINNED)
def test_ops_run_in_order_and_arrays_are_found(name: str) -> None:
    proof = equivalence.zoo(name)
    known = set(proof.graph.inputs)
    for op in proof.graph.ops:
        assert set(op.inputs) <= known, op.name
        known |= set(op.outputs)
    assert set(proof.graph.outputs) <= known
    paths = {layer.path for layer in proof.graph.layers}
    for array in proof.archive.arrays:
        # What a layer is made of lies below it.
        assert any(array.startswith(f"{path}/") for path in paths if path)


@pytest.mark.parametrize("name", zoo.THINNED)
def test_recorded_shapes_are_those_that_rules_compute(name: str) -> None:
    proof = equivalence.zoo(name)
    assert not [barrier for barrier in proof.units.barriers if barrier.code in ("shape_mismatch", "misread")]
    model = proof.live.model
    found = [shape_of(proof.units.tensors[tensor]) for tensor in proof.graph.outputs]
    expected = [tuple(tensor.shape) for tensor in keras.tree.flatten(model.outputs)]
    assert found == expected


def test_a_nested_model_is_flattened_with_its_path() -> None:
    graph = _graph("nested_twice")
    names = [op.name for op in graph.ops]
    assert names.index("outer/deep/inner") < names.index("outer/deep/bn") < names.index("tail/last/dense_1")
    paths = {layer.name: layer.path for layer in graph.layers}
    assert paths["outer/deep/inner"] == "layers/functional/layers/functional/layers/conv2d"
    assert paths["tail/last/dense_1"] == "layers/sequential/layers/sequential/layers/dense"


def test_a_shared_layer_is_one_op_per_call_and_one_set_of_arrays() -> None:
    graph = _graph("nested_shared")
    calls = [op for op in graph.ops if op.name == "block/inner"]
    assert len({op.inputs for op in calls}) == 3
    assert len({op.path for op in calls}) == 1
    assert len({op.outputs for op in calls}) == 3
    assert [layer.name for layer in graph.layers].count("block/inner") == 1


def test_the_first_call_of_a_nested_model_is_found_from_output_layers() -> None:
    graph = _graph("nested_as_output")
    (last,) = [op for op in graph.ops if op.name == "block/bn"]
    assert graph.outputs == last.outputs


def test_ports_by_name_reach_the_right_inputs() -> None:
    graph = _graph("nested_many_ports")
    producer = {tensor: op.name for op in graph.ops for tensor in op.outputs}
    fed = {op.name: producer[op.inputs[0]] for op in graph.ops if op.class_name == "InputLayer"}
    assert fed == {"ports/a": "dense_2", "ports/b": "dense_3"}


def test_unknown_dimensions_are_named() -> None:
    assert _graph("variable_length").unknown_dimensions == ("input_layer[1]",)
    assert _graph("residual").unknown_dimensions == ()


def test_a_weights_file_of_other_layers_is_refused() -> None:
    proof = equivalence.zoo("residual")
    names = dict(proof.archive.names)
    names["layers/conv2d"], names["layers/conv2d_1"] = names["layers/conv2d_1"], names["layers/conv2d"]
    with pytest.raises(UnreadableFile, match="layers/conv2d"):
        planning.study(replace(proof.archive, names=names))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda c: c.update(class_name="MyModel"), "MyModel"),
        (lambda c: c["config"]["layers"].pop(1), "not there"),
        (lambda c: c["config"].pop("output_layers"), "broken"),
        (lambda c: c["config"].update(output_layers=[["nobody", 0, 0]]), "broken"),
        (lambda c: c["config"]["layers"][1].update(inbound_nodes=[[["input_layer", 0, 0, {}]]]), "old Keras"),
        (lambda c: c["config"]["layers"][1].pop("config"), "broken"),
    ],
)
def test_a_broken_config_is_refused(break_it: Any, message: str) -> None:
    config = copy.deepcopy(equivalence.zoo("many_ports").archive.config)
    break_it(config)
    with pytest.raises(UnreadableFile, match=message):
        graphs.build(config)


def test_an_unbuilt_sequential_is_refused() -> None:
    import json

    config = json.loads(keras.Sequential([L.Dense(2)]).to_json())
    with pytest.raises(UnreadableFile, match="not built"):
        graphs.build(config)


def test_reading_a_graph_leaves_the_config_as_it_was() -> None:
    config = equivalence.zoo("nested_shared").archive.config
    before = copy.deepcopy(config)
    graphs.build(config)
    assert config == before
