"""Polling a model until it is inspected."""

from __future__ import annotations

import httpx

from tests.app.resources import inspected, new_model


def test_a_model_that_has_not_changed_answers_304(client: httpx.Client) -> None:
    model = new_model(client)
    url = f"/v1/models/{model['id']}"
    first = client.get(url)
    assert (first.status_code, first.json()) == (200, model)
    known = {"If-None-Match": first.headers["etag"]}
    again = client.get(url, headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    inspected(model["id"])
    changed = client.get(url, headers=known)
    assert (changed.status_code, changed.json()["state"]) == (200, "ready")
    assert changed.headers["etag"] != first.headers["etag"]
