"""Events: pages oldest first, and the live stream, from any point, to the end."""

from __future__ import annotations

import json
import threading
from typing import Any

import httpx
import pytest

from tests.app.resources import claimed, done_job, finished, new_job, progressed, ready_model
from tests.app.serving import problem

SSE = {"Accept": "text/event-stream"}


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream; the id and the name of each are those of its data."""
    found = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            event = json.loads(fields["data"])
            assert (fields["id"], fields["event"]) == (event["id"], event["type"])
            found.append(event)
    return found


def test_pages(client_on_each: httpx.Client) -> None:
    client = client_on_each
    job = new_job(client, model_id=ready_model(client))
    token = claimed(job["id"])
    for step in range(5):
        progressed(job["id"], token, "score", step)
    finished(job["id"], token)
    url = job["urls"]["events"]
    everything = client.get(url).json()
    assert everything["next_cursor"] is None
    assert [(event["type"], event["state"]) for event in everything["items"]] == [
        ("state", "queued"),
        ("state", "running"),
        *[("progress", "running")] * 5,
        ("state", "succeeded"),
    ]
    assert everything["items"][2].keys() == {"id", "at", "type", "state", "phase", "progress", "detail"}
    assert [event["progress"]["completed"] for event in everything["items"][2:7]] == [0, 1, 2, 3, 4]
    paged, cursor = [], None
    while True:
        page = client.get(url, params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        paged += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert paged == everything["items"]
    stream = client.get(url, headers=SSE)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert events_of(stream.text) == everything["items"]
    third = everything["items"][2]["id"]
    assert events_of(client.get(url, headers={**SSE, "Last-Event-ID": third}).text) == everything["items"][3:]


def test_live(client_on_each: httpx.Client) -> None:
    client = client_on_each
    job = new_job(client, model_id=ready_model(client))
    seen = threading.Event()

    def work() -> None:
        token = claimed(job["id"])
        assert seen.wait(10)
        progressed(job["id"], token, "score", 1)
        finished(job["id"], token)

    worker = threading.Thread(target=work)
    text = ""
    with client.stream("GET", job["urls"]["events"], headers=SSE) as stream:
        worker.start()
        for chunk in stream.iter_text():
            text += chunk
            if '"running"' in text:
                seen.set()
    worker.join()
    assert [event["state"] for event in events_of(text)] == ["queued", "running", "running", "succeeded"]


def test_a_deleted_job_ends_its_stream(client: httpx.Client) -> None:
    job = done_job(client)
    assert client.delete(job["urls"]["self"]).status_code == 204
    assert problem(client.get(job["urls"]["events"], headers=SSE)) == (404, "not_found")


@pytest.mark.parametrize("value", ["x", "evt_x", "evt_-1", "evt_1" + "0" * 30, "evt_²"])
def test_no_such_place(client: httpx.Client, value: str) -> None:
    job = new_job(client, model_id=ready_model(client))
    response = client.get(job["urls"]["events"], headers={**SSE, "Last-Event-ID": value.encode()})
    assert problem(response) == (400, "malformed_request")
    assert problem(client.get(job["urls"]["events"], params={"cursor": value})) == (400, "malformed_request")
