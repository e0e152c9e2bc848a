"""The API against its own OpenAPI document: schemathesis makes the requests and judges the answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.app.files import labelled
from tests.app.resources import done_job, new_dataset, ready_model
from tests.app.serving import client_of, serving
from tests.services import configured

# What no schema can say: that bytes are a model, that parts of a spec agree with each other and with a model.
UNSAID = """
[[operations]]
include-name-regex = "^(POST|PUT) "
checks.positive_data_acceptance.enabled = false
"""
KNOWN = """
[[operations]]
include-path-regex = "{path}"
parameters = {{ "{parameter}" = "{value}" }}
"""


def known(client: httpx.Client) -> dict[tuple[str, str], str]:
    """Ids and cursors that are there, by path and parameter."""
    data = [new_dataset(client)["id"], new_dataset(client, x=labelled()["x_train"])["id"]]
    ready_model(client, "b")
    job, second = (done_job(client, b"content", dataset_id=id) for id in data)
    (artifact,) = client.get(job["urls"]["artifacts"]).json()["items"]
    lists = ("/v1/models", "/v1/datasets", "/v1/jobs", job["urls"]["events"])
    cursors = [client.get(path, params={"limit": 1}).json()["next_cursor"] for path in lists]
    assert all(cursors)
    return {
        ("^/v1/models$", "query.cursor"): cursors[0],
        ("^/v1/datasets$", "query.cursor"): cursors[1],
        ("^/v1/jobs$", "query.cursor"): cursors[2],
        ("^/v1/jobs/.*/events$", "query.cursor"): cursors[3],
        ("^/v1/models/", "path.id"): job["model_id"],
        ("^/v1/datasets/", "path.id"): data[0],
        ("^/v1/jobs/", "path.id"): second["id"],
        ("^/v1/artifacts/", "path.id"): artifact["id"],
    }


@pytest.fixture
def impatient(database: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client of an API that lets nobody wait."""
    url = database.database_url.get_secret_value()
    settings = {"DATA_DIR": str(database.data_dir), "DATABASE_URL": url, "MAX_WAIT_SECONDS": "0.1"}
    with configured(monkeypatch, **settings), serving() as address, client_of(address) as made:
        yield made


@pytest.mark.slow
def test_every_operation_is_as_documented(impatient: httpx.Client, tmp_path: Path) -> None:
    parts = [
        KNOWN.format(path=path, parameter=parameter, value=value)
        for (path, parameter), value in known(impatient).items()
    ]
    folder = tmp_path / "schemathesis"
    folder.mkdir()
    (folder / "schemathesis.toml").write_text(UNSAID + "".join(parts))
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{impatient.base_url}/openapi.json"]
    options = ["--max-examples", "20", "--suppress-health-check", "all", "--no-color", "--request-timeout", "30"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
