from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import equivalence, graphs, random_graphs

TOLERANCE = 1e-9


@pytest.mark.parametrize("name", graphs.ZOO)
def test_pruned_equals_masked(name: str) -> None:
    archive = equivalence.archived(graphs.build(name))
    found, power = equivalence.verify(archive)
    # MaxPool3D computes in float32.
    assert found < (1e-6 if name == "three_dimensional" else TOLERANCE)
    assert power > 1e-4


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    found, _ = equivalence.verify(equivalence.archived(random_graphs.model(data.draw)))
    assert found < TOLERANCE


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_many_random_graphs(data: st.DataObject) -> None:
    found, _ = equivalence.verify(equivalence.archived(random_graphs.model(data.draw)))
    assert found < TOLERANCE
