"""docs/http.md has every path, problem, warning and method of the service, and none that is not there."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

from app.main import app
from pruning.contract import criteria, spec
from pruning.contract.errors import BY_CODE
from tests.docs.paths import DOCS, ROOT

TEXT = (DOCS / "http.md").read_text()


def rows(pattern: str) -> list[tuple[str, ...]]:
    return re.findall(rf"^\| {pattern} \|", TEXT, re.MULTILINE)


def test_every_path_is_there_with_its_methods() -> None:
    described = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert set(rows(r"`([A-Z]+) (/[^`]*)`")) == described


def test_every_problem_is_there_with_its_status() -> None:
    found = rows(r"`(\w+)` \| (\d{3}|failed job)")
    assert {code for code, _ in found} == set(BY_CODE)
    assert all(status == "failed job" or int(status) == BY_CODE[code].status for code, status in found)


def test_every_warning_is_there() -> None:
    sources = [path.read_text() for folder in ("pruning", "app", "worker") for path in (ROOT / folder).rglob("*.py")]
    raised = {code for source in sources for code in re.findall(r'Warning\(\s*code="(\w+)"', source)}
    section = TEXT.split("| warning | when |")[1].split("\n\n")[0]
    listed = set(re.findall(r"`(\w+)`", section))
    assert raised == listed - {"parameters_hardly_moved"}


def first_cells(header: str) -> set[str]:
    """The names in the first cells of the table with this header."""
    section = TEXT.split(f"| {header} |")[1].split("\n\n")[0]
    return {
        name for cell in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }


def names(union: Any, tag: str) -> set[str]:
    """What the members of a union of the spec are called."""
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields[tag].annotation)[0] for member in members}


def test_every_target_and_stage_is_there() -> None:
    assert first_cells("target | fields | meaning") == names(spec.Target, "type")
    assert first_cells("stage | reads | what it does") == names(spec.Stage, "stage")


def test_every_criterion_is_there_and_scores_weights_where_it_says_so() -> None:
    assert first_cells("criterion | sees | also single weights") == set(criteria.criteria("of_units"))
    of_weights = {name for row in rows(r"(`[^|]*) \| [^|]* \| yes") for name in re.findall(r"`(\w+)`", row)}
    assert of_weights == set(criteria.criteria("of_weights"))
    pages = TEXT, (DOCS / "criteria.md").read_text()
    assert [name for name in names(criteria.Criterion, "name") if any(f"`{name}`" not in page for page in pages)] == []


def test_the_example_is_a_spec() -> None:
    example = json.loads(re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)[0])
    for beside in ("model_id", "dataset_id", "name", "labels"):
        del example[beside]
    spec.Limits.model_validate(example.pop("limits"))
    checked = spec.Spec.model_validate(example)
    assert checked.pruning.layers["fc"].remove == [0, 7]
