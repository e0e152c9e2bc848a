"""Architectures that no rule was written for: planted dead units go, all of them and no other, and outputs stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pruning import archive as archives
from pruning import planning
from pruning.contract.plan import Plan
from pruning.contract.request import PruneRequest
from pruning.contract.spec import Spec
from pruning.keras import live, pipeline, probe
from tests.pruning.keras.unseen import images, oddities, operations, sequences, tables  # noqa: F401  (they register)
from tests.pruning.keras.unseen.catalogue import ARCHITECTURES
from tests.pruning.keras.unseen.planting import Planted, plant

TOLERANCE = 1e-4
CASES = [
    pytest.param(name, id=name, marks=() if found.quick else pytest.mark.slow) for name, found in ARCHITECTURES.items()
]


@pytest.mark.parametrize("name", CASES)
def test_planted_units_go_and_no_others(name: str, tmp_path: Path) -> None:
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    path = tmp_path / "model.keras"
    pipeline.normalize(ARCHITECTURES[name].build(), path)
    case = planning.study(planning.read(path))
    assert all(barrier.detail for barrier in case.units.barriers)
    planted = plant(case, consumers=not ARCHITECTURES[name].zero)
    archives.write(path, planted.case.archive)
    for criterion, target in (("l2", {"type": "threshold", "value": 1e-9}), ("l1", _ratio(planted))):
        pruning = {"criterion": {"name": criterion, "normalization": "none"}, "target": target}
        spec = Spec.model_validate({"pruning": pruning, "measures": {"latency": None}})
        if criterion == "l1":
            removed = planning.dry_run(PruneRequest(model=str(path), out=str(tmp_path), spec=spec)).plan
        else:
            pipeline.prune(PruneRequest(model=str(path), out=str(tmp_path), spec=spec), lambda _: None)
            removed = Plan.model_validate_json((tmp_path / "plan.json").read_text())
            _compare(planted, tmp_path / "pruned.keras")
        assert removed is not None
        for group in removed.groups:
            assert sorted(set(range(group.width)) - set(group.keep)) == planted.dead.get(group.id, []), group.id


def _ratio(planted: Planted) -> dict[str, Any]:
    return {"type": "ratio", "value": planted.share}


def _compare(planted: Planted, path: Path) -> None:
    archive = planted.case.archive
    original = live.build(archive.config, archive.arrays)
    pruned = keras.saving.load_model(path, compile=False)
    for inputs in probe.probes(original, planted.case.vocabularies, None):
        for a, b in zip(live.call(original, inputs), live.call(pruned, inputs), strict=True):
            assert a.shape == b.shape
            worst = np.max(np.abs(np.asarray(a, float) - np.asarray(b, float)), initial=0.0)
            assert worst <= TOLERANCE * max(1.0, float(np.max(np.abs(np.asarray(a, float)), initial=0.0)))
