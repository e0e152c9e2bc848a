"""Plans as data: what a run decided, done again from the file it left, by the library and with NumPy alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pruning
from pruning import archive as archives
from pruning import planning
from pruning.contract.errors import ContradictorySpec, InvalidSpec, SecateurError, TargetOutOfRange
from pruning.contract.plan import KeepMap, Plan
from pruning.contract.request import PruneRequest
from pruning.contract.spec import Spec
from pruning.keras import pipeline
from tests.pruning.keras import small
from tests.pruning.keras.test_heads import transformer

ROOT = Path(__file__).resolve().parents[3]
BUDGET = {"target": {"type": "budget", "measure": "macs", "at_most_ratio": 0.5}}
STRUCTURES: dict[str, dict[str, Any]] = {
    "channel": BUDGET,
    "head": {"structure": "head", "target": {"type": "ratio", "value": 0.5}},
    "layer": {"structure": "layer", "target": {"type": "ratio", "value": 0.5}},
    "weight": {"structure": "weight", "target": {"type": "ratio", "value": 0.7}},
}
QUIET = {"measures": {"latency": None}, "recovery": []}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The normalised file of a model that has something to lose of a structure."""
    folder = tmp_path_factory.mktemp("plans")

    @cache
    def saved(structure: str) -> Path:
        path = folder / f"{structure}.keras"
        pipeline.normalize((transformer if structure == "head" else small.residual)(), path)
        return path

    return saved


@pytest.fixture(scope="module")
def model(models: Callable[[str], Path]) -> Path:
    return models("channel")


def prune(model: Path, wanted: dict[str, Any], out: Path) -> Plan:
    """The plan that a run leaves, on a file that is normalised already, as a job's is."""
    out.mkdir()
    spec = Spec.model_validate({"pruning": wanted, **QUIET})
    pipeline.prune(PruneRequest(model=str(model), out=str(out), spec=spec), lambda _: None)
    return Plan.model_validate_json((out / "plan.json").read_text())


def by_plan(plan: Any) -> dict[str, Any]:
    structure = plan.structure if isinstance(plan, Plan) else plan["structure"]
    return {"structure": structure, "target": {"type": "plan", "plan": plan}}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_plan_done_again_gives_the_same_bytes(models: Callable[[str], Path], tmp_path: Path, structure: str) -> None:
    model = models(structure)
    plan = prune(model, STRUCTURES[structure], tmp_path / "first")
    again = json.loads(plan.model_dump_json())
    assert prune(model, by_plan(again), tmp_path / "second") == plan
    first, second = ((tmp_path / run / "pruned.keras").read_bytes() for run in ("first", "second"))
    assert first == second
    maps = [(tmp_path / run / "keep_map.json") for run in ("first", "second")]
    assert [path.exists() for path in maps] == [structure != "weight"] * 2
    assert structure == "weight" or maps[0].read_bytes() == maps[1].read_bytes()


@pytest.mark.parametrize("structure", [name for name in STRUCTURES if name != "weight"])
def test_the_keep_map_is_replayed_with_numpy_alone(
    models: Callable[[str], Path], tmp_path: Path, structure: str
) -> None:
    """By the lines that the guide gives."""
    original = archives.read(models(structure)).arrays
    prune(models(structure), STRUCTURES[structure], tmp_path / "out")
    guide = (ROOT / "docs" / "http.md").read_text()
    (lines,) = (code for code in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "keep_map" in code)
    known: dict[str, Any] = {}
    exec(lines, known)
    kept = json.loads((tmp_path / "out" / "keep_map.json").read_text())
    found = known["replay"](kept, original)
    delivered = archives.read(tmp_path / "out" / "pruned.keras").arrays
    assert found.keys() == delivered.keys()
    for path, array in found.items():
        np.testing.assert_array_equal(array, delivered[path])
    assert any(one.axes or one.path != one.source for one in KeepMap.model_validate(kept).arrays)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_dry_run_by_a_plan_foretells_the_job(models: Callable[[str], Path], tmp_path: Path, structure: str) -> None:
    model = models(structure)
    first = pruning.prune(model, {"pruning": STRUCTURES[structure], "dry_run": True})
    assert first.plan is not None
    second = pruning.prune(model, {"pruning": by_plan(first.plan), "dry_run": True})
    assert (second.measures, second.removed, second.plan) == (first.measures, first.removed, first.plan)
    made = pruning.prune(model, {"pruning": by_plan(first.plan), **QUIET}, out=tmp_path)
    assert made.removed == first.removed
    assert made.measures.after.size_bytes == first.measures.after.size_bytes


def test_a_plan_in_a_file_beside_the_request(model: Path, tmp_path: Path) -> None:
    """As the service hands it over."""
    small.case(small.residual(), tmp_path)
    first = pruning.prune(model, {"pruning": BUDGET, "dry_run": True})
    assert first.plan is not None
    spec = Spec.model_validate({"pruning": {"target": {"type": "plan", "artifact_id": "art_0"}}, "dry_run": True})
    request = PruneRequest(model=str(tmp_path / "model.keras"), plan=str(tmp_path / "plan"), out="", spec=spec)
    (tmp_path / "plan").write_text(first.plan.model_dump_json())
    assert planning.dry_run(request).plan == first.plan
    for content, kind in (("{}", InvalidSpec), ('{"structure": "weight"}', ContradictorySpec)):
        (tmp_path / "plan").write_text(content)
        with pytest.raises(kind):
            planning.dry_run(request)


STEM = {"id": "stem", "width": 8, "keep": [0, 1]}
MASK = {"weight": "layers/conv2d/vars/0", "shape": [3, 3, 2, 8], "kept": 0, "mask": "eJxjYGAAAA=="}


@pytest.mark.parametrize(
    ("wanted", "kind", "words"),
    [
        (by_plan({"structure": "channel", "groups": [STEM | {"id": "other"}]}), ContradictorySpec, "not in this model"),
        (by_plan({"structure": "channel", "groups": [STEM | {"width": 9}]}), ContradictorySpec, "of width 9"),
        (by_plan({"structure": "channel", "groups": [STEM | {"keep": [8]}]}), TargetOutOfRange, "index 8 of 8 units"),
        (by_plan({"structure": "channel", "groups": [STEM | {"keep": [-1]}]}), TargetOutOfRange, "greater than"),
        (by_plan({"structure": "channel", "groups": [STEM | {"keep": []}]}), ContradictorySpec, "would be left"),
        (
            by_plan({"structure": "channel", "groups": [{"id": "head", "width": 3, "keep": [0]}]}),
            ContradictorySpec,
            "must stay",
        ),
        (by_plan({"structure": "channel", "groups": [STEM | {"keep": ["1"]}]}), InvalidSpec, "valid integer"),
        (by_plan({"structure": "weight", "masks": [MASK]}), ContradictorySpec, "damaged"),
        (by_plan({"structure": "weight", "masks": [MASK | {"shape": [3]}]}), ContradictorySpec, "no kernel of this"),
        (
            by_plan({"structure": "weight", "masks": [MASK | {"weight": "layers/dense/vars/1", "shape": [3]}]}),
            ContradictorySpec,
            "no kernel of this model",
        ),
        ({"target": {"type": "plan", "artifact_id": "art_0"}}, InvalidSpec, "give the plan itself"),
        ({"target": {"type": "plan"}}, InvalidSpec, "needs plan or artifact_id"),
        (
            {"target": {"type": "plan", "artifact_id": "a", "plan": {"structure": "channel"}}},
            ContradictorySpec,
            "give one of them",
        ),
        (
            {"target": {"type": "plan", "plan": {"structure": "weight"}}},
            ContradictorySpec,
            "the plan has structure weight, the spec channel",
        ),
        (
            {"target": {"type": "plan", "plan": {"structure": "channel"}}, "layers": {"stem": {"skip": True}}},
            ContradictorySpec,
            "leave `layers` out",
        ),
    ],
)
def test_plans_that_do_not_fit_are_refused(
    model: Path, wanted: dict[str, Any], kind: type[SecateurError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        pruning.prune(model, {"pruning": wanted, "dry_run": True})


def test_a_plan_that_prunes_normalized_axes_needs_them_prunable(models: Callable[[str], Path], tmp_path: Path) -> None:
    prunable = {"constraints": {"normalized_axes": "prune"}}
    wanted = {"target": {"type": "ratio", "value": 0.3}, **prunable}
    plan = prune(models("head"), wanted, tmp_path / "first")
    assert prune(models("head"), by_plan(plan) | prunable, tmp_path / "second") == plan
    first, second = ((tmp_path / run / "pruned.keras").read_bytes() for run in ("first", "second"))
    assert first == second
    with pytest.raises(ContradictorySpec):
        prune(models("head"), by_plan(plan), tmp_path / "third")


def test_no_criterion_is_asked_where_a_plan_has_chosen(model: Path) -> None:
    """bn_scale has nothing to score `last` by; a plan prunes it all the same, and no reason is made up."""
    plan = {"structure": "channel", "groups": [{"id": "last", "width": 12, "keep": list(range(6))}]}
    wanted = by_plan(plan) | {"criterion": {"name": "bn_scale"}}
    rows = {row.name: row for row in pruning.prune(model, {"pruning": wanted, "dry_run": True}).layers}
    assert (rows["last"].width_after, rows["last"].kept_because) == (6, None)
    assert (rows["stem"].width_after, rows["stem"].kept_because) == (8, None)
    assert rows["head"].kept_because == "head: softmax mixes the last axis"
