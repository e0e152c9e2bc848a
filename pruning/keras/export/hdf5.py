"""Keras' legacy HDF5, for tools that read nothing else. It holds no optimizer and no compile config."""

from __future__ import annotations

import logging
from pathlib import Path

from pruning.archive import Archive
from pruning.keras import live
from pruning.keras.export.check import Check
from pruning.keras.load import load_delivered


def write(archive: Archive, path: Path, check: Check) -> None:
    """Write, load again in plain Keras, check."""
    model = live.build(archive.config, archive.arrays)
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        model.save(path, include_optimizer=False)
    finally:
        logger.setLevel(level)
    check(load_delivered(path))
