"""Jobs over HTTP: what is answered, from the request to the report; a worker's part is played by the test."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from app import db
from app.http.routing import Route
from app.jobs import states
from app.main import app
from app.storage import get_storage
from pruning.contract.spec import Spec
from tests.app.resources import (
    RESULT,
    TARGET,
    claimed,
    done_job,
    finished,
    inspected,
    new_dataset,
    new_job,
    new_model,
    progressed,
    ready_model,
)
from tests.app.serving import problem


def test_a_job_from_request_to_result(client_on_each: httpx.Client) -> None:
    client = client_on_each
    body = {
        "model_id": ready_model(client),
        "dataset_id": new_dataset(client)["id"],
        "pruning": {"target": TARGET, "criterion": {"name": "l1"}},
        "name": "half",
        "labels": {"team": "vision"},
        "limits": {"run_seconds": 60},
    }
    response = client.post("/v1/jobs", json=body)
    job = response.json()
    own = f"/v1/jobs/{job['id']}"
    assert response.status_code == 202
    assert response.headers["location"] == own
    assert job["urls"] == {"self": own, **{n: f"{own}/{n}" for n in ("events", "artifacts", "report", "cancel")}}
    assert {key: job[key] for key in ("state", "phase", "progress", "attempts", "error", "result", "started_at")} == {
        "state": "queued",
        "phase": None,
        "progress": None,
        "attempts": 0,
        "error": None,
        "result": None,
        "started_at": None,
    }
    assert job["spec"] == {"pruning": body["pruning"], "limits": {"run_seconds": 60}}
    resolved = job["spec_resolved"]
    assert resolved["limits"] == {"run_seconds": 60.0, "queue_seconds": 86400.0, "memory_bytes": 8_000_000_000}
    assert [stage["stage"] for stage in resolved["recovery"]] == ["batch_norm", "fine_tune"]
    assert resolved["pruning"]["constraints"]["round_to"] == 1
    Spec.model_validate({name: value for name, value in resolved.items() if name != "limits"})

    token = claimed(job["id"])
    progressed(job["id"], token, "recover", 3)
    running = client.get(own).json()
    assert (running["state"], running["phase"], running["attempts"]) == ("running", "recover", 1)
    assert running["progress"] == {"completed": 3, "total": 10, "unit": "steps"}
    assert problem(client.get(f"{own}/report")) == (409, "job_not_finished")
    finished(job["id"], token, b"the file")
    done = client.get(own).json()
    assert (done["state"], done["result"], done["error"]) == ("succeeded", RESULT, None)
    assert done["created_at"].endswith("Z")
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert client.get("/v1/jobs", params={"label": "team:vision"}).json()["items"] == [done]


@pytest.mark.parametrize(
    ("arrays", "stages"),
    [
        (["x_train", "y_train", "x_validation", "y_validation"], ["batch_norm", "fine_tune"]),
        (["x_train", "x_test"], ["least_squares"]),
        (["x_train", "y_train"], ["least_squares"]),
        (["x_test", "y_test"], []),
        (None, []),
    ],
)
def test_recovery_is_spelled_out(client: httpx.Client, arrays: list[str] | None, stages: list[str]) -> None:
    from tests.app.files import labelled

    fields = {}
    if arrays is not None:
        made = labelled()
        fields["dataset_id"] = new_dataset(client, **{name: made[name] for name in arrays})["id"]
    job = new_job(client, **fields)
    assert [stage["stage"] for stage in job["spec_resolved"]["recovery"]] == stages


def test_a_job_on_a_rejected_model_is_refused_with_its_code(client: httpx.Client) -> None:
    model = new_model(client)["id"]
    waiting = new_job(client, model_id=model)
    inspected(model, {"code": "unsafe_file", "detail": "it holds a Lambda"})
    assert client.get(f"/v1/models/{model}").json()["state"] == "rejected"
    assert client.get(waiting["urls"]["self"]).json()["error"]["code"] == "unsafe_file"
    response = client.post("/v1/jobs", json={"model_id": model, "pruning": {"target": TARGET}})
    assert problem(response) == (422, "unsafe_file")
    other = new_model(client, "b")["id"]
    inspected(other, {"code": "time_limit", "detail": "too slow"})
    response = client.post("/v1/jobs", json={"model_id": other, "pruning": {"target": TARGET}})
    assert problem(response) == (422, "time_limit")


def test_cancel(client_on_each: httpx.Client) -> None:
    client = client_on_each
    job = new_job(client)
    for _ in range(2):
        response = client.post(job["urls"]["cancel"])
        assert (response.status_code, response.json()["state"]) == (202, "cancelled")
    running = new_job(client, model_id=ready_model(client, "b"))
    token = claimed(running["id"])
    for _ in range(2):
        response = client.post(running["urls"]["cancel"])
        assert (response.status_code, response.json()["state"]) == (202, "running")
        assert response.json()["cancel_requested"]
    with db.write() as session:
        renewal = states.renew(session, states.JOBS, running["id"], token, 30)
    assert renewal is not None
    assert renewal.cancel_requested
    assert problem(client.post(done_job(client)["urls"]["cancel"])) == (409, "conflict")


def test_clone(client: httpx.Client) -> None:
    dataset = new_dataset(client)["id"]
    job = new_job(
        client,
        dataset_id=dataset,
        name="first",
        labels={"a": "1"},
        seed=3,
        pruning={
            "criterion": {"name": "l2", "normalization": "lamp"},
            "target": TARGET,
            "layers": {"x": {"skip": True}},
        },
    )
    same = client.post(f"{job['urls']['self']}/clone")
    assert same.status_code == 202
    kept = ("model_id", "dataset_id", "spec", "spec_resolved", "name", "labels")
    assert {key: same.json()[key] for key in kept} == {key: job[key] for key in kept}
    assert same.json()["id"] != job["id"]
    overrides = {
        "pruning": {"criterion": {"name": "random"}, "target": {"value": 0.25}, "layers": {"y": {"ratio": 0.1}}},
        "labels": {"b": "2"},
        "name": None,
        "dataset_id": None,
        "recovery": [],
    }
    other = client.post(f"{job['urls']['self']}/clone", json=overrides).json()
    assert other["spec"]["pruning"] == {
        "criterion": {"name": "random"},
        "target": {"type": "ratio", "value": 0.25},
        "layers": {"x": {"skip": True}, "y": {"ratio": 0.1}},
    }
    assert (other["name"], other["labels"], other["dataset_id"], other["spec"]["seed"]) == (
        None,
        {"a": "1", "b": "2"},
        None,
        3,
    )
    assert problem(client.post(f"{job['urls']['self']}/clone", json={"seed": -1})) == (422, "target_out_of_range")
    assert problem(client.post(f"{job['urls']['self']}/clone", json=[1])) == (422, "invalid_spec")


def test_delete(client_on_each: httpx.Client) -> None:
    client = client_on_each
    one, two = done_job(client, b"shared", b"own"), done_job(client, b"shared")
    digests = [artifact["sha256"] for artifact in client.get(one["urls"]["artifacts"]).json()["items"]]
    assert client.delete(one["urls"]["self"]).status_code == 204
    assert [get_storage().path(digest).exists() for digest in digests] == [True, False]
    for path in (one["urls"]["self"], one["urls"]["events"], one["urls"]["artifacts"], one["urls"]["report"]):
        assert problem(client.get(path)) == (404, "not_found")
    assert problem(client.delete(one["urls"]["self"])) == (404, "not_found")
    assert client.get(client.get(two["urls"]["artifacts"]).json()["items"][0]["url"]).content == b"shared"
    waiting = new_job(client, model_id=ready_model(client))
    assert problem(client.delete(waiting["urls"]["self"])) == (409, "conflict")
    claimed(waiting["id"])
    assert problem(client.delete(waiting["urls"]["self"])) == (409, "conflict")


def test_what_an_unfinished_job_needs_stays(client_on_each: httpx.Client) -> None:
    client = client_on_each
    model, dataset = ready_model(client), new_dataset(client)["id"]
    job = new_job(client, model_id=model, dataset_id=dataset)
    assert problem(client.delete(f"/v1/models/{model}")) == (409, "conflict")
    assert problem(client.delete(f"/v1/datasets/{dataset}")) == (409, "conflict")
    client.post(job["urls"]["cancel"])
    assert client.delete(f"/v1/models/{model}").status_code == 204
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    assert problem(client.get(f"/v1/models/{model}")) == (404, "not_found")
    left = client.get(job["urls"]["self"]).json()
    assert (left["model_id"], left["dataset_id"]) == (model, dataset)
    response = client.post(f"{job['urls']['self']}/clone")
    assert problem(response) == (404, "not_found")
    assert response.json()["errors"][0]["path"] == "model_id"


@pytest.mark.parametrize(
    ("target", "laid_over", "expected"),
    [
        ({"at_most_ratio": 0.5}, {"at_most": 9}, {"at_most": 9}),
        ({"at_most_ratio": 0.5}, {"type": "budget", "at_most": 9}, {"at_most": 9}),
        ({"at_most": 9}, {"at_most_ratio": 0.5, "measure": "parameters"}, {"at_most_ratio": 0.5}),
        ({"at_most": 9}, {"at_most_ratio": None, "measure": "parameters"}, {"at_most": 9, "at_most_ratio": None}),
    ],
)
def test_a_clone_has_the_last_of_two_bounds(
    client: httpx.Client, target: dict[str, Any], laid_over: dict[str, Any], expected: dict[str, Any]
) -> None:
    job = new_job(client, pruning={"target": {"type": "budget", "measure": "macs", **target}})
    clone = client.post(f"{job['urls']['self']}/clone", json={"pruning": {"target": laid_over}})
    assert clone.status_code == 202, clone.text
    measure = laid_over.get("measure", "macs")
    assert clone.json()["spec"]["pruning"]["target"] == {"type": "budget", "measure": measure, **expected}


def test_report(client: httpx.Client) -> None:
    job = done_job(client, b"file", name="<script>alert(1)</script>")
    plain = client.get(job["urls"]["report"])
    assert plain.headers["content-type"] == "application/json"
    assert plain.json() == {**job, "artifacts": client.get(job["urls"]["artifacts"]).json()["items"]}
    page = client.get(job["urls"]["report"], headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text
    assert job["id"] in page.text
    for accept in ("*/*", "application/json", "application/json, text/html;q=0.5", "text/html;q=0"):
        answer = client.get(job["urls"]["report"], headers={"Accept": accept})
        assert answer.headers["content-type"] == "application/json", accept


def test_report_of_a_failed_job(client: httpx.Client) -> None:
    job = new_job(client, model_id=ready_model(client))
    finished(job["id"], claimed(job["id"]), error={"code": "infeasible_target", "detail": "too low", "floor": 0.2})
    report = client.get(job["urls"]["report"]).json()
    assert report["error"] == {"code": "infeasible_target", "detail": "too low", "floor": 0.2}
    assert client.get(job["urls"]["report"], headers={"Accept": "text/html"}).status_code == 200


def test_etag(client: httpx.Client) -> None:
    job = new_job(client, model_id=ready_model(client))
    url = job["urls"]["self"]
    etag = client.get(url).headers["etag"]
    known = {"If-None-Match": etag}
    response = client.get(url, headers=known)
    assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert client.get(url, headers={"If-None-Match": f'"x", W/{etag}'}).status_code == 304
    claimed(job["id"])
    response = client.get(url, headers=known)
    assert response.status_code == 200
    assert response.headers["etag"] != etag


def test_head_is_get_without_the_body(client: httpx.Client) -> None:
    job = done_job(client, b"file")
    own = ("self", "events", "artifacts", "report")
    listed = ("models", "datasets", "jobs", "methods", f"models/{job['model_id']}")
    artifact = client.get(job["urls"]["artifacts"]).json()["items"][0]
    paths = [*(job["urls"][name] for name in own), *(f"/v1/{path}" for path in listed)]
    paths += [f"/v1/artifacts/{artifact['id']}", artifact["url"], "/health/live", "/docs", "/openapi.json"]
    for path in paths:
        head, whole = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b""), path
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == whole.headers.get(name), (path, name)
    known = {"If-None-Match": client.head(job["urls"]["self"]).headers["etag"]}
    assert client.head(job["urls"]["self"], headers=known).status_code == 304
    assert client.head(f"/v1/jobs/job_{'0' * 32}").status_code == 404


def test_every_part_answers_head() -> None:
    assert {type(route) for route in app.routes if isinstance(route, APIRoute)} == {Route}


def test_head_of_a_stream_does_not_wait_for_its_end(client: httpx.Client) -> None:
    job = new_job(client)
    response = client.head(job["urls"]["events"], headers={"Accept": "text/event-stream"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert [response.headers["vary"], client.get(job["urls"]["events"]).headers["vary"]] == ["Accept", "Accept"]
    assert client.get(job["urls"]["self"]).json()["state"] == "queued"


def later(seconds: float, act: Any, *arguments: Any) -> threading.Timer:
    timer = threading.Timer(seconds, act, arguments)
    timer.start()
    return timer


def test_wait_ends_when_the_state_changes(client_on_each: httpx.Client) -> None:
    client = client_on_each
    job = new_job(client, model_id=ready_model(client))
    url = job["urls"]["self"]
    timer = later(0.3, claimed, job["id"])
    started = time.monotonic()
    assert client.get(url, params={"wait": 20}).json()["state"] == "running"
    assert 0.2 < time.monotonic() - started < 10
    timer.join()


def test_progress_alone_does_not_end_the_wait(client: httpx.Client) -> None:
    job = new_job(client, model_id=ready_model(client))
    token = claimed(job["id"])
    timer = later(0.2, progressed, job["id"], token, "score", 1)
    response = client.get(job["urls"]["self"], params={"wait": 0.8})
    assert (response.json()["state"], response.json()["phase"]) == ("running", "score")
    assert response.elapsed.total_seconds() > 0.7
    timer.join()


def test_wait_does_not_wait_for_what_is_over_or_unknown_to_the_client(client: httpx.Client) -> None:
    job = new_job(client, model_id=ready_model(client))
    old = client.get(job["urls"]["self"]).headers["etag"]
    token = claimed(job["id"])
    response = client.get(job["urls"]["self"], params={"wait": 20}, headers={"If-None-Match": old})
    assert response.json()["state"] == "running"
    same = {"If-None-Match": response.headers["etag"]}
    assert client.get(job["urls"]["self"], params={"wait": 0.2}, headers=same).status_code == 304
    finished(job["id"], token)
    response = client.get(job["urls"]["self"], params={"wait": 20})
    assert response.json()["state"] == "succeeded"
    assert response.elapsed.total_seconds() < 10


def test_many_wait_at_once(client: httpx.Client) -> None:
    job = new_job(client, model_id=ready_model(client))
    found: list[str] = []

    def poll() -> None:
        found.append(client.get(job["urls"]["self"], params={"wait": 20}).json()["state"])

    threads = [threading.Thread(target=poll) for _ in range(60)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert client.get("/v1/jobs").elapsed.total_seconds() < 5
    claimed(job["id"])
    for thread in threads:
        thread.join(30)
    assert found == ["running"] * 60
