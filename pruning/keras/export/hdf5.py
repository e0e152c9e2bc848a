"""Keras' legacy HDF5, for tools that read nothing else. It holds no optimizer and no compile config."""

from __future__ import annotations

import logging
from pathlib import Path

from pruning.archive import Archive
from pruning.keras import live


def write(archive: Archive, path: Path) -> None:
    """The model, written by Keras."""
    model = live.build(archive.config, archive.arrays)
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.save(path, include_optimizer=False)
    finally:
        logger.setLevel(level)
