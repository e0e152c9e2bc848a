"""Content: whole, in parts, with its digest, to curl's liking."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import httpx
import pytest

from app.storage import get_storage
from tests.app.resources import done_job
from tests.app.serving import problem

CONTENT = bytes(range(256)) * 10_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


@pytest.fixture(scope="module")
def artifact(shared: httpx.Client) -> dict[str, Any]:
    job = done_job(shared, CONTENT)
    (made,) = shared.get(job["urls"]["artifacts"]).json()["items"]
    return dict(made)


def test_whole(shared: httpx.Client, artifact: dict[str, Any]) -> None:
    response = shared.get(artifact["url"])
    assert response.status_code == 200
    assert response.content == CONTENT
    headers = response.headers
    assert headers["etag"] == f'"{DIGEST}"'
    assert headers["x-checksum-sha256"] == DIGEST == artifact["sha256"]
    assert headers["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(DIGEST)).decode()}:"
    assert headers["accept-ranges"] == "bytes"
    assert int(headers["content-length"]) == SIZE == artifact["size_bytes"]
    assert headers["content-disposition"] == 'attachment; filename="pruned.keras"'
    assert headers["x-content-type-options"] == "nosniff"


def test_the_artifact_itself(shared: httpx.Client, artifact: dict[str, Any]) -> None:
    assert shared.get(f"/v1/artifacts/{artifact['id']}").json() == artifact
    assert artifact["url"] == f"/v1/artifacts/{artifact['id']}/content"


def test_head(shared: httpx.Client, artifact: dict[str, Any]) -> None:
    response = shared.head(artifact["url"])
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == SIZE
    for header in ("bytes=0-9", f"bytes={SIZE}-"):
        ignored = shared.head(artifact["url"], headers={"Range": header})
        assert (ignored.status_code, int(ignored.headers["content-length"])) == (200, SIZE)


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-19", slice(10, 20)),
        ("Bytes=10-19", slice(10, 20)),
        ("bytes=1500000-", slice(1_500_000, SIZE)),
        ("bytes=-5", slice(SIZE - 5, SIZE)),
        (f"bytes=5-{SIZE * 9}", slice(5, SIZE)),
        (f"bytes=-{SIZE * 9}", slice(0, SIZE)),
    ],
)
def test_part(shared: httpx.Client, artifact: dict[str, Any], header: str, part: slice) -> None:
    response = shared.get(artifact["url"], headers={"Range": header})
    assert response.status_code == 206
    assert response.content == CONTENT[part]
    assert response.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/{SIZE}"


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=20-10", "bytes=-0"])
def test_outside(shared: httpx.Client, artifact: dict[str, Any], header: str) -> None:
    response = shared.get(artifact["url"], headers={"Range": header})
    assert problem(response) == (416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize("header", ["bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "x"])
def test_what_is_no_single_range_is_answered_whole(shared: httpx.Client, artifact: dict[str, Any], header: str) -> None:
    response = shared.get(artifact["url"], headers={"Range": header})
    assert (response.status_code, response.content) == (200, CONTENT)


def test_conditions(shared: httpx.Client, artifact: dict[str, Any]) -> None:
    etag = f'"{DIGEST}"'
    known = shared.get(artifact["url"], headers={"If-None-Match": etag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    part = {"Range": "bytes=0-1"}
    assert shared.get(artifact["url"], headers={**part, "If-Range": etag}).status_code == 206
    assert shared.get(artifact["url"], headers={**part, "If-Range": '"other"'}).status_code == 200


def test_file_that_is_gone(client: httpx.Client) -> None:
    job = done_job(client, b"content")
    (artifact,) = client.get(job["urls"]["artifacts"]).json()["items"]
    get_storage().delete(artifact["sha256"])
    assert problem(client.get(artifact["url"])) == (404, "not_found")


@pytest.mark.parametrize("id", ["x", "art_" + "0" * 32, "%2e%2e%2f", "job_" + "0" * 32])
def test_unknown(shared: httpx.Client, id: str) -> None:
    assert problem(shared.get(f"/v1/artifacts/{id}")) == (404, "not_found")
    assert problem(shared.get(f"/v1/artifacts/{id}/content")) == (404, "not_found")
