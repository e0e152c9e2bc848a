"""Long lists of cases in two parts: one that always runs, and one for CI and before a change lands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int) -> list[Any]:
    """The cases, all but the first of each `every` marked: `make test` and `make test-rest` together run each once."""
    return [
        case if index % every == 0 else pytest.param(case, marks=pytest.mark.rest) for index, case in enumerate(cases)
    ]
