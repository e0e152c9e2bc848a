"""docs/http.md has every path of the service, every problem and every warning, and none that is not there."""

from __future__ import annotations

import json
import re

from app.main import app
from pruning.contract import spec
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


def test_every_target_is_there() -> None:
    section = TEXT.split("| target | fields | meaning |")[1].split("\n\n")[0]
    kinds = {member.model_fields["type"].annotation.__args__[0] for member in spec.Target.__origin__.__args__}
    assert set(re.findall(r"^\| `(\w+)` ", section, re.MULTILINE)) == kinds


def test_the_example_is_a_spec() -> None:
    example = json.loads(re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)[0])
    for beside in ("model_id", "dataset_id", "name", "labels"):
        del example[beside]
    spec.Limits.model_validate(example.pop("limits"))
    checked = spec.Spec.model_validate(example)
    assert checked.pruning.layers["fc"].remove == [0, 7]
