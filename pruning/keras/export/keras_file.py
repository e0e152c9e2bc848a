"""A normal Keras 3 `.keras` file; equal models give equal bytes."""

from __future__ import annotations

from pathlib import Path

from pruning import archive as archives
from pruning.archive import Archive
from pruning.keras.export.check import Check
from pruning.keras.load import load_delivered


def write(archive: Archive, path: Path, check: Check) -> None:
    """Write, load again in plain Keras, check."""
    archives.write(path, archive)
    check(load_delivered(path))
