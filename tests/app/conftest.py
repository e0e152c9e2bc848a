"""An API on a database of its own: one for a test, or one that the tests of a module share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.app.serving import client_of, serving
from tests.services import configured


@pytest.fixture
def client(embedded: Settings) -> Iterator[httpx.Client]:
    """A client of an API on SQLite."""
    with serving() as address, client_of(address) as made:
        yield made


@pytest.fixture
def client_on_each(database: Settings) -> Iterator[httpx.Client]:
    """A client of an API on SQLite, then on PostgreSQL."""
    with serving() as address, client_of(address) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[httpx.Client]:
    """A client of an API on SQLite for all tests of a module; uploads hold at most 4 MiB."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copyfile(migrated_sqlite, folder / "secateur.db")
    limits = {"MAX_UPLOAD_BYTES": str(4 * 2**20), "MAX_BODY_BYTES": str(2**20), "MAX_WAIT_SECONDS": "2"}
    with (
        pytest.MonkeyPatch.context() as patch,
        configured(patch, DATA_DIR=str(folder), **limits),
        serving() as address,
        client_of(address) as made,
    ):
        yield made
