"""Fixtures for everyone: settings on a database of one's own, and the real servers behind them."""

from __future__ import annotations

from tests.services import (
    database,
    embedded,
    migrated_postgres,
    migrated_sqlite,
    on_postgres,
    postgres_server,
    valkey_server,
)

__all__ = [
    "database",
    "embedded",
    "migrated_postgres",
    "migrated_sqlite",
    "on_postgres",
    "postgres_server",
    "valkey_server",
]
