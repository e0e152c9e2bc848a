"""docs/glossary.md has every term, and every name of code that it gives exists."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest

from tests.docs.paths import DOCS, ROOT

TERMS = [
    "Model",
    "Dataset",
    "Job",
    "Artifact",
    "Study",
    "Unit",
    "Block",
    "Coupled unit",
    "Group",
    "Barrier",
    "Criterion",
    "Evidence",
    "Scope",
    "Target",
    "Schedule",
    "Plan",
    "Measure",
    "Recovery",
    "Sparsity",
    "Pruning ratio",
]
TEXT = (DOCS / "glossary.md").read_text()
NAMES = re.findall(r"`((?:app|pruning|worker)\.[\w.]+)`", TEXT)


def test_every_term_has_one_entry() -> None:
    assert sorted(re.findall(r"^\*\*([^*]+)\*\*: ", TEXT, re.MULTILINE)) == sorted(TERMS)


def resolve(name: str) -> Any:
    """The module or the object of a dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_code_exist(name: str) -> None:
    assert resolve(name) is not None


def test_nothing_is_called_a_rate_that_is_a_ratio() -> None:
    sources = [path for folder in ("app", "pruning", "worker") for path in (ROOT / folder).rglob("*.py")]
    wrong = {
        f"{path.relative_to(ROOT)}: {found}"
        for path in sources
        for found in re.findall(r"\b(?:prun\w*|spars\w*|compress\w*)[_ ]rates?\b", path.read_text(), re.IGNORECASE)
    }
    assert wrong == set()
