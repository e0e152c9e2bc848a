"""Which blocks are found, by name, and that what only looks like one is not offered."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import pytest
from keras import layers as L
from keras import ops

from pruning import steps
from pruning.block_selection import most, select
from pruning.blocks import Block
from pruning.case import Case
from pruning.contract.errors import ContradictorySpec
from pruning.contract.spec import Pruning
from pruning.planning import study
from pruning.rules import passing
from tests import block_models, equivalence, graphs


@cache
def case(name: str) -> Case:
    return study(equivalence.archived(block_models.build(name)))


def found(name: str) -> dict[str, Any]:
    return {block.id: block for block in case(name).blocks.found}


EXPECTED = {
    "bottleneck": ["a0_relu", "b0_relu", "add0", "b1_relu", "out1", "b2_relu", "out2"],
    "chain": ["drop", "two_prelu", "wide"],
    "sequential": ["one", "two_norm", "three"],
    "nested_sequential": ["tower/t1", "tower/t2", "after"],
    "pre_norm": ["attention0_add", "dense0_add", "attention1_add", "dense1_add"],
    "post_norm": ["attention0_norm", "dense0_norm", "attention1_norm", "dense1_norm"],
    "shared_encoder": ["sum0", "norm#2", "norm#3", "norm#4", "norm#5", "norm#6"],
    "two_branches": ["left1", "right1", "left2", "right2", "left3"],
    "gates": ["branch_relu", "inner_gate", "add", "outer_gate"],
    "mixers": ["norm0", "down0", "add0", "norm1", "down1", "add1"],
    "operators": ["add", "add_1"],
    "recurrent": ["two", "three", "both"],
    "variable_length": ["same"],
    "u_net": [],
    "wide_and_deep": [],
    "two_towers": [],
    "no_blocks": [],
}


@pytest.mark.parametrize("name", block_models.MODELS)
def test_blocks_by_the_names_of_their_last_layers(name: str) -> None:
    assert sorted(found(name)) == sorted(EXPECTED[name])


@pytest.mark.parametrize(
    ("name", "id", "layers"),
    [
        # On a projected shortcut the sum goes and the activation stays: what enters has not passed one.
        ("bottleneck", "add0", "a0_conv a0_bn a0_relu b0_conv b0_bn b0_relu c0_conv c0_bn add0"),
        # On a plain one the activation goes too: what enters has passed one already.
        ("bottleneck", "out1", "a1_conv a1_bn a1_relu b1_conv b1_bn b1_relu c1_conv c1_bn add1 out1"),
        # In a branch, what keeps the shape by itself.
        ("bottleneck", "b1_relu", "b1_conv b1_bn b1_relu"),
        ("mixers", "down1", "up1 down1"),
        ("chain", "drop", "one_conv one_bn one_relu drop"),
        ("chain", "two_prelu", "two_pad two_conv two_prelu"),
        ("chain", "wide", "narrow wide"),
        ("sequential", "two_norm", "two two_norm"),
        ("pre_norm", "dense1_add", "dense1_norm up1 down1 dense1_drop dense1_add"),
        ("post_norm", "dense1_norm", "up1 down1 dense1_drop dense1_add dense1_norm"),
        ("gates", "outer_gate", "outer_pool outer_down outer_up outer_gate"),
        # Of a layer that is called again elsewhere only the call goes.
        ("shared_encoder", "norm#3", "sum1"),
        ("recurrent", "both", "both"),
    ],
)
def test_what_goes_with_a_block(name: str, id: str, layers: str) -> None:
    assert sorted(found(name)[id].layers) == sorted(layers.split())


def test_a_gate_inside_a_branch_goes_with_it() -> None:
    blocks = case("gates").blocks
    assert found("gates")["inner_gate"].inside == "add"
    assert blocks.closed(blocks.named(["add"])) == {"add", "branch_relu", "inner_gate"}
    assert blocks.closed(blocks.named(["inner_gate"])) == {"inner_gate"}


def test_a_branch_goes_with_the_last_of_its_chains() -> None:
    blocks = case("mixers").blocks
    assert [found("mixers")[id].inside for id in ("norm0", "down0", "add0")] == ["add0", "add0", None]
    assert blocks.closed(blocks.named(["norm0"])) == {"norm0"}
    assert blocks.closed(blocks.named(["norm0", "down0", "down1"])) == {"norm0", "down0", "add0", "down1"}


def test_a_branch_that_stays_keeps_one_of_its_chains() -> None:
    here = case("mixers")
    scores = {id: float(index) for index, id in enumerate(found("mixers"))}
    rules = {"target": {"type": "threshold", "value": 1e9}, "structure": "layer"}
    every = select(here.units, here.blocks, scores, Pruning.model_validate(rules))
    assert every.layers == list(found("mixers"))
    kept = Pruning.model_validate({**rules, "layers": {"add[01]": {"skip": True}}})
    gone = select(here.units, here.blocks, scores, kept).layers
    assert gone == ["norm0", "norm1"]


@pytest.mark.parametrize("name", [*block_models.MODELS, "nested", "nested_twice", "squeeze_excite", "token_mixer"])
def test_one_tensor_leaves_and_both_have_one_shape(name: str) -> None:
    """Checked from the other side, on the flat graph: no op outside reads anything else that is made inside."""
    if name in block_models.MODELS:
        graph, units, blocks = case(name).graph, case(name).units, case(name).blocks
    else:
        proof = equivalence.zoo(name)
        here = study(proof.archive)
        graph, units, blocks = here.graph, here.units, here.blocks
    for block in blocks.found:
        made = {tensor for index in block.ops for tensor in graph.ops[index].outputs}
        outside = [op for index, op in enumerate(graph.ops) if index not in block.ops]
        assert made & {tensor for op in outside for tensor in op.inputs} <= {block.leaves}
        assert not made & set(graph.outputs)
        assert block.enters not in made
        sizes = [
            [len(e) if hasattr(e, "__len__") else e for e in units.tensors[t]] for t in (block.enters, block.leaves)
        ]
        assert sizes[0] == sizes[1]


def _doubled(length: int | None) -> keras.Model:
    """A U-Net that halves its input three times: it takes multiples of eight."""
    x, skips = L.Conv1D(8, 3, padding="same")(inputs := keras.Input((length, 3))), []
    for _ in range(3):
        skips.append(x)
        x = L.MaxPooling1D()(L.Conv1D(8, 3, padding="same", activation="relu")(x))
    for _ in range(3):
        x = L.Concatenate()([L.UpSampling1D()(x), skips.pop()])
        x = x + L.Conv1D(16, 3, padding="same")(x)
        x = L.Conv1D(8, 3, padding="same")(x)
    return keras.Model(inputs, L.Dense(2)(x))


def _stacked(length: int | None) -> keras.Model:
    """Three steps side by side."""
    x = L.Dense(10)(L.Reshape((-1, 12))(inputs := keras.Input((length, 4))))
    return keras.Model(inputs, L.Dense(2)(x + L.Dense(10)(L.Dense(6, activation="relu")(x))))


def _strided(length: int | None) -> keras.Model:
    """Keeps a multiple of three steps, not one of other numbers: what is inside is no block of even lengths alone."""
    x = L.Dense(8)(L.Reshape((-1, 12))(inputs := keras.Input((length, 4))))
    x = L.UpSampling1D()(L.Conv1D(8, 3, strides=2, padding="same", activation="relu")(x))
    return keras.Model(inputs, L.Dense(2)(x))


@pytest.mark.parametrize(("build", "length"), [(_doubled, 64), (_stacked, 63), (_strided, 63)])
def test_free_axes_lose_the_blocks_that_they_lose_at_a_length_that_the_model_takes(
    build: Callable[[int | None], keras.Model], length: int
) -> None:
    free, known = ([block.ops for block in study(equivalence.archived(build(n))).blocks.found] for n in (None, length))
    assert free == known
    assert bool(free) == (build is not _strided)


def test_words_are_no_features_though_there_may_be_as_many() -> None:
    words = keras.Input((10,), dtype="int32")
    x = L.Conv1D(10, 3)(L.Embedding(30, 8)(words))
    model = keras.Model(words, L.Dense(2)(L.GlobalMaxPooling1D()(x)))
    assert study(equivalence.archived(model)).blocks.found == ()


def test_the_most_that_goes_leaves_a_reader_of_every_input_and_no_more() -> None:
    x = inputs = keras.Input((4, 6))
    mask = keras.Input((4, 4), dtype="bool")
    for at in range(2):
        attended = L.MultiHeadAttention(2, 3)(x, x, attention_mask=mask)
        x = L.Add(name=f"attended{at}")([x, attended])
        x = L.Add(name=f"dense{at}")([x, L.Dense(6)(x)])
    model = keras.Model([inputs, mask], L.Dense(2)(L.GlobalAveragePooling1D()(x)))
    gone = most(study(equivalence.archived(model)).blocks)
    assert [block.id for block in gone] == ["attended0", "dense0", "dense1"]


def test_blocks_never_overlap_in_part() -> None:
    for name in block_models.MODELS:
        blocks: tuple[Block, ...] = case(name).blocks.found
        for one in blocks:
            for other in blocks:
                assert one is other or not one.ops & other.ops or one.ops < other.ops or other.ops < one.ops


def test_an_input_of_the_model_keeps_a_reader() -> None:
    blocks = case("pre_norm").blocks
    assert blocks.feasible(blocks.named(["attention0_add"]))
    assert not blocks.feasible(blocks.named(["attention0_add", "attention1_add"]))
    assert [barrier.code for barrier in case("two_towers").blocks.barriers] == []
    assert case("wide_and_deep").blocks.found == ()


def test_models_that_are_called_several_times_or_wrapped_say_so() -> None:
    reasons = {
        name: {barrier.code for barrier in study(equivalence.zoo(name).archive).blocks.barriers}
        for name in ("siamese", "time_distributed")
    }
    assert reasons == {"siamese": {"shared_model"}, "time_distributed": {"wrapped_model"}}


def test_macs_of_what_is_left_add_up() -> None:
    here = case("bottleneck")
    whole = here.blocks.macs(here.units, ())
    left = here.blocks.macs(here.units, here.blocks.named(["out1"]))
    gone = {layer: macs for layer, macs in whole.items() if layer not in left}
    assert gone == {"a1_conv": 6 * 6 * 8 * 4, "b1_conv": 6 * 6 * 9 * 4 * 4, "c1_conv": 6 * 6 * 4 * 8}
    assert all(left[layer] == whole[layer] for layer in left)


def test_a_plan_of_another_model_is_refused() -> None:
    with pytest.raises(ContradictorySpec, match="'out7' is not in this model"):
        case("bottleneck").blocks.named(["out1", "out7"])


@pytest.mark.parametrize("name", graphs.THINNED)
def test_every_op_lies_in_one_step(name: str) -> None:
    proof = equivalence.zoo(name)
    (whole, *_) = steps.levels(proof.graph)
    assert sorted(index for step in whole.steps for index in step.ops) == list(range(len(proof.graph.ops)))


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: ops.cast(x, "int32"),
        lambda x: ops.convert_to_tensor(x, "int32"),
        lambda x: ops.array(x, "int32"),
        lambda x: ops.ones_like(x, "int32"),
        lambda x: ops.full_like(x, 2, "int32"),
        lambda x: ops.cumsum(x, 1, "int32"),
        # A block reaches over what has another shape in between.
        lambda x: ops.equal(L.Dense(7)(x), 0.5)[:, :5],
        lambda x: ops.abs(ops.cast(L.Dense(7)(x), "int32"))[:, :5],
        lambda x: L.Add()([ops.cast(L.Dense(7)(x), "int32"), ops.cast(x[:, :1], "int32")])[:, :5],
    ],
)
def test_a_block_does_not_end_in_another_kind_of_numbers(convert: Any) -> None:
    inputs = keras.Input((4,))
    x = L.Dense(5, name="in")(inputs)
    x = convert(L.Dense(5, name="block")(x))
    blocks = study(equivalence.archived(keras.Model(inputs, L.Dense(2)(ops.cast(x, "float32"))))).blocks
    # With the cast back to what entered all may go; the conversion alone may not.
    *_, back, _ = blocks.graph.ops
    assert blocks.found
    assert {block.id for block in blocks.found} <= {"block", back.name}


def test_a_block_may_end_in_what_is_no_longer_complex() -> None:
    inputs = keras.Input((4,))
    x = L.Dense(5)(inputs)
    wave = ops.view_as_complex(ops.stack([x, L.Dense(5)(x)], -1))
    size, sums = ops.abs(wave), ops.real(wave + wave)
    model = keras.Model(inputs, L.Dense(2)(ops.where(ops.isfinite(size), size, sums)))
    graph, _ = equivalence.traced(equivalence.archived(model))
    found = passing.kinds(graph.ops)
    of = {op.class_name: found[op.outputs[0]] for op in graph.ops}
    assert (of["ViewAsComplex"], of["Add"]) == ("complex", "complex")
    assert {of[name] for name in ("Absolute", "Real", "Where", "Dense")} == {"float"}
    assert of["Isfinite"] == "bool"
