from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import pruning
from pruning.contract.errors import ContradictorySpec, InvalidSpec, TargetOutOfRange, UnreadableFile
from pruning.contract.progress import Progress
from tests.pruning.keras import small

SPEC = {
    "pruning": {"target": {"type": "ratio", "value": 0.5}},
    "recovery": [{"stage": "fine_tune", "epochs": 1, "batch_size": 32}],
    "measures": {"latency": None},
}


def test_a_notebook_prunes_in_one_call(tmp_path: Path) -> None:
    small.residual().save(tmp_path / "m.h5")
    steps: list[Progress] = []
    out = tmp_path / "out"
    result = pruning.prune(tmp_path / "m.h5", SPEC, small.splits(), out=out, progress=steps.append)
    assert result.measures.upload_bytes == (tmp_path / "m.h5").stat().st_size
    assert sorted(path.name for path in out.iterdir()) == ["keep_map.json", "plan.json", "pruned.keras"]
    assert (
        keras.saving.load_model(out / "pruned.keras", compile=False).count_params() == result.measures.after.parameters
    )
    assert {"recover", "evaluate"} <= {step.phase for step in steps}
    assert result.recovery is not None


def test_files_beside_each_other_are_inspected(tmp_path: Path) -> None:
    model = small.residual()
    model.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "m.json").write_text(model.to_json())
    (tmp_path / "wide.json").write_text(model.to_json(), "utf-16")
    (tmp_path / "no.json").write_text("no JSON")
    for architecture in (tmp_path / "m.json", tmp_path / "wide.json", model.to_json(), json.loads(model.to_json())):
        assert pruning.inspect(tmp_path / "m.weights.h5", architecture=architecture).parameters == model.count_params()
    with pytest.raises(UnreadableFile, match="weights only"):
        pruning.inspect(tmp_path / "m.weights.h5")
    for name in ("no.json", "missing.json"):
        with pytest.raises(InvalidSpec, match="architecture"):
            pruning.inspect(tmp_path / "m.weights.h5", architecture=tmp_path / name)


def test_a_data_file_and_a_spec_that_only_looks(tmp_path: Path) -> None:
    small.residual().save(tmp_path / "m.keras")
    np.savez(tmp_path / "d.npz", **small.splits())
    result = pruning.prune(tmp_path / "m.keras", {**SPEC, "dry_run": True}, tmp_path / "d.npz")
    assert result.plan is not None
    assert result.measures.after.parameters < result.measures.before.parameters


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ({"type": "ratio", "value": 1.0}, TargetOutOfRange),
        ({"type": "budget", "measure": "macs", "at_most": 1, "at_most_ratio": 0.5}, ContradictorySpec),
        ({"type": "wish"}, InvalidSpec),
    ],
)
def test_a_wrong_spec_is_refused_before_anything_is_read(target: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        pruning.prune("no such file", {"pruning": {"target": target}})


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        pruning.inspect("no such file.keras")
