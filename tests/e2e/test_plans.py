"""A plan over REST: from one job's artifact to another job, whose files are the same."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Uploads


@pytest.mark.parametrize(
    "wanted",
    [{"target": {"type": "ratio", "value": 0.5}}, {"structure": "weight", "target": {"type": "ratio", "value": 0.5}}],
    ids=["channel", "weight"],
)
def test_a_job_carries_out_the_plan_of_another(embedded_service: Uploads, wanted: dict[str, object]) -> None:
    uploads, service = embedded_service, embedded_service.service
    first = uploads.start(pruning=wanted)
    service.wait(f"/v1/jobs/{first}")
    made = {item["kind"]: item for item in service.get(f"/v1/jobs/{first}/artifacts")["items"]}
    by_plan = {**wanted, "target": {"type": "plan", "artifact_id": made["plan"]["id"]}}
    second = uploads.start(pruning=by_plan)
    foretold = uploads.start(pruning=by_plan, dry_run=True)
    job = service.wait(f"/v1/jobs/{second}")
    assert (job["state"], job["error"]) == ("succeeded", None)
    again = {item["kind"]: item for item in service.get(f"/v1/jobs/{second}/artifacts")["items"]}
    assert {kind: item["sha256"] for kind, item in again.items()} == {
        kind: item["sha256"] for kind, item in made.items()
    }
    dry = service.wait(f"/v1/jobs/{foretold}")
    assert (dry["state"], dry["error"]) == ("succeeded", None)
    assert dry["result"]["removed"] == job["result"]["removed"]
    assert dry["result"]["measures"]["after"]["size_bytes"] == job["result"]["measures"]["after"]["size_bytes"]
