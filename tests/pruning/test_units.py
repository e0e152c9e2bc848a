from __future__ import annotations

from math import prod
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import pytest
from keras import layers as L

from pruning import rules
from pruning import units as unit_finder
from pruning.graph import Op
from pruning.rules.extents import Value
from pruning.rules.trace import Trace
from pruning.units import Group, Units
from tests import equivalence
from tests import graphs as zoo


def _units(name: str) -> Units:
    return equivalence.zoo(name).units


def _macs(units: Units) -> dict[str, int]:
    found: dict[str, int] = {}
    for cost in units.costs:
        found[cost.layer] = found.get(cost.layer, 0) + cost.multiplier * prod(len(ids) for ids in cost.axes)
    return found


def _group(units: Units, layer: str) -> Group:
    (group,) = [group for group in units.groups if layer in group.producers]
    return group


def _of(model: keras.Model) -> Units:
    return equivalence.traced(equivalence.archived(model))[1]


@pytest.mark.parametrize("name", zoo.THINNED)
def test_groups_part_the_units(name: str) -> None:
    units = _units(name)
    ids = np.concatenate([group.units for group in units.groups])
    np.testing.assert_array_equal(np.sort(ids), np.arange(units.count))
    assert len({group.id for group in units.groups}) == len(units.groups)
    for group in units.groups:
        assert group.id.split("#")[0] == group.producers[0]
        assert set(group.producers) <= set(group.layers)
        assert (group.coupled_because is None) == (len(group.producers) == 1)


@pytest.mark.parametrize("name", zoo.THINNED)
def test_every_array_of_a_resized_layer_is_bound_and_fits(name: str) -> None:
    units = _units(name)
    arrays = equivalence.zoo(name).archive.arrays
    for axis in units.axes:
        assert len(axis.ids) == arrays[axis.weight].shape[axis.axis]
    bound = {axis.weight for axis in units.axes}
    for entry in units.layers:
        if entry.name in units.widths:
            assert set(entry.weights) <= bound, entry.name


def test_the_parameters_of_each_layer_are_those_of_keras() -> None:
    for name in ("mobile_net", "separable", "lenet"):
        model, units = zoo.build(name), _units(name)
        found = {entry.name: [units.sizes[path] for path in entry.weights] for entry in units.layers if entry.weights}
        assert found == {
            layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in model.layers if layer.weights
        }
    for name in ("nested_shared", "many_ports"):
        units = _units(name)
        assert sum(prod(shape) for shape in units.sizes.values()) == zoo.build(name).count_params()


def test_optimizer_state_is_no_weight() -> None:
    model = zoo.build("dense_stack")
    model.compile("adam", "mse")
    archive = equivalence.archived(model)
    assert "optimizer/vars/0" in archive.arrays
    units = equivalence.traced(archive)[1]
    assert sum(prod(shape) for shape in units.sizes.values()) == model.count_params()


def test_macs_of_lenet_by_hand() -> None:
    assert _macs(_units("lenet")) == {
        "conv2d": 14 * 14 * 5 * 5 * 1 * 6,
        "conv2d_1": 5 * 5 * 3 * 3 * 6 * 8,
        "dense": 2 * 2 * 8 * 12,
        "dense_1": 12 * 10,
    }


def test_macs_of_depthwise_and_separable_by_hand() -> None:
    assert _macs(_units("separable")) == {
        "separable_conv2d": 6 * 6 * (3 * 3 * 3 + 3 * 5),
        "separable_conv2d_1": 3 * 3 * (3 * 3 * 5 * 2 + 10 * 6),
        "dense": 6 * 3,
    }
    assert _macs(_units("depth_multiplier")) == {
        "conv2d": 36 * 9 * 2 * 5,
        "depthwise_conv2d": 16 * 9 * 10,
        "conv2d_1": 16 * 9 * 10 * 4,
        "dense": 12,
    }


def test_macs_of_grouped_transposed_and_shared_by_hand() -> None:
    grouped = _macs(_units("grouped"))
    assert grouped["conv2d_1"] == 36 * 9 * (12 // 4) * 8
    assert grouped["conv2d_2"] == 36 * 9 * (8 // 2) * 6
    assert _macs(_units("transposed"))["conv2d_transpose"] == 5 * 6 * 3 * 2 * 2 * 6
    # Called twice: 6x6 positions each.
    assert _macs(_units("shared_convolution"))["first"] == 2 * 36 * 9 * 3 * 6


def test_macs_count_unknown_sizes_as_one_and_every_position_of_a_dense() -> None:
    assert _macs(_units("variable_length"))["conv1d"] == 3 * 3 * 6
    assert _macs(_units("token_mixer"))["dense"] == 6 * 4 * 7


def test_macs_through_one_element_of_a_kernel() -> None:
    for cost in _units("lenet").costs:
        total = cost.multiplier * prod(len(ids) for ids in cost.axes)
        assert total == cost.per_element * prod(_units("lenet").sizes[cost.weight or ""])


def test_a_sum_couples_and_says_so() -> None:
    group = _group(_units("residual"), "conv2d")
    assert group.producers == ("conv2d", "conv2d_2")
    assert group.coupled_because == "Add 'add' needs them alike"
    assert "batch_normalization" in group.layers


def test_the_mask_of_a_concatenation_keeps_no_features() -> None:
    units = _units("masked_and_concatenated")
    assert [_group(units, layer).barrier for layer in ("embedding", "dense", "lstm")] == [None, None, None]


def test_channels_first_is_not_cut_to_where_keras_takes_the_last_axis_for_that_of_the_bias() -> None:
    first: dict[str, Any] = {"padding": "same", "data_format": "channels_first"}
    inputs = keras.Input((2, 6, 8))
    x = L.Conv2D(12, 3, name="wide", **first)(L.Conv2D(8, 3, name="as_wide", **first)(inputs))
    x = L.Conv2D(9, 3, use_bias=False, **first)(x)
    units = _of(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))
    barrier = _group(units, "as_wide").barrier
    assert barrier is not None
    assert barrier.code == "bias_axis"
    assert [(one.layer, one.count) for one in units.avoided] == [("wide", 8)]


def test_every_output_is_named_by_the_layer_that_makes_it() -> None:
    inputs = keras.Input((6,))
    x = L.Dense(8, name="trunk")(inputs)
    units = _of(keras.Model(inputs, [L.Dense(3, name="first")(x), L.Dense(2, name="second")(x)]))
    barriers = [_group(units, name).barrier for name in ("first", "second")]
    assert [barrier.layer for barrier in barriers if barrier] == ["first", "second"]


def test_a_tied_table_makes_units_where_no_other_layer_does() -> None:
    inputs = keras.Input((5,), dtype="int32")
    table = L.ReversibleEmbedding(9, 6, name="table")
    group = _group(_of(keras.Model(inputs, table(L.ReLU()(table(inputs)), reverse=True))), "table")
    assert (group.id, len(group.units), group.barrier) == ("table", 6, None)


def test_units_pass_a_softmax_over_another_axis_that_has_a_mask() -> None:
    inputs, mask = keras.Input((5, 4)), keras.Input((1, 1, 5), dtype="bool")
    query, key = (L.EinsumDense("abc,cde->abde", (None, 3, 2), name=name)(inputs) for name in ("query", "key"))
    weights = L.Softmax()(keras.ops.einsum("abde,acde->adbc", query, key), mask=mask)
    mixed = keras.ops.einsum("adbc,acde->abde", weights, key)
    units = _of(keras.Model([inputs, mask], L.Dense(2)(L.Reshape((5, 6))(mixed))))
    # Of what the reshape merges the shorter axis stays: the two dimensions of a head.
    assert {barrier.code for barrier in units.barriers} == {"two_unit_axes", "model_output"}


def test_windows_in_the_batch_keep_their_channels_and_count_for_one_sample() -> None:
    inputs = keras.Input((4, 4, 3))
    x = L.Conv2D(6, 1, name="stem")(inputs)
    y = keras.ops.transpose(keras.ops.reshape(x, (-1, 2, 2, 2, 2, 6)), (0, 1, 3, 2, 4, 5))
    y = L.Dense(6, name="inside")(L.MultiHeadAttention(2, 3, name="windows")(*[keras.ops.reshape(y, (-1, 4, 6))] * 2))
    y = keras.ops.transpose(keras.ops.reshape(y, (-1, 2, 2, 2, 2, 6)), (0, 1, 3, 2, 4, 5))
    y = L.Dense(5, name="after")(keras.ops.reshape(y, (-1, 4, 4, 6)))
    units = _of(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(y))))
    assert {barrier.code for barrier in units.barriers} == {"model_output"}
    assert "windows" in _group(units, "stem").producers
    macs = _macs(units)
    assert (macs["inside"], macs["after"]) == (16 * 6 * 6, 16 * 6 * 5)
    assert macs["windows"] == 4 * 16 * 6 * 6 + 2 * 4 * 4 * 4 * 6
    assert {cost.per_element for cost in units.costs if cost.layer == "inside"} == {16}


def test_a_layer_that_no_rule_reads_is_a_barrier_also_where_no_units_reach_it() -> None:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, L.Dense(2)(L.Dense(8, name="short")(inputs)))
    model.get_layer("short").quantize("int8")
    assert ("short", "quantized") in [(barrier.layer, barrier.code) for barrier in _of(model).barriers]


def test_a_concatenation_strings_units_in_order() -> None:
    units = _units("inception")
    (axis,) = [axis for axis in units.axes if axis.weight == "layers/conv2d_5/vars/0" and axis.role == "consumer"]
    branches = [units.widths[name] for name in ("conv2d_1", "conv2d_3")]
    expected = np.concatenate([*branches, units.widths["conv2d"], units.widths["conv2d_4"]])
    np.testing.assert_array_equal(axis.ids, expected)


def test_a_concatenation_that_meets_a_sum_makes_two_groups_with_one_first_producer() -> None:
    units = _units("concatenate_into_sum")
    summed = [group for group in units.groups if "conv2d_2" in group.producers]
    assert [group.producers for group in summed] == [("conv2d", "conv2d_2"), ("conv2d_1", "conv2d_2")]
    assert [len(group.units) for group in summed] == [3, 4]


def test_flatten_repeats_units_for_every_position() -> None:
    units = _units("built_without_input")
    (axis,) = [axis for axis in units.axes if axis.weight == "layers/dense/vars/0" and axis.role == "consumer"]
    np.testing.assert_array_equal(axis.ids, np.tile(units.widths["conv2d"], 16))


def test_a_depth_multiplier_repeats_each_channel() -> None:
    units = _units("depth_multiplier")
    np.testing.assert_array_equal(units.widths["depthwise_conv2d"], np.repeat(units.widths["conv2d"], 2))


def test_groups_of_a_convolution_stay_alike() -> None:
    units = _units("grouped")
    ids = units.widths["conv2d_1"].reshape(4, 2)
    assert (ids == ids[0]).all()


@pytest.mark.parametrize(
    ("name", "layer", "code"),
    [
        ("residual", "dense", "mixes_channels"),
        ("hidden_output", "conv2d", "model_output"),
        ("residual_on_input", "conv2d", "fixed_axis"),
        ("softmax_inside", "conv2d", "normalized_axis"),
        ("softmax_inside", "conv2d_2", "mixes_channels"),
        ("unknown_inside", "conv2d", "unknown_layer"),
        ("permuted_onto_space", "conv2d", "mixes_channels"),
        ("spatial_gate", "conv2d_1", "broadcast"),
        ("token_mixer", "dense_1", "fixed_axis"),
    ],
)
def test_barriers_and_their_reasons(name: str, layer: str, code: str) -> None:
    units = _units(name)
    barrier = _group(units, layer).barrier
    assert barrier is not None
    assert barrier.code == code
    assert barrier in units.barriers
    assert barrier.detail


def test_units_that_stay_for_good_are_not_told_of_an_option_that_would_free_them() -> None:
    inputs = keras.Input((4,))
    x = L.LayerNormalization()(inputs + L.Dense(4, name="beside")(L.Dense(6, name="free")(inputs)))
    units = _of(
        keras.Model(inputs, L.Softmax()(L.Dense(3, name="head")(L.LayerNormalization()(L.Dense(5, name="mixed")(x)))))
    )
    barriers = {layer: _group(units, layer).barrier for layer in ("beside", "head", "mixed")}
    codes = {layer: barrier and barrier.code for layer, barrier in barriers.items()}
    assert codes == {"beside": "fixed_axis", "head": "model_output", "mixed": "normalized_axis"}


def test_softmax_over_space_and_its_neighbours_stay_prunable() -> None:
    assert _group(_units("softmax_inside"), "conv2d_1").barrier is None


def test_a_user_class_with_the_name_of_one_of_keras_is_a_barrier() -> None:
    class Dense(L.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.flip(x, axis=-1)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(2)(Dense(name="mine")(L.Dense(5, name="before")(inputs))))
    barrier = _group(_of(model), "before").barrier
    assert barrier is not None
    assert (barrier.layer, barrier.code) == ("mine", "unknown_layer")


def test_a_lambda_is_a_barrier() -> None:
    inputs = keras.Input((4,))
    x = L.Lambda(keras.ops.flip, name="flip")(L.Dense(5, name="before")(inputs))
    barrier = _group(_of(keras.Model(inputs, L.Dense(2)(x))), "before").barrier
    assert barrier is not None
    assert (barrier.layer, barrier.detail.split(":")[0]) == ("flip", "Lambda runs code that is not in the file")


REASONS = {
    "triu": (keras.ops.triu, "Triu picks numbers by where they stand in a matrix"),
    "map": (lambda x: keras.ops.map(keras.ops.sin, x), "Map runs functions of Python"),
    "fft": (lambda x: keras.ops.rfft(x)[0], "RFFT makes every number out of all units of an axis"),
    "sort": (keras.ops.sort, "Sort puts units in an order that depends on the data"),
    "top": (lambda x: keras.ops.top_k(x, 3)[0], "TopK chooses units by the data"),
    "largest": (lambda x: keras.ops.one_hot(keras.ops.argmax(x, -1), 4), "Argmax gives the number of a unit"),
    "parts": (lambda x: keras.ops.array_split(x, 2, -1)[0], "is cut into 2 parts of unlike length"),
    "single": (lambda x: keras.ops.unstack(x, axis=-1)[1], "takes single elements of an axis that has units"),
    "differences": (lambda x: keras.ops.diff(x, axis=-1), "Diff subtracts neighbouring units"),
    "softmax": (keras.ops.softmax, "Softmax takes its statistics over these units, and normalized_axes is keep"),
}


@pytest.mark.parametrize("name", REASONS)
def test_an_operation_that_stops_units_says_why_and_stops_no_others(name: str) -> None:
    operation, reason = REASONS[name]
    inputs = keras.Input((4, 3))
    x = L.Flatten()(operation(L.Dense(5, name="before")(inputs)))
    units = _of(keras.Model(inputs, L.Dense(2)(L.Dense(6, name="behind")(x))))
    barrier = _group(units, "before").barrier
    assert barrier is not None
    assert barrier.detail.startswith(reason)
    assert _group(units, "behind").barrier is None


def test_a_custom_activation_is_a_barrier() -> None:
    @keras.saving.register_keras_serializable()
    def turned(x: Any) -> Any:
        return x[:, ::-1]

    inputs = keras.Input((4,))
    x = L.Dense(5, activation=turned, name="before")(inputs)
    barrier = _group(_of(keras.Model(inputs, L.Dense(2)(x))), "before").barrier
    assert barrier is not None
    assert barrier.code == "unknown_activation"


def test_a_call_that_its_rule_cannot_read_is_a_barrier() -> None:
    proof = equivalence.zoo("lenet")
    arrays = dict(proof.archive.arrays)
    arrays["layers/conv2d_1/vars/0"] = arrays["layers/conv2d_1/vars/0"][:, :, :-1]
    for reason in ("needs 'layers/conv2d_1/vars/0' of shape", "lacks"):
        found = unit_finder.find(proof.graph, arrays)
        barrier = _group(found, "conv2d").barrier
        assert barrier is not None
        assert (barrier.layer, barrier.code) == ("conv2d_1", "misread")
        assert reason in barrier.detail
        assert _group(found, "dense").barrier is None
        arrays.pop("layers/conv2d_1/vars/0", None)


def test_a_wrapped_layer_that_cannot_be_read_stops_no_product_behind_it() -> None:
    inputs = keras.Input((4,))
    odd = L.SpectralNormalization(L.Dense(5), name="odd")(inputs)
    product = L.Dot(1)([L.Dense(8, name="first")(inputs), L.Dense(8)(inputs)])
    archive = equivalence.archived(keras.Model(inputs, L.Concatenate()([L.Dense(2)(odd), product])))
    graph, units = equivalence.traced(archive)
    arrays = dict(archive.arrays)
    arrays["layers/spectral_normalization/layer/vars/0"] = np.zeros((3, 5), np.float32)
    found = unit_finder.find(graph, arrays)
    assert [barrier.layer for barrier in found.barriers if barrier.code == "misread"] == ["odd"]
    assert _group(units, "first").barrier is _group(found, "first").barrier is None


def test_a_second_call_that_cannot_be_read_keeps_the_units_of_the_first() -> None:
    proof = equivalence.zoo("shared_convolution")
    rule, calls = rules.RULES["layers", "Conv2D"], list[str]()

    def second_call_fails(op: Op, inputs: list[Value], trace: Trace) -> Any:
        calls.append(op.name)
        if calls.count("first") == 2:
            raise ValueError("not understood")
        return rule(op, inputs, trace)

    with patch.dict(rules.RULES, {("layers", "Conv2D"): second_call_fails}):
        barrier = _group(unit_finder.find(proof.graph, proof.archive.arrays), "first").barrier
    assert barrier is not None
    assert (barrier.code, barrier.detail[-26:]) == ("misread", "ValueError: not understood")


def _turned(rank: int) -> tuple[Any, Any]:
    """Six units of `before` on the axis after the batch."""
    inputs = keras.Input((6, 4, 5, 3)[3 - rank :])
    x = (L.Conv1D, L.Conv2D, L.Conv3D)[rank - 1](6, 3, padding="same", name="before")(inputs)
    return inputs, L.Permute((rank + 1, *range(1, rank + 1)))(x)


@pytest.mark.parametrize(
    ("rank", "mixing"),
    [
        (1, lambda x: L.SimpleRNN(4)(x)),
        (1, lambda x: L.Bidirectional(L.LSTM(4))(x)),
        (2, lambda x: L.ConvLSTM1D(3, 2)(x)),
        (3, lambda x: L.ConvLSTM2D(3, 2, data_format="channels_first")(x)),
        (1, lambda x: L.MultiHeadAttention(2, 3)(x, x)),
        (1, lambda x: L.GroupQueryAttention(3, 2, 2)(x, x)),
        (1, lambda x: L.Attention()([x, x])),
        (1, lambda x: L.AdditiveAttention()([x, x])),
        (1, lambda x: L.GroupNormalization(-1)(x)),
        (2, lambda x: L.GroupNormalization(1)(x)),
        (1, lambda x: L.EinsumDense("abc,cd->ad", output_shape=(4,))(x)),
    ],
)
def test_units_on_an_axis_that_is_mixed_stay(rank: int, mixing: Any) -> None:
    inputs, x = _turned(rank)
    x = mixing(x)
    last = x._keras_history.operation.name
    barrier = _group(_of(keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))), "before").barrier
    assert barrier is not None
    assert barrier.layer == last
    assert barrier.code in ("mixes_channels", "normalized_axis")


def test_resnet8() -> None:
    from pathlib import Path

    path = Path(__file__).parents[2].parent / "shared" / "data" / "resnet8_cifar10.h5"
    if not path.exists():
        pytest.skip(f"the public test data is not there: {path}")
    keras.backend.clear_session()
    units = _of(keras.models.load_model(path, compile=False))
    assert sum(_macs(units).values()) == 12_501_632
    assert sum(prod(shape) for shape in units.sizes.values()) == 78_666


def test_parts_that_a_slice_cuts_out_are_groups_of_their_own() -> None:
    units = _units("two_slices")
    assert [len(group.units) for group in units.groups if group.producers == ("conv2d",)] == [4, 4]


@pytest.mark.parametrize("name", zoo.THINNED)
def test_no_axis_is_emptied_while_every_group_keeps_a_unit(name: str) -> None:
    units = _units(name)
    gone = np.ones(units.count + 1, bool)
    gone[[group.units[-1] for group in units.groups]] = False
    for group in units.groups:
        if group.barrier is not None:
            gone[group.units] = False
    gone[-1] = False
    for axis in units.axes:
        assert not gone[axis.ids].all(), axis
