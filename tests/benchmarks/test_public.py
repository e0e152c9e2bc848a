"""Benchmarks on public data look where the tests do."""

from __future__ import annotations

from benchmarks import criteria, public, quality, repair
from tests.pruning.keras import small


def test_the_data_are_those_of_the_tests() -> None:
    assert {public.DATA, criteria.DATA, quality.DATA, repair.DATA} == {small.SHARED}
