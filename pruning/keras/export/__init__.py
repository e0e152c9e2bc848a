"""The delivered model in the formats that were asked for. One file per format; the table below is the registry.

To add a format: its name in `contract/spec.py`, its function in a file here, a line in `EXPORTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pruning.archive import Archive
from pruning.contract.errors import ExportFailed, SecateurError
from pruning.contract.spec import ExportName
from pruning.keras.export import hdf5, keras_file
from pruning.keras.export.check import Check

EXPORTS: Mapping[ExportName, Callable[[Archive, Path, Check], None]] = {
    "keras": keras_file.write,
    "h5": hdf5.write,
}


def write(name: ExportName, archive: Archive, folder: Path, check: Check, stem: str = "pruned") -> Path:
    """`<stem>.<name>` in `folder`, loaded again and checked. Raises `ExportFailed` or `VerificationFailed`."""
    path = folder / f"{stem}.{name}"
    try:
        EXPORTS[name](archive, path, check)
    except SecateurError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())[:300]
        raise ExportFailed(f"the pruned model cannot be written as {name}: {message}") from error
    return path


__all__ = ["EXPORTS", "Check", "write"]
