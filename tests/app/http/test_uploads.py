"""Uploads of both kinds, on both databases where rows decide: digests, the same bytes again, limits, broken ends."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.settings import get_settings
from app.storage import get_storage
from tests.app.files import HDF5, keras, labelled, npz
from tests.app.serving import problem

MODEL = keras()
DIGEST = hashlib.sha256(MODEL).hexdigest()


def temporary() -> list[Path]:
    """What lies in the storage's folder for files that are being written."""
    return list((get_storage().root / "tmp").iterdir())


def test_form(client_on_each: httpx.Client) -> None:
    fields = {"name": "mine", "labels": json.dumps({"team": "vision"}), "sha256": DIGEST.upper()}
    response = client_on_each.post("/v1/models", files={"file": ("resnet.keras", MODEL)}, data=fields)
    assert response.status_code == 201, response.text
    model = response.json()
    assert response.headers["location"] == f"/v1/models/{model['id']}"
    assert model == client_on_each.get(response.headers["location"]).json()
    assert model["id"].startswith("mdl_")
    assert {key: model[key] for key in ("state", "format", "sha256", "size_bytes", "name", "labels", "filename")} == {
        "state": "inspecting",
        "format": "keras",
        "sha256": DIGEST,
        "size_bytes": len(MODEL),
        "name": "mine",
        "labels": {"team": "vision"},
        "filename": "resnet.keras",
    }
    assert model["problem"] is None
    assert model["inspection"] is None
    assert get_storage().path(DIGEST).read_bytes() == MODEL


def test_bare_bytes_by_post_and_put(client: httpx.Client) -> None:
    query = {"filename": "../x/net.h5", "name": "n", "sha256": hashlib.sha256(HDF5).hexdigest()}
    response = client.put("/v1/models", content=HDF5, params=query)
    assert response.status_code == 201
    assert {key: response.json()[key] for key in ("format", "name", "filename")} == {
        "format": "h5",
        "name": "n",
        "filename": "net.h5",
    }
    data = npz(**labelled())
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/v1/datasets", content=data, headers=headers).status_code == 201


def test_the_same_bytes_again(client_on_each: httpx.Client) -> None:
    first = client_on_each.post(
        "/v1/models", files={"file": ("a.keras", MODEL)}, data={"labels": '{"a": "1"}', "name": "first"}
    )
    again = client_on_each.post("/v1/models", files={"file": ("b.keras", MODEL)}, data={"labels": '{"b": "2"}'})
    bare = client_on_each.put("/v1/models", content=MODEL)
    assert (first.status_code, again.status_code, bare.status_code) == (201, 200, 200)
    assert first.json() == again.json() == bare.json()
    assert not temporary()
    assert len(client_on_each.get("/v1/models").json()["items"]) == 1


def test_other_architecture_is_another_model(client: httpx.Client) -> None:
    def upload(architecture: str | None) -> httpx.Response:
        files = {"file": ("w.weights.h5", HDF5)}
        return client.post("/v1/models", files=files, data={"architecture": architecture} if architecture else {})

    plain, one, two = upload(None), upload('{"class_name": "A"}'), upload('{"class_name": "B"}')
    assert len({response.json()["id"] for response in (plain, one, two)}) == 3
    assert upload('{"class_name": "A"}').json() == one.json()


def test_architecture_as_a_file(client: httpx.Client) -> None:
    files = {"architecture": ("net.json", b'{"class_name": "A"}'), "file": ("w.h5", HDF5)}
    assert client.post("/v1/models", files=files).status_code == 201
    for content, words in (
        (b"not json", "is not JSON"),
        (b"[]", "no"),
        (b'{"layers": []}', "send the JSON of model.to_json()"),
    ):
        files["architecture"] = ("net.json", content)
        response = client.post("/v1/models", files=files)
        assert problem(response) == (422, "unreadable_file")
        assert words in response.json()["detail"]
    assert not temporary()


def test_dataset(client_on_each: httpx.Client) -> None:
    content = npz(**labelled(20))
    response = client_on_each.post("/v1/datasets", files={"file": ("d.npz", content)}, data={"labels": '{"a": "b"}'})
    dataset = response.json()
    assert response.status_code == 201
    assert dataset["splits"] == {"train": 20, "validation": 10, "test": 10}
    assert dataset["arrays"][0] == {"name": "x_train", "shape": [20, 4], "dtype": "float32"}
    assert dataset["sha256"] == hashlib.sha256(content).hexdigest()
    assert client_on_each.get(f"/v1/datasets/{dataset['id']}").json() == dataset
    assert client_on_each.get("/v1/datasets", params={"label": "a:b"}).json()["items"] == [dataset]
    assert client_on_each.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert not get_storage().path(dataset["sha256"]).exists()


@pytest.mark.parametrize("order", [("sha256", "file"), ("file", "sha256")])
@pytest.mark.parametrize("content", [MODEL, b"no model at all"])
def test_a_wrong_digest_comes_before_anything_else(
    shared: httpx.Client, order: tuple[str, str], content: bytes
) -> None:
    parts = {"sha256": (None, "0" * 64), "file": ("a.keras", content)}
    response = shared.post("/v1/models", files=[(name, parts[name]) for name in order])
    assert problem(response) == (422, "digest_mismatch")
    assert hashlib.sha256(content).hexdigest() in response.json()["detail"]
    assert problem(shared.put("/v1/datasets", content=content, params={"sha256": "0" * 64})) == (422, "digest_mismatch")
    assert not temporary()


FORM = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n'
BAD_FORMS: dict[str, tuple[bytes, str, tuple[int, str]]] = {
    "no boundary": (FILE + b"--b--\r\n", "multipart/form-data", (400, "malformed_request")),
    "boundary too long": (FILE, f"multipart/form-data; boundary={'b' * 300}", (400, "malformed_request")),
    "no form": (b"hello", FORM, (400, "malformed_request")),
    "empty": (b"", FORM, (400, "malformed_request")),
    "no end": (FILE, FORM, (400, "malformed_request")),
    "cut in a header": (FILE[:20], FORM, (400, "malformed_request")),
    "two files": (FILE + FILE + b"--b--\r\n", FORM, (400, "malformed_request")),
    "no file": (
        b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nx\r\n--b--\r\n',
        FORM,
        (400, "malformed_request"),
    ),
    "unknown part": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="evil"\r\n\r\nx\r\n--b--\r\n',
        FORM,
        (400, "malformed_request"),
    ),
    "no name": (FILE + b"--b\r\nX-A: b\r\n\r\nx\r\n--b--\r\n", FORM, (400, "malformed_request")),
    "header without end": (b"--b\r\n" + b"a" * 100_000, FORM, (400, "malformed_request")),
    "labels no JSON": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\nx\r\n--b--\r\n',
        FORM,
        (400, "malformed_request"),
    ),
    "labels a list": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n[1]\r\n--b--\r\n',
        FORM,
        (422, "invalid_spec"),
    ),
    "labels nested": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n{"a": {}}\r\n--b--\r\n',
        FORM,
        (422, "invalid_spec"),
    ),
    "labels with NUL": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n{"a": "\\u0000"}\r\n--b--\r\n',
        FORM,
        (422, "invalid_spec"),
    ),
    "name no UTF-8": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n\xff\r\n--b--\r\n',
        FORM,
        (400, "malformed_request"),
    ),
    "name with NUL": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\na\x00b\r\n--b--\r\n',
        FORM,
        (422, "invalid_spec"),
    ),
    "name too long": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"a" * 300 + b"\r\n--b--\r\n",
        FORM,
        (422, "invalid_spec"),
    ),
    "part too large": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\n' + b"a" * 3000 + b"\r\n--b--\r\n",
        FORM,
        (413, "file_too_large"),
    ),
    "digest no digest": (
        FILE + b'--b\r\nContent-Disposition: form-data; name="sha256"\r\n\r\nabc\r\n--b--\r\n',
        FORM,
        (422, "digest_mismatch"),
    ),
    "text file": (FILE + b"--b--\r\n", FORM, (415, "unsupported_format")),
    "bytes of nothing": (b"", "application/octet-stream", (422, "unreadable_file")),
    "program": (b"MZ\x90" + bytes(50), "application/octet-stream", (415, "unsupported_format")),
    "too large": (bytes(5 * 2**20), "application/octet-stream", (413, "file_too_large")),
}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/datasets"])
@pytest.mark.parametrize("name", BAD_FORMS)
def test_refused(shared: httpx.Client, path: str, name: str) -> None:
    content, kind, expected = BAD_FORMS[name]
    assert problem(shared.post(path, content=content, headers={"Content-Type": kind})) == expected
    assert not temporary()


@pytest.mark.parametrize("path", ["/v1/models", "/v1/datasets", "/v1/jobs"])
def test_a_compressed_body_is_refused_as_such(shared: httpx.Client, path: str) -> None:
    kind = "application/json" if path == "/v1/jobs" else "application/octet-stream"
    headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
    response = shared.post(path, content=gzip.compress(b"{}"), headers=headers)
    assert problem(response) == (415, "unsupported_format")
    assert "encoded as 'gzip'" in response.json()["detail"]
    assert not temporary()


def test_many_parts(shared: httpx.Client) -> None:
    files = [("name", (None, "x"))] * 40
    assert problem(shared.post("/v1/models", files=files)) == (400, "malformed_request")


def test_a_file_of_unknown_length_is_cut_off(shared: httpx.Client) -> None:
    def endless() -> object:
        for _ in range(64):
            yield bytes(2**20)

    assert problem(shared.put("/v1/models", content=endless())) == (413, "file_too_large")
    assert not temporary()


def connected(client: httpx.Client) -> socket.socket:
    address = urlsplit(str(client.base_url))
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port or 80), timeout=10)


def test_the_announced_length_is_refused_before_the_first_byte(shared: httpx.Client) -> None:
    with connected(shared) as raw:
        raw.sendall(b"PUT /v1/models HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")
    assert get_settings().max_upload_bytes < 99999999


def test_a_client_that_leaves_leaves_no_file(shared: httpx.Client) -> None:
    with connected(shared) as raw:
        raw.sendall(b"PUT /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + MODEL + bytes(2_000_000))
        end = time.monotonic() + 10
        while not temporary() and time.monotonic() < end:
            time.sleep(0.01)
        assert temporary()
    end = time.monotonic() + 10
    while temporary() and time.monotonic() < end:
        time.sleep(0.01)
    assert not temporary()


def test_the_service_answers_others_during_an_upload(shared: httpx.Client) -> None:
    with connected(shared) as raw:
        raw.sendall(b"PUT /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + bytes(1000))
        assert shared.get("/v1/models").status_code == 200


def test_an_artifact_becomes_a_model(client: httpx.Client) -> None:
    from tests.app.resources import done_job

    pruned = keras(weights=HDF5 + b"pruned")
    job = done_job(client, pruned)
    (artifact,) = client.get(job["urls"]["artifacts"]).json()["items"]
    body = {"artifact_id": artifact["id"], "name": "again", "labels": {"a": "b"}}
    response = client.post("/v1/models", json=body)
    assert response.status_code == 201, response.text
    model = response.json()
    assert (model["sha256"], model["name"], model["labels"]) == (artifact["sha256"], "again", {"a": "b"})
    assert client.post("/v1/models", json=body).status_code == 200
    # Neither of the two takes the bytes from the other when it goes.
    assert client.delete(job["urls"]["self"]).status_code == 204
    assert get_storage().path(artifact["sha256"]).exists()
    assert client.delete(f"/v1/models/{model['id']}").status_code == 204
    assert not get_storage().path(artifact["sha256"]).exists()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"artifact_id": "art_" + "0" * 32}, (404, "not_found")),
        ({"artifact_id": "nonsense\u0000"}, (422, "invalid_spec")),
        ({"artifact_id": 3}, (422, "invalid_spec")),
        ({}, (422, "invalid_spec")),
        ([], (422, "invalid_spec")),
        ({"artifact_id": "art_1", "path": "/etc/passwd"}, (422, "invalid_spec")),
    ],
)
def test_no_artifact(shared: httpx.Client, body: object, expected: tuple[int, str]) -> None:
    assert problem(shared.post("/v1/models", json=body)) == expected
