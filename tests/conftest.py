"""Fixtures for everyone: settings on a database of one's own, and the real servers behind them."""

from __future__ import annotations

from hypothesis import settings

from tests.services import (
    database,
    embedded,
    migrated_postgres,
    migrated_sqlite,
    on_postgres,
    postgres_server,
    valkey_server,
)

# On busy cores an example may take its time: no test asserts how fast something is.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

__all__ = [
    "database",
    "embedded",
    "migrated_postgres",
    "migrated_sqlite",
    "on_postgres",
    "postgres_server",
    "valkey_server",
]
