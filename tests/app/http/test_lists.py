"""Lists: newest first, whole and without doubles over all pages, filtered; parameters that are none are refused."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from tests.app.resources import TARGET, claimed, new_model, ready_model
from tests.app.serving import problem


@pytest.fixture(scope="module")
def jobs(shared: httpx.Client) -> list[dict[str, Any]]:
    """Seven jobs, newest first; every second of team b, the third one running."""
    model = ready_model(shared)
    made = []
    for index in range(7):
        labels = {"team": "ab"[index % 2], "n": str(index)}
        body = {"model_id": model, "pruning": {"target": TARGET}, "labels": labels}
        made.append(shared.post("/v1/jobs", json=body).json())
    claimed(made[2]["id"])
    return [shared.get(job["urls"]["self"]).json() for job in reversed(made)]


def test_newest_first(shared: httpx.Client, jobs: list[dict[str, Any]]) -> None:
    assert shared.get("/v1/jobs").json() == {"items": jobs, "next_cursor": None}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 200])
def test_pages(shared: httpx.Client, jobs: list[dict[str, Any]], limit: int) -> None:
    found, cursor = [], None
    while True:
        page = shared.get("/v1/jobs", params={"limit": limit, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= limit
        found += page["items"]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == jobs


def test_filters(shared: httpx.Client, jobs: list[dict[str, Any]]) -> None:
    def listed(**query: Any) -> list[str]:
        return [job["labels"]["n"] for job in shared.get("/v1/jobs", params=query).json()["items"]]

    assert listed(label="team:b") == ["5", "3", "1"]
    assert listed(label=["team:b", "n:3"]) == ["3"]
    assert listed(label=["team:b", "n:2"]) == []
    assert listed(label="team:") == []
    assert listed(state="running") == ["2"]
    assert listed(state="queued", label="team:a") == ["6", "4", "0"]
    assert listed(created_after=jobs[0]["created_at"]) == []
    assert len(listed(created_after="2020-01-01T00:00:00Z")) == 7
    assert len(listed(created_after="2020-01-01T00:00:00+05:30")) == 7
    assert listed(created_after="9999-12-31T23:59:59Z") == []
    assert len(listed(created_after="0001-01-01T00:00:00Z")) == 7


def test_models_and_their_states(client: httpx.Client) -> None:
    new_model(client, "a", labels='{"k": "v:w"}')
    ready_model(client, "b")
    assert [model["state"] for model in client.get("/v1/models").json()["items"]] == ["ready", "inspecting"]
    assert len(client.get("/v1/models", params={"state": "ready"}).json()["items"]) == 1
    assert len(client.get("/v1/models", params={"label": "k:v:w"}).json()["items"]) == 1
    assert client.get("/v1/models", params={"state": "ready", "limit": 1}).json()["next_cursor"] is None


def sealed(content: str) -> str:
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


BAD: list[dict[str, Any]] = [
    {"limit": "0"},
    {"limit": "201"},
    {"limit": "-1"},
    {"limit": "many"},
    {"limit": "1.5"},
    {"limit": ""},
    {"cursor": "nonsense"},
    {"cursor": "%00"},
    {"cursor": "é"},
    {"cursor": sealed("[1]")},
    {"cursor": sealed('[2, "job_1"]')},
    {"cursor": sealed('[1, "job_\\u0000"]')},
    {"cursor": sealed('[1, "\' OR 1=1"]')},
    {"cursor": sealed('[1, "dst_01"]')},
    {"cursor": "a" * 1000},
    {"state": "asleep"},
    {"state": ""},
    {"label": "team"},
    {"label": ":a"},
    {"label": "a\x00:b"},
    {"label": ["a:b"] * 20},
    {"created_after": "yesterday"},
    {"created_after": "2026-01-01"},
    {"created_after": "2026-01-01T00:00:00"},
    {"created_after": "1700000000"},
    {"created_after": "-1.5"},
]


@pytest.mark.parametrize("query", BAD)
def test_refused(shared: httpx.Client, query: dict[str, Any]) -> None:
    assert problem(shared.get("/v1/jobs", params=query)) == (400, "malformed_request")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/datasets"])
def test_the_others_refuse_alike(shared: httpx.Client, path: str) -> None:
    for query in ({"limit": "0"}, {"cursor": "x"}, {"label": "x"}, {"created_after": "x"}):
        assert problem(shared.get(path, params=query)) == (400, "malformed_request")


@pytest.mark.parametrize("wait", ["-1", "x", "nan", "inf"])
def test_waits_that_are_none(shared: httpx.Client, wait: str) -> None:
    response = shared.get(f"/v1/jobs/job_{'0' * 32}", params={"wait": wait})
    assert problem(response) == (400, "malformed_request")
