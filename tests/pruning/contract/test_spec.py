from __future__ import annotations

import pytest
from pydantic import ValidationError

from pruning.contract.dataset import Split
from pruning.contract.spec import Spec, resolve


@pytest.mark.parametrize(
    ("splits", "labels", "stages"),
    [
        (["train", "validation", "test"], True, ["batch_norm", "fine_tune"]),
        (["train", "validation"], False, ["batch_norm"]),
        (["train", "test"], True, ["batch_norm"]),
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
