"""Hostile and broken uploads through the whole API: each is refused by its code, and leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.storage import get_storage
from pruning.contract.errors import SecateurError, UnsafeFile
from tests.app import test_zips
from tests.app.datasets import test_validation as datasets
from tests.app.files import keras, labelled, npz
from tests.app.models import test_validation as models
from tests.app.serving import problem

# Without a zip's signature in front a file is no archive at all.
ZIPS = {name: content for name, content in test_zips.UNSAFE.items() if name != "something before"}
NAMED: dict[str, tuple[str, bytes, type[SecateurError]]] = {
    **{f"model: {name}": ("/v1/models", keras(config), UnsafeFile) for name, config in models.UNSAFE.items()},
    **{f"model: {name}": ("/v1/models", *refused) for name, refused in models.REFUSED.items()},
    **{f"data: {name}": ("/v1/datasets", *refused) for name, refused in datasets.REFUSED.items()},
    **{f"zip: {name}": ("/v1/datasets", content, UnsafeFile) for name, content in ZIPS.items()},
}
MUTATIONS = 2000


def left() -> list[Path]:
    """Every file that the storage holds."""
    return [path for path in get_storage().root.rglob("*") if path.is_file()]


def test_there_are_many() -> None:
    assert len(NAMED) >= 100


def test_each_is_refused_by_its_code_and_leaves_nothing(client: httpx.Client) -> None:
    for name, (path, content, kind) in NAMED.items():
        response = client.put(path, content=content)
        assert problem(response) == (kind.status, kind.code), name
        assert "root:" not in response.text
    assert left() == []
    assert [client.get(path).json()["items"] for path in ("/v1/models", "/v1/datasets")] == [[], []]


def mutated(seed: int, content: bytes) -> bytes:
    """The content with some bytes changed, cut out, doubled or cut off."""
    rng = random.Random(seed)
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice([0, 255])
            case 2:
                del changed[at : at + rng.randrange(1, 64)]
            case 3:
                changed[at:at] = changed[at : at + rng.randrange(1, 64)]
            case _:
                del changed[at:]
        changed = changed or bytearray(b"P")
    return bytes(changed)


def mutations() -> Iterator[tuple[str, bytes]]:
    seeds: list[tuple[str, Any]] = [
        ("/v1/models", keras()),
        ("/v1/datasets", npz(**labelled(6))),
        ("/v1/datasets", npz(compressed=True, **labelled(6))),
    ]
    for seed in range(MUTATIONS):
        path, content = seeds[seed % len(seeds)]
        yield path, mutated(seed, content)


def test_no_mutation_is_more_than_refused(client: httpx.Client) -> None:
    kept = set()
    for path, content in mutations():
        response = client.put(path, content=content)
        if response.status_code in (200, 201):
            kept.add(response.json()["sha256"])
        else:
            assert problem(response)[0] in (415, 422), content
    assert len(left()) == len(kept)
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/datasets"])
def test_no_name_leads_out_of_the_storage(client: httpx.Client, path: str) -> None:
    content = keras() if path == "/v1/models" else npz(**labelled())
    name = "../../../../tmp/evil\r\nX-Evil: 1\x00.keras"
    response = client.put(path, content=content, params={"filename": name})
    assert response.status_code == 201
    assert response.json()["filename"] == "evilX-Evil: 1.keras"
    assert "x-evil" not in response.headers
    assert [file.name for file in left()] == [response.json()["sha256"][2:]]
