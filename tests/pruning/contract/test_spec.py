from __future__ import annotations

import pytest
from pydantic import ValidationError

from pruning.contract.dataset import Split
from pruning.contract.spec import Pruning, Spec, resolve


@pytest.mark.parametrize(
    ("splits", "labels", "stages"),
    [
        (["train", "validation", "test"], True, ["batch_norm", "fine_tune"]),
        (["train", "validation"], False, ["least_squares"]),
        (["train", "test"], True, ["least_squares"]),
        (["validation", "test"], True, []),
        (["test"], False, []),
        ([], False, []),
    ],
)
def test_auto_recovery_is_what_the_splits_allow(splits: list[Split], labels: bool, stages: list[str]) -> None:
    spec = Spec.model_validate({"pruning": {"target": {"type": "ratio", "value": 0.5}}})
    found = resolve(spec, splits, labels).recovery
    assert [stage.stage for stage in found if not isinstance(stage, str)] == stages
    assert resolve(spec.model_copy(update={"recovery": []}), splits, labels).recovery == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": "7"},
        {"seed": True},
        {"dry_run": "yes"},
        {"recovery": [{"stage": "fine_tune", "epochs": "2"}]},
        {"pruning": {"target": {"type": "ratio", "value": "0.5"}}},
        {"pruning": {"target": {"type": "ratio", "value": 0.5}, "layers": {"a": {"remove": ["0"]}}}},
        {"pruning": {"target": {"type": "ratio", "value": 0.5}, "layers": {"a": {"skip": "yes"}}}},
    ],
)
def test_a_value_of_the_wrong_type_is_not_made_to_fit(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Spec.model_validate({"pruning": {"target": {"type": "ratio", "value": 0.5}}, **wrong})


def test_whole_numbers_are_numbers() -> None:
    stage = {"stage": "fine_tune", "learning_rate": 1}
    spec = Spec.model_validate({"pruning": {"target": {"type": "threshold", "value": 1}}, "recovery": [stage]})
    assert spec.recovery[0].learning_rate == 1.0


def test_a_layer_cannot_be_skipped_and_kept_in_part() -> None:
    layers = {"a": {"skip": True, "keep": [0]}}
    with pytest.raises(ValidationError, match="skip leaves"):
        Spec.model_validate({"pruning": {"target": {"type": "ratio", "value": 0.5}, "layers": layers}})


def test_a_criterion_of_units_scores_no_single_weights() -> None:
    pruning = {"structure": "weight", "criterion": {"name": "bn_scale"}, "target": {"type": "ratio", "value": 0.5}}
    with pytest.raises(ValidationError, match=r"bn_scale scores channels.*take one of l1, l2"):
        Spec.model_validate({"pruning": pruning})


def test_for_single_weights_auto_repairs_statistics() -> None:
    spec = Spec.model_validate({"pruning": {"structure": "weight", "target": {"type": "ratio", "value": 0.5}}})
    assert [stage.stage for stage in resolve(spec, ["train"], False).recovery if not isinstance(stage, str)] == [
        "batch_norm"
    ]


@pytest.mark.parametrize(
    ("structure", "stages", "words"),
    [
        ("channel", ["batch_norm", "fold"], "name it before batch_norm"),
        ("channel", ["fold", "fine_tune", "least_squares"], "name it before fine_tune"),
        ("weight", ["fold"], "not for structure weight"),
        ("weight", ["least_squares", "batch_norm"], "not for structure weight"),
    ],
)
def test_repairs_stand_first_and_need_removed_units(structure: str, stages: list[str], words: str) -> None:
    pruning = {"structure": structure, "target": {"type": "ratio", "value": 0.5}}
    with pytest.raises(ValidationError, match=words):
        Spec.model_validate({"pruning": pruning, "recovery": [{"stage": stage} for stage in stages]})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"layers": {"a": {"remove": [0]}}}, "'a' counts units"),
        ({"layers": {"a": {"ratio": 0.5}}}, "'a' counts units"),
        ({"layers": {"a": {"keep": [1]}}}, "'a' counts units"),
        ({"scope": "layer"}, "blocks compete under scope global"),
        ({"constraints": {"round_to": 4}}, "give max_ratio alone"),
        ({"constraints": {"min_units": 2}}, "give max_ratio alone"),
        ({"criterion": {"name": "taylor"}}, "scores channels, not whole blocks: take one of l1"),
        ({"structure": "channel", "layers": {"a": {"remove": True}}}, "which is structure layer"),
        ({"structure": "weight", "criterion": {"name": "loss_change"}}, "scores whole blocks, not single weights"),
        ({"structure": "head", "criterion": {"name": "block_influence"}}, "or structure layer"),
    ],
)
def test_what_counts_units_says_nothing_of_whole_blocks(more: dict[str, object], words: str) -> None:
    spec = {"structure": "layer", "target": {"type": "ratio", "value": 0.5}, **more}
    with pytest.raises(ValidationError, match=words):
        Pruning.model_validate(spec)


def test_a_block_is_removed_by_true_alone() -> None:
    rule = {"structure": "layer", "target": {"type": "manual"}, "layers": {"a": {"remove": True}}}
    assert Pruning.model_validate(rule).layers["a"].remove is True
    with pytest.raises(ValidationError):
        Pruning.model_validate({**rule, "layers": {"a": {"remove": 1}}})
