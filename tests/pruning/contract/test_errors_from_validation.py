from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pruning.contract.errors_from_validation import from_validation
from pruning.contract.spec import Spec

RATIO = {"type": "ratio", "value": 0.5}


def refused(spec: dict[str, Any]) -> Any:
    with pytest.raises(ValidationError) as caught:
        Spec.model_validate(spec)
    return from_validation(caught.value)


@pytest.mark.parametrize("value", [1.0, -1, 0.0, float("nan")])
def test_a_ratio_outside_its_range(value: float) -> None:
    error = refused({"pruning": {"target": {"type": "ratio", "value": value}}})
    assert error.code == "target_out_of_range"
    assert error.errors[0]["path"] == "pruning.target.value"


def test_both_bounds_contradict() -> None:
    target = {"type": "budget", "measure": "macs", "at_most": 3, "at_most_ratio": 0.5}
    error = refused({"pruning": {"target": target}})
    assert error.code == "contradictory_spec"
    assert error.errors == [
        {
            "path": "pruning.target",
            "code": "contradictory_spec",
            "detail": error.errors[0]["detail"],
        }
    ]


def test_keep_nothing_contradicts_and_keeps_the_users_layer_name() -> None:
    error = refused({"pruning": {"target": {"type": "manual"}, "layers": {"target": {"keep": []}}}})
    assert error.code == "contradictory_spec"
    assert error.errors[0]["path"] == "pruning.layers.target"
    error = refused({"pruning": {"target": RATIO, "layers": {"value": {"ratio": 1.0}}}})
    assert (error.code, error.errors[0]["path"]) == ("target_out_of_range", "pruning.layers.value.ratio")


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"pruning": {"target": RATIO}, "colour": 1}, "colour"),
        ({"pruning": {}}, "pruning.target"),
        ({"pruning": {"target": RATIO, "criterion": {"name": "best"}}}, "pruning.criterion"),
        ({"pruning": {"target": RATIO}, "recovery": [{"stage": "pray"}]}, "recovery.0"),
        ({"pruning": {"target": RATIO}, "exports": []}, "exports"),
    ],
)
def test_a_wrong_spec_is_invalid_at_its_place(spec: dict[str, Any], path: str) -> None:
    error = refused(spec)
    assert error.code == "invalid_spec"
    assert [place["path"] for place in error.errors] == [path]


def test_a_branch_of_a_union_that_did_not_get_far_is_not_named() -> None:
    error = refused({"pruning": {"target": RATIO}, "recovery": [{"stage": "fine_tune", "epochs": 0}]})
    assert (error.code, [place["path"] for place in error.errors]) == ("target_out_of_range", ["recovery.0.epochs"])
    error = refused({"pruning": {"target": {"type": "threshold", "value": {"quantile": 2}}}})
    assert (error.code, [place["path"] for place in error.errors]) == (
        "target_out_of_range",
        ["pruning.target.value.quantile"],
    )


def test_the_detail_says_what_was_received() -> None:
    error = refused({"pruning": {"target": {"type": "ratio", "value": 1.5}}})
    assert error.detail == "pruning.target.value: Input should be less than 1 (received 1.5)"
