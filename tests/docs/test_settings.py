"""docs/settings.md lists every setting with its default and its meaning, and nothing else."""

from __future__ import annotations

import re

import pytest
from pydantic import SecretStr

from app.settings import Settings
from tests.docs.paths import DOCS

TEXT = (DOCS / "settings.md").read_text()
ROWS = re.findall(r"^\| `SECATEUR_(\w+)` \| (?:`(.*)`|–) \| (.+) \|$", TEXT, re.MULTILINE)
FIELDS = Settings.model_fields


def default(name: str) -> str:
    value = FIELDS[name].default
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    return (
        ",".join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def test_every_setting_is_listed_once_and_in_order() -> None:
    assert [name.lower() for name, _, _ in ROWS] == list(FIELDS)


@pytest.mark.parametrize(("name", "shown", "meaning"), ROWS)
def test_default_and_meaning_are_those_of_the_code(name: str, shown: str, meaning: str) -> None:
    assert shown == default(name.lower())
    assert meaning == FIELDS[name.lower()].description
