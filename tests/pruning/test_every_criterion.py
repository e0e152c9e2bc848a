"""Every criterion under every scope and target on the zoo: what it chooses can be cut, and the cut is proven."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import keras
import numpy as np
import pytest

from pruning import surgery
from pruning.case import Case
from pruning.contract.criteria import Criterion
from pruning.contract.errors import NothingToPrune
from pruning.contract.spec import Pruning, Scope, Spec, resolve
from pruning.criteria import Evidence
from pruning.keras import collect
from pruning.keras.data import Labels, Samples
from pruning.keras.objective import Loss, Objective
from pruning.planning import score
from pruning.selection import select
from pruning.targets import Infeasible
from pruning.units import only
from tests import equivalence, graphs

TOLERANCE = 1e-9
MEMBERS = [member for member in get_args(get_args(Criterion)[0]) if member.of_units]
EVERY = [member(name=get_args(member.model_fields["name"].annotation)[0]) for member in MEMBERS]
OF_WEIGHTS = [one for one in EVERY if not one.needs_samples]
OF_SAMPLES = [one for one in EVERY if one.needs_samples]
SCOPES = get_args(Scope)
TARGETS: list[dict[str, Any]] = [
    {"type": "ratio", "value": 0.5},
    {"type": "budget", "measure": "macs", "at_most_ratio": 0.5},
    {"type": "threshold", "value": {"quantile": 0.3}},
]
QUICK = ["residual", "mobile_net", "concatenate_into_sum", "grouped", "nested_shared", "lenet"]
# The proof of these two is in single precision.
THIRTY = [name for name in graphs.ZOO if name not in ("three_dimensional", "mixed_precision")][:30]
WITH_SAMPLES = ["residual", "separable", "many_ports", "squeeze_excite"]


def chosen(case: Case, criterion: Any, scope: str, target: dict[str, Any], evidence: Evidence) -> Any:
    """The unit ids that go; None where nothing may."""
    pruning = Pruning.model_validate({"criterion": criterion.model_dump(), "scope": scope, "target": target})
    spec = resolve(Spec(pruning=pruning, recovery=[], seed=1), (), has_labels=False)
    scores = score(case, spec, evidence)
    for group in case.units.groups:
        if group.id in scores:
            assert np.isfinite(scores[group.id]).all()
            assert scores[group.id].shape == (len(group.units),)
    try:
        plan = select(case.units, scores, spec.pruning)
    except Infeasible as error:
        plan = error.plan
    except NothingToPrune:
        return None
    return surgery.removed_of(plan, case.units)


def cases(name: str, criteria: list[Any], evidence: dict[str, Evidence]) -> Iterator[tuple[str, Any]]:
    """(what chose, the unit ids) of every criterion, scope and target; each is cut and read again on the way."""
    proof = equivalence.zoo(name)
    case = Case(proof.archive, proof.graph, only(proof.units, "channel"))
    for criterion in criteria:
        seen = evidence.get(criterion.name) or Evidence(case.archive.arrays)
        for scope in SCOPES:
            for target in TARGETS:
                removed = chosen(case, criterion, scope, target, seen)
                if removed is not None and len(removed):
                    left = surgery.apply(case.archive, case.graph, case.units, removed)
                    surgery.check(left, case.units, removed)
                    yield f"{criterion.name} {scope} {target['type']}", removed


def proven(name: str, found: list[tuple[str, Any]], most: int) -> None:
    """Up to `most` different choices, spread over all, compute what the masked original does."""
    distinct = list({removed.tobytes(): (what, removed) for what, removed in found}.values())
    for what, removed in distinct[:: max(1, -(-len(distinct) // most))]:
        difference, _ = equivalence.zoo(name).differences(removed)
        assert difference < TOLERANCE, what


@pytest.mark.parametrize("name", QUICK)
def test_what_criteria_of_weights_choose_can_be_cut(name: str) -> None:
    found = list(cases(name, OF_WEIGHTS, {}))
    assert len(found) > len(OF_WEIGHTS)
    proven(name, found, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", THIRTY)
def test_thirty_graphs_for_every_criterion_of_weights_and_scope(name: str) -> None:
    proven(name, list(cases(name, OF_WEIGHTS, {})), 6)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", WITH_SAMPLES)
def test_graphs_for_every_criterion_of_samples_and_scope(name: str) -> None:
    evidence = {one.name: collected(name, one) for one in OF_SAMPLES}
    proven(name, list(cases(name, OF_SAMPLES, evidence)), 6)


def collected(name: str, criterion: Any) -> Evidence:
    """Evidence of random samples and labels."""
    proof = equivalence.zoo(name)
    case = Case(proof.archive, proof.graph, proof.units)
    rng = np.random.default_rng(0)
    model: keras.Model = proof.live.model
    samples = Samples(
        "train",
        tuple(rng.normal(size=(12, *array.shape[1:])) for array in proof.inputs),
        tuple(
            Labels(rng.normal(size=(12, *(size or 12 for size in tensor.shape[1:]))), "dense", "y_train")
            for tensor in model.outputs
        ),
        tuple(str(tensor.dtype) for tensor in model.inputs),
    )
    losses = tuple(Loss("mean_squared_error") for _ in model.outputs)
    objective = Objective(losses, (1.0,) * len(losses), (), "inferred")
    return collect.evidence(case, criterion.model_copy(update={"batch_size": 4}), samples, objective)
