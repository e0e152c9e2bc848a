"""The delivered model in the formats that were asked for. One file per format; the table below is the registry.

To add a format: its name in `contract/spec.py`, its function in a file here, a line in `EXPORTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from pruning.archive import Archive
from pruning.contract.errors import ExportFailed, SecateurError, UnreadableFile
from pruning.contract.spec import ExportName
from pruning.keras import live
from pruning.keras.export import hdf5, keras_file
from pruning.keras.load import load_delivered

EXPORTS: Mapping[ExportName, Callable[[Archive, Path], None]] = {
    "keras": keras_file.write,
    "h5": hdf5.write,
}
# It names classes without their modules: Keras takes the addition of `keras.ops` for the layer `Add`.
_LACKS: Mapping[ExportName, str] = {"h5": ", which does not hold operations of keras.ops (keras does)"}


def write(name: ExportName, archive: Archive, folder: Path, stem: str = "pruned") -> tuple[Path, keras.Model]:
    """`<stem>.<name>` in `folder`, and the model that plain Keras loads from it. Raises `ExportFailed`."""
    path = folder / f"{stem}.{name}"
    try:
        EXPORTS[name](archive, path)
        return path, load_delivered(path)
    except UnreadableFile as error:
        said = live.said(error.__cause__ or error)
        raise ExportFailed(f"the pruned model cannot be loaded from {name}{_LACKS.get(name, '')}: {said}") from error
    except SecateurError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())[:300]
        raise ExportFailed(f"the pruned model cannot be written as {name}: {message}") from error


__all__ = ["EXPORTS", "write"]
