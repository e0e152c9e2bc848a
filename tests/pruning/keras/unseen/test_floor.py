"""What an inspection says before any job is paid for holds in jobs: groups, reasons, and the floor of each measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from pruning import planning
from pruning.contract.errors import NothingToPrune
from pruning.contract.inspection import Inspection
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import Result
from pruning.contract.spec import Spec
from pruning.keras import pipeline
from pruning.selection import Infeasible
from tests import block_models
from tests.pruning.keras.test_heads import transformer
from tests.pruning.keras.unseen import images, oddities, operations, sequences, tables  # noqa: F401  (they register)
from tests.pruning.keras.unseen.catalogue import ARCHITECTURES

NAMES = ["stacked_cells", "channel_split_and_shuffle", "gated_linear_units", "tied_embedding_language_model"]


NORMALIZED: dict[str, Callable[[], keras.Model]] = {
    "pre_norm_encoder": ARCHITECTURES["pre_norm_encoder"].build,
    "grouped_query_attention_with_swiglu": ARCHITECTURES["grouped_query_attention_with_swiglu"].build,
    "pre_norm": lambda: block_models.build("pre_norm"),
    "post_norm": lambda: block_models.build("post_norm"),
    "both_attentions": transformer,
}
MEASURES = {"macs", "parameters", "size_bytes"}


def _budget(path: Path, out: Path, measure: str, at_most: float, **how: Any) -> Result:
    pruning = {"target": {"type": "budget", "measure": measure, "at_most": at_most}, **how}
    spec = Spec.model_validate({"pruning": pruning, "measures": {"latency": None}, "dry_run": True})
    return planning.dry_run(PruneRequest(model=str(path), out=str(out), spec=spec))


def _inspected(build: Callable[[], keras.Model], folder: Path) -> tuple[Inspection, Path]:
    keras.utils.set_random_seed(0)
    build().save(folder / "upload.keras")
    request = InspectRequest(upload=str(folder / "upload.keras"), format="keras", out=str(folder))
    return pipeline.inspect(request, lambda _: None), folder / "normalized.keras"


def _holds(floors: dict[str, float], path: Path, **how: Any) -> None:
    """A budget at the floor is met to the digit; of one below, the job says this floor."""
    assert floors.keys() == MEASURES
    for measure, floor in floors.items():
        after = _budget(path, path.parent, measure, floor, **how).measures.after
        assert getattr(after, measure) == floor
        with pytest.raises(Infeasible) as caught:
            _budget(path, path.parent, measure, floor - 1, **how)
        assert caught.value.floor == floor


@pytest.mark.parametrize("name", [NAMES[0], *[pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:]]])
def test_a_budget_at_the_floor_is_met_and_none_below(name: str, tmp_path: Path) -> None:
    found, path = _inspected(ARCHITECTURES[name].build, tmp_path)
    _holds(found.floor, path)
    assert all(group.layers and group.width for group in found.groups)
    assert all((group.kept_because is None) == group.prunable for group in found.groups)
    reasons = {barrier.detail for barrier in found.barriers}
    assert all(any(reason in group.kept_because for reason in reasons) for group in found.groups if group.kept_because)


def test_a_shuffle_that_ties_all_channels_of_a_layer_is_told(tmp_path: Path) -> None:
    def shuffled() -> keras.Model:
        inputs = x = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(6, 1)(x)
        x = keras.layers.Conv2D(12, 1, groups=3, name="first")(x)
        x = keras.layers.Permute((1, 2, 4, 3))(keras.layers.Reshape((8, 8, 3, 4))(x))
        x = keras.layers.Conv2D(9, 1, groups=3)(keras.layers.Reshape((8, 8, 12))(x))
        return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))

    found, path = _inspected(shuffled, tmp_path)
    first = next(group for group in found.groups if group.id == "first")
    assert (first.width, first.prunable) == (1, False)
    assert first.kept_because == "first: its 12 channels stand and fall together, as one unit that has to stay"
    assert ("first", "one_unit") in [(barrier.layer, barrier.code) for barrier in found.barriers]
    ratio = {"pruning": {"target": {"type": "ratio", "value": 0.5}}, "measures": {"latency": None}, "dry_run": True}
    request = PruneRequest(model=str(path), out=str(tmp_path), spec=Spec.model_validate(ratio))
    rows = {row.name: row for row in planning.dry_run(request).layers}
    assert (rows["first"].width_after, rows["first"].kept_because) == (12, first.kept_because)


def test_arrays_in_bfloat16_count_two_bytes_an_element(tmp_path: Path) -> None:
    def short() -> keras.Model:
        sizes = [keras.layers.Dense(n, activation="relu", dtype="bfloat16") for n in (16, 24, 32)]
        return keras.Sequential([keras.Input((8,), dtype="bfloat16"), *sizes, keras.layers.Dense(2, dtype="bfloat16")])

    found, path = _inspected(short, tmp_path)
    case = planning.study(planning.read(path))
    assert planning.figures(case, 0).sparse_bytes <= 2 * found.parameters
    assert case.units.tally.bytes(case.units.tally.lengths).sum() == 2 * found.parameters
    _holds(found.floor, path)


def test_the_floor_of_bytes_holds_whichever_numbers_of_a_constant_stay(tmp_path: Path) -> None:
    def scaled() -> keras.Model:
        inputs = keras.Input((6,))
        scales = keras.layers.Rescaling([0.5, 1.0, 0.1234567, 2.0, 3.0, 0.25, 0.7654321, 4.0])
        x = scales(keras.layers.Dense(8, activation="relu")(inputs))
        return keras.Model(inputs, keras.layers.Dense(2)(x))

    found, path = _inspected(scaled, tmp_path)
    for name in ("l1", "l2", "fpgm", "random"):
        criterion = {"name": name}
        after = _budget(path, tmp_path, "size_bytes", found.floor["size_bytes"], criterion=criterion).measures.after
        assert after.size_bytes <= found.floor["size_bytes"]


@pytest.mark.parametrize("name", NORMALIZED)
def test_heads_and_normalized_axes_have_floors_of_their_own(name: str, tmp_path: Path) -> None:
    found, path = _inspected(NORMALIZED[name], tmp_path)
    _holds(found.head_floor, path, structure="head")
    _holds(found.normalized_floor, path, constraints={"normalized_axes": "prune"})
    assert found.head_floor["macs"] < found.macs
    assert found.normalized_floor["macs"] < found.floor["macs"]
    with pytest.raises(Infeasible) as caught:
        _budget(path, tmp_path, "macs", 1, structure="head", constraints={"normalized_axes": "prune"})
    assert caught.value.floor == found.head_floor["macs"]


def test_a_model_without_heads_has_the_floor_that_it_came_with(tmp_path: Path) -> None:
    found, path = _inspected(ARCHITECTURES[NAMES[0]].build, tmp_path)
    assert found.head_floor["parameters"] == found.parameters
    with pytest.raises(NothingToPrune, match="this model has no heads"):
        _budget(path, tmp_path, "parameters", found.parameters - 1, structure="head")


def test_a_model_without_blocks_has_the_floor_that_it_came_with(tmp_path: Path) -> None:
    def build() -> keras.Model:
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(8), keras.layers.Dense(3)])

    found, path = _inspected(build, tmp_path)
    spec = Spec.model_validate({"pruning": {"target": {"type": "ratio", "value": 0.5}}, "dry_run": True})
    before = planning.dry_run(PruneRequest(model=str(path), out=str(tmp_path), spec=spec)).measures.before
    for floor in (found.layer_floor, found.head_floor):
        assert floor == {name: getattr(before, name) for name in MEASURES}
