"""A normal Keras 3 `.keras` file; equal archives give equal bytes, of the size that a dry run predicts."""

from __future__ import annotations

from pathlib import Path

from pruning import archive as archives
from pruning.archive import Archive


def write(archive: Archive, path: Path) -> None:
    """The archive as it is."""
    archives.write(path, archive)
