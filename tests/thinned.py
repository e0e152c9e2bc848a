"""Long lists of cases in two parts: one that always runs, and one that runs with the slow tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int) -> list[Any]:
    """The cases, of which all but the first of each `every` are slow: both runs together run each once."""
    return [
        case if index % every == 0 else pytest.param(case, marks=pytest.mark.slow) for index, case in enumerate(cases)
    ]
