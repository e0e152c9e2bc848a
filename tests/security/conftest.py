"""The API's fixtures."""

from __future__ import annotations

from tests.app.conftest import client

__all__ = ["client"]
