"""One key, one deed: repeated, reused for something else, and raced, on both databases."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app import db
from app.tables import IdempotencyKey
from tests.app.files import HDF5, keras, labelled, npz
from tests.app.resources import TARGET, done_job, new_job, ready_model
from tests.app.serving import problem


def keyed(key: str, **headers: str) -> dict[str, str]:
    return {"Idempotency-Key": key, **headers}


def body_of(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    return {"model_id": ready_model(client), "pruning": {"target": TARGET}, **fields}


def test_the_first_answer_comes_again(client_on_each: httpx.Client) -> None:
    client = client_on_each
    body = body_of(client)
    first = client.post("/v1/jobs", json=body, headers=keyed("k"))
    client.post(first.json()["urls"]["cancel"])
    again = client.post("/v1/jobs", json=dict(reversed(body.items())), headers=keyed("k"))
    assert (again.status_code, again.json(), again.headers["location"]) == (
        202,
        first.json(),
        first.headers["location"],
    )
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert len(client.get("/v1/jobs").json()["items"]) == 1
    assert client.post("/v1/jobs", json=body, headers=keyed("other")).json()["id"] != first.json()["id"]


def test_another_request_with_the_key_is_refused(client_on_each: httpx.Client) -> None:
    client = client_on_each
    job = client.post("/v1/jobs", json=body_of(client), headers=keyed("k")).json()
    reused = (409, "idempotency_key_reused")
    assert problem(client.post("/v1/jobs", json=body_of(client, seed=1), headers=keyed("k"))) == reused
    assert problem(client.post(job["urls"]["cancel"], headers=keyed("k"))) == reused
    assert problem(client.post("/v1/models", content=HDF5, headers=keyed("k"))) == reused
    assert client.get(job["urls"]["self"]).json()["state"] == "queued"


def test_what_was_refused_may_be_corrected(client_on_each: httpx.Client) -> None:
    client = client_on_each
    assert problem(client.post("/v1/jobs", json=body_of(client, seed=-1), headers=keyed("k")))[0] == 422
    body = {**body_of(client), "dataset_id": "dst_" + "0" * 32}
    assert problem(client.post("/v1/jobs", json=body, headers=keyed("k")))[0] == 404
    assert client.post("/v1/jobs", json=body_of(client), headers=keyed("k")).status_code == 202


def test_uploads_are_told_by_their_bytes(client_on_each: httpx.Client) -> None:
    client = client_on_each
    model, data = keras(), npz(**labelled())
    for path, content in (("/v1/models", model), ("/v1/datasets", data)):
        first = client.post(path, files={"file": ("a", content)}, headers=keyed(path))
        again = client.post(path, files={"file": ("a", content)}, headers=keyed(path))
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.json() == first.json()
        assert again.headers["idempotent-replayed"] == "true"
        other = client.post(path, files={"file": ("a", content)}, data={"name": "other"}, headers=keyed(path))
        assert problem(other) == (409, "idempotency_key_reused")


@pytest.mark.parametrize("path", ["cancel", "clone"])
@pytest.mark.parametrize("id", ["a" * 600, "%00"])
def test_a_key_for_an_id_that_no_column_takes(client_on_each: httpx.Client, id: str, path: str) -> None:
    response = client_on_each.post(f"/v1/jobs/{id}/{path}", headers=keyed("k"))
    assert problem(response) == (404, "not_found")


def test_cancel_and_clone(client: httpx.Client) -> None:
    job = new_job(client, model_id=ready_model(client))
    clones = [client.post(f"{job['urls']['self']}/clone", json={"seed": 2}, headers=keyed("c")) for _ in range(2)]
    assert clones[0].json() == clones[1].json()
    other = client.post(f"{job['urls']['self']}/clone", json={"seed": 3}, headers=keyed("c"))
    assert problem(other) == (409, "idempotency_key_reused")
    cancels = [client.post(job["urls"]["cancel"], headers=keyed("x")) for _ in range(2)]
    assert cancels[0].json() == cancels[1].json()
    assert cancels[1].headers["idempotent-replayed"] == "true"


def test_an_artifact_as_a_model(client: httpx.Client) -> None:
    job = done_job(client, keras(weights=HDF5 + b"x"))
    (artifact,) = client.get(job["urls"]["artifacts"]).json()["items"]
    answers = [client.post("/v1/models", json={"artifact_id": artifact["id"]}, headers=keyed("a")) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_racing_requests_make_one_job(client_on_each: httpx.Client) -> None:
    client = client_on_each
    body = body_of(client)
    answers: list[httpx.Response] = []
    start = threading.Barrier(8)

    def post() -> None:
        start.wait()
        answers.append(client.post("/v1/jobs", json=body, headers=keyed("race")))

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [202] * 8
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 7
    assert len(client.get("/v1/jobs").json()["items"]) == 1


def test_a_key_is_forgotten_in_time(client_on_each: httpx.Client) -> None:
    client = client_on_each
    first = client.post("/v1/jobs", json=body_of(client), headers=keyed("k")).json()
    with db.write() as session:
        session.execute(update(IdempotencyKey).values(created_at=db.now(-100_000)))
    assert client.post("/v1/jobs", json=body_of(client, seed=1), headers=keyed("k")).json()["id"] != first["id"]


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "ä"])
def test_keys_that_are_none(shared: httpx.Client, key: str) -> None:
    response = shared.post("/v1/jobs", json={}, headers={"Idempotency-Key": key.encode()})
    assert problem(response) == (400, "malformed_request")
