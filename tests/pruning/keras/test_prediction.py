"""What a dry run predicts is what the job then measures, to the digit, whatever the model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pruning.contract.request import PruneRequest
from pruning.contract.result import Result
from pruning.contract.spec import Spec
from pruning.keras import pipeline
from tests import graphs

RATIO = {"type": "ratio", "value": 0.4}
BYTES = {"type": "budget", "measure": "size_bytes", "at_most_ratio": 0.97}
MACS = {"type": "budget", "measure": "macs", "at_most_ratio": 0.6}
SAMPLE = {
    "mobile_net": {"target": MACS},
    "dense_blocks": {"target": BYTES},
    "nested_twice": {"target": RATIO, "scope": "layer"},
    "permuted_onto_space": {"target": RATIO},
    "encoder_decoder": {"target": BYTES, "criterion": {"name": "random"}},
    "odd_names": {"target": RATIO, "criterion": {"name": "l1"}},
    "time_distributed": {"target": RATIO},
    "grouped": {"target": {"type": "ratio", "value": 0.5}, "structure": "weight"},
}
MEASURED_ONLY = {"gzip_bytes", "latency_ms"}


def run(folder: Path, pruning: dict[str, Any], *, dry_run: bool) -> Result:
    spec = {"pruning": pruning, "recovery": [], "measures": {"latency": None}, "dry_run": dry_run, "seed": 3}
    request = PruneRequest(model=str(folder / "model.keras"), out=str(folder), spec=Spec.model_validate(spec))
    return pipeline.prune(request, lambda _: None)


def check(name: str, folder: Path, pruning: dict[str, Any]) -> None:
    pipeline.normalize(graphs.build(name), folder / "model.keras")
    predicted, real = run(folder, pruning, dry_run=True), run(folder, pruning, dry_run=False)
    for side in ("before", "after"):
        first, second = getattr(predicted.measures, side), getattr(real.measures, side)
        assert first.model_dump(exclude=MEASURED_ONLY) == second.model_dump(exclude=MEASURED_ONLY)
    assert predicted.measures.after.size_bytes == (folder / "pruned.keras").stat().st_size
    assert predicted.removed == real.removed
    assert predicted.layers == real.layers
    assert predicted.measures.after.parameters < predicted.measures.before.parameters or "structure" in pruning


@pytest.mark.parametrize("name", SAMPLE)
def test_on_a_sample(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, SAMPLE[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in graphs.ZOO if name not in SAMPLE])
def test_on_the_rest_of_the_zoo(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, {"target": RATIO})
