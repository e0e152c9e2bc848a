"""Jobs that carry out the plan of another job: found, checked, kept as long as they are needed."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from app.storage import get_storage
from tests.app.resources import TARGET, claimed, finished, new_job, ready_model
from tests.app.serving import problem

PLAN = b'{"structure":"channel","groups":[{"id":"dense_1","layers":[],"width":8,"keep":[0,1]}],"masks":[]}'
DIGEST = hashlib.sha256(PLAN).hexdigest()
WEIGHTS = {"structure": "weight", "target": TARGET}


def made(client: httpx.Client, kind: str = "plan", **fields: Any) -> dict[str, Any]:
    """The one artifact of a job that is done."""
    job = new_job(client, model_id=ready_model(client), **fields)
    finished(job["id"], claimed(job["id"]), PLAN, kind=kind)
    return dict(client.get(job["urls"]["artifacts"]).json()["items"][0])


def asked(client: httpx.Client, artifact_id: str, **pruning: Any) -> httpx.Response:
    sha256 = {"sha256": pruning.pop("sha256")} if "sha256" in pruning else {}
    target = {"type": "plan", "artifact_id": artifact_id, **sha256}
    return client.post("/v1/jobs", json={"model_id": ready_model(client), "pruning": {"target": target, **pruning}})


def test_the_plan_is_named_by_its_digest_and_outlives_the_job_that_made_it(client_on_each: httpx.Client) -> None:
    client = client_on_each
    artifact = made(client)
    response = asked(client, artifact["id"], sha256=DIGEST)
    assert response.status_code == 202, response.text
    job = response.json()
    target = {"type": "plan", "artifact_id": artifact["id"], "sha256": DIGEST}
    assert job["spec_resolved"]["pruning"]["target"] == {**target, "plan": None}
    assert job["spec"]["pruning"]["target"] == target
    blob = get_storage().path(DIGEST)
    assert client.delete(f"/v1/jobs/{artifact['job_id']}").status_code == 204
    assert blob.is_file()
    assert problem(asked(client, artifact["id"])) == (404, "not_found")
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 202
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert not blob.exists()


def test_a_plan_inline_is_in_the_resolved_spec(client: httpx.Client) -> None:
    plan = {"structure": "channel", "groups": [{"id": "dense_1", "width": 8, "keep": [0]}]}
    job = new_job(client, model_id=ready_model(client), pruning={"target": {"type": "plan", "plan": plan}})
    groups = [{"id": "dense_1", "layers": [], "width": 8, "keep": [0]}]
    resolved = {"structure": "channel", "groups": groups, "masks": []}
    assert job["spec_resolved"]["pruning"]["target"]["plan"].items() >= resolved.items()


def test_a_clone_may_carry_out_the_plan_of_its_first(client: httpx.Client) -> None:
    artifact = made(client)
    overrides = {"pruning": {"target": {"type": "plan", "artifact_id": artifact["id"]}}}
    clone = client.post(f"/v1/jobs/{artifact['job_id']}/clone", json=overrides)
    assert clone.status_code == 202, clone.text
    assert clone.json()["spec_resolved"]["pruning"]["target"]["sha256"] == DIGEST


def test_a_clone_has_the_last_of_two_plans(client: httpx.Client) -> None:
    artifact, other = made(client)["id"], made(client)["id"]
    first = asked(client, artifact, sha256=DIGEST).json()["id"]
    plan = {"structure": "channel", "groups": [{"id": "dense_1", "width": 8, "keep": [0]}]}
    for laid_over in ({"plan": plan}, {"plan": {"structure": "channel", "layers": []}}, {"artifact_id": other}):
        clone = client.post(f"/v1/jobs/{first}/clone", json={"pruning": {"target": laid_over}})
        assert clone.status_code == 202, clone.text
        assert clone.json()["spec"]["pruning"]["target"] == {"type": "plan", **laid_over}
        first = clone.json()["id"]


@pytest.mark.parametrize("id", ["art_" + "0" * 32, "job_" + "0" * 32, "", "../plan.json", "x\\"])
def test_an_artifact_that_is_not_there(client: httpx.Client, id: str) -> None:
    response = asked(client, id)
    assert problem(response) == (404, "not_found")
    assert response.json()["errors"][0]["path"] == "pruning.target.artifact_id"


def test_artifacts_that_do_not_fit(client: httpx.Client) -> None:
    model, channel, weight = (
        made(client, "model")["id"],
        made(client)["id"],
        made(client, pruning=WEIGHTS)["id"],
    )
    for response, code, words in (
        (asked(client, model), "invalid_spec", "is a model, not a plan"),
        (asked(client, weight), "contradictory_spec", "the plan has structure weight, the spec channel"),
        (asked(client, channel, structure="weight"), "contradictory_spec", "the plan has structure channel"),
        (asked(client, channel, sha256="0" * 64), "digest_mismatch", "has another digest"),
        (asked(client, channel, layers={"dense_1": {"skip": True}}), "contradictory_spec", "leave `layers` out"),
    ):
        assert problem(response) == (422, code)
        assert words in response.json()["detail"]
