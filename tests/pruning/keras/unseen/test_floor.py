"""What an inspection says before any job is paid for holds in jobs: groups, reasons, and the floor of each measure."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from pruning import planning
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import Result
from pruning.contract.spec import Spec
from pruning.keras import pipeline
from pruning.selection import Infeasible
from tests.pruning.keras.unseen import images, oddities, operations, sequences, tables  # noqa: F401  (they register)
from tests.pruning.keras.unseen.catalogue import ARCHITECTURES

NAMES = ["stacked_cells", "channel_split_and_shuffle", "gated_linear_units", "tied_embedding_language_model"]


def _budget(path: Path, out: Path, measure: str, at_most: float) -> Result:
    pruning = {"target": {"type": "budget", "measure": measure, "at_most": at_most}}
    spec = Spec.model_validate({"pruning": pruning, "measures": {"latency": None}, "dry_run": True})
    return planning.dry_run(PruneRequest(model=str(path), out=str(out), spec=spec))


@pytest.mark.parametrize("name", [NAMES[0], *[pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:]]])
def test_a_budget_at_the_floor_is_met_and_none_below(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    ARCHITECTURES[name].build().save(tmp_path / "upload.keras")
    request = InspectRequest(upload=str(tmp_path / "upload.keras"), format="keras", out=str(tmp_path))
    found = pipeline.inspect(request, lambda _: None)
    path = tmp_path / "normalized.keras"
    assert found.floor.keys() == {"macs", "parameters", "size_bytes"}
    for measure, floor in found.floor.items():
        after = _budget(path, tmp_path, measure, floor).measures.after
        assert getattr(after, measure) == floor
        with pytest.raises(Infeasible) as caught:
            _budget(path, tmp_path, measure, floor - 1)
        assert caught.value.floor == floor
    assert all(group.layers and group.width for group in found.groups)
    assert all((group.kept_because is None) == group.prunable for group in found.groups)
    reasons = {barrier.detail for barrier in found.barriers}
    assert all(any(reason in group.kept_because for reason in reasons) for group in found.groups if group.kept_because)
