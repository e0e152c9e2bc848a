"""What holds for the project as a whole: import rules, sizes, and nothing of the machine it was written on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("app", "pruning", "worker", "migrations", "examples", "benchmarks", "tests")
MOST_LINES = 400
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".html", ".css", ".sh", ".ini", ".json", ".mako", ""}
# Names of machines, folders outside the project and registries, put together here so that this file does not hold them.
FORBIDDEN = [
    "/".join(("", "work", "")),
    "/".join(("", "root", "")),
    "/".join(("", "home", "")),
    "py" + "pi.org",
    "python" + "hosted",
    "index" + "-url",
    "find" + "-links",
    "npm" + "js.org",
    "deb" + "ian.org",
]


@lru_cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project, as git knows them; where there is no git, those in the source folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    found = [ROOT / name for name in names if name] or [
        path for folder in SOURCES for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts
    ]
    return tuple(path for path in found if path.is_file())


def test_the_import_rules_hold() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def nouns() -> list[str]:
    """The engine's modules and packages that need no TensorFlow: all but the contract and `keras/`."""
    found = [
        path.stem for path in (ROOT / "pruning").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    return sorted(f"pruning.{name}" for name in found if name not in ("__init__", "contract", "keras"))


@pytest.mark.parametrize(
    ("contract", "field"),
    [
        ("the engine's nouns need no TensorFlow and no service", "source_modules"),
        ("the service sees of the engine only its contract, and never the worker", "forbidden_modules"),
    ],
)
def test_the_import_rules_name_every_noun_of_the_engine(contract: str, field: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (listed,) = (set(one[field]) for one in contracts if one["name"] == contract)
    missing = sorted(set(nouns()) - listed)
    gone = sorted(name for name in listed if name.startswith("pruning.") and name not in (*nouns(), "pruning.keras"))
    told = f"in pyproject.toml, `{field}` of the import rule {contract!r}"
    assert not missing, f"{told}: add {', '.join(missing)}"
    assert not gone, f"{told}: take out {', '.join(gone)}, which are no modules"


def test_the_nouns_of_the_engine_load_no_tensorflow() -> None:
    code = f"import json, sys, {', '.join(nouns())}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded & {"tensorflow", "keras", "fastapi", "sqlalchemy", "celery", "app", "worker"} == set()


def test_fastapi_stays_where_http_is() -> None:
    allowed = re.compile(r"^app/(main|\w+/endpoints|http/\w+|pages/\w+)\.py$")
    strays = [
        name
        for path in (ROOT / "app").rglob("*.py")
        if re.search(r"^\s*(?:from|import) fastapi", path.read_text(), re.MULTILINE)
        and not allowed.match(name := path.relative_to(ROOT).as_posix())
    ]
    assert strays == []


def test_files_stay_readable_in_one_sitting() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in tracked()
        if path.suffix == ".py"
        and path.relative_to(ROOT).parts[0] != "tests"
        and (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


@pytest.mark.parametrize("word", FORBIDDEN)
def test_no_file_names_a_machine_or_a_registry(word: str) -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in tracked()
        if path.suffix in TEXT and word in path.read_text(errors="replace")
    ]
    assert found == []


def test_every_package_of_tests_has_an_init() -> None:
    bare = [
        path.relative_to(ROOT).as_posix()
        for path in {file.parent for file in tracked() if file.suffix == ".py" and "tests" in file.parts}
        if not (path / "__init__.py").exists()
    ]
    assert bare == []


def test_every_requirement_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for name in ("dev", "demo", "bench") for line in extras[name])]
    names = {re.split(r"[\[<>=!~ ]", line)[0].lower().replace("_", "-") for line in wanted}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert names <= {line.partition("==")[0].lower().replace("_", "-") for line in lines}
