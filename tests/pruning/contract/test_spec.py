from __future__ import annotations

import pytest

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
