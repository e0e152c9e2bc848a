from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pruning.contract.errors import ContradictorySpec, VerificationFailed
from tests import equivalence, graphs, planted, random_graphs

TOLERANCE = 1e-9


@pytest.mark.parametrize("name", graphs.ZOO)
def test_pruned_equals_masked(name: str) -> None:
    found, power = equivalence.zoo(name).differences()
    # MaxPool3D computes in float32.
    assert found < (1e-6 if name == "three_dimensional" else TOLERANCE)
    assert power > 1e-4


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_random_graphs(data: st.DataObject) -> None:
    found, _ = equivalence.Proof(equivalence.archived(random_graphs.model(data.draw))).differences()
    assert found < TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@settings(max_examples=1000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_many_random_graphs(data: st.DataObject) -> None:
    found, _ = equivalence.Proof(equivalence.archived(random_graphs.model(data.draw))).differences()
    assert found < TOLERANCE


@pytest.mark.parametrize("name", planted.PLANTED)
def test_planted_bug_is_caught(name: str) -> None:
    class_name = name.split(":")[0]
    models = [key for key in graphs.ZOO if class_name in _classes(key)]
    assert models, f"no model of the zoo has a {class_name}"
    assert any(_catches(model, planted.PLANTED[name]) for model in models)


def _classes(name: str) -> set[str]:
    return {op.class_name for op in equivalence.zoo(name).graph.ops}


def _catches(model: str, plant: planted.Plant) -> bool:
    proof = equivalence.zoo(model)
    with plant():
        try:
            found, _ = proof.differences()
            barriers = {barrier.code for barrier in equivalence.traced(proof.archive)[1].barriers}
        # What does not fit is refused by the surgery or, at the latest, by Keras when it loads the model.
        except (VerificationFailed, ContradictorySpec, ValueError, UserWarning):
            return True
    return found > TOLERANCE or "shape_mismatch" in barriers
