"""The engine for a notebook: the same steps and the same `Result` as the service's, without a service."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pruning.contract.errors import InvalidSpec
from pruning.contract.errors_from_validation import from_validation
from pruning.contract.inspection import Inspection
from pruning.contract.progress import Line, Progress
from pruning.contract.request import InspectRequest, PruneRequest
from pruning.contract.result import Result
from pruning.contract.spec import Spec

PathLike: TypeAlias = str | Path
Data: TypeAlias = PathLike | Mapping[str, NDArray[Any]]


def inspect(path: PathLike, *, architecture: PathLike | Mapping[str, Any] | None = None) -> Inspection:
    """What a model file is made of: layers, groups of coupled units, barriers, costs.

    `architecture`: JSON (a path, its text or the object) where the file holds weights only. Raises `SecateurError`.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = InspectRequest(
            upload=str(path),
            format="h5" if Path(path).suffix in (".h5", ".hdf5") else "keras",
            architecture=_text(architecture),
            out=folder,
        )
        inspection: Inspection = _pipeline().inspect(request, _listener(None))
        return inspection


def prune(
    path: PathLike,
    spec: Spec | Mapping[str, Any],
    data: Data | None = None,
    *,
    out: PathLike | None = None,
    progress: Callable[[Progress], None] | None = None,
    architecture: PathLike | Mapping[str, Any] | None = None,
) -> Result:
    """Prune a model file by a spec (API.md) on data (a `.npz` path or a dictionary of its arrays).

    The files go into the folder `out`, made if it is not there; without it only the figures come back. `progress` is
    called with every step. Raises `SecateurError`, of the class that the error's code names.
    """
    checked = _checked(spec)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(out) if out is not None else Path(scratch, "out")
        folder.mkdir(parents=True, exist_ok=True)
        normalized = Path(scratch, "normalized.keras")
        pipeline = _pipeline()
        pipeline.normalize(pipeline.loading.load(Path(path), _text(architecture)), normalized)
        request = PruneRequest(
            model=str(normalized),
            data=_saved(data, Path(scratch)),
            out=str(folder),
            spec=checked,
            upload_bytes=Path(path).stat().st_size,
        )
        result: Result = pipeline.prune(request, _listener(progress))
        return result


def _checked(spec: Spec | Mapping[str, Any]) -> Spec:
    if isinstance(spec, Spec):
        return spec
    try:
        return Spec.model_validate(dict(spec))
    except ValidationError as error:
        raise from_validation(error) from error


def _text(architecture: PathLike | Mapping[str, Any] | None) -> str | None:
    if architecture is None or (isinstance(architecture, str) and architecture.lstrip().startswith("{")):
        return architecture if isinstance(architecture, str) else None
    if isinstance(architecture, Mapping):
        return json.dumps(architecture)
    try:
        return json.dumps(json.loads(Path(architecture).read_bytes()))  # UTF-16 and byte order marks are JSON too
    except (OSError, ValueError) as error:
        raise InvalidSpec(f"the architecture is no JSON and no file that can be read: {error}") from error


def _saved(data: Data | None, scratch: Path) -> str | None:
    if data is None or isinstance(data, str | Path):
        return None if data is None else str(data)
    path = scratch / "data.npz"
    np.savez(path, allow_pickle=False, **{name: np.asarray(array) for name, array in data.items()})
    return str(path)


def _listener(progress: Callable[[Progress], None] | None) -> Callable[[Line], None]:
    def listen(line: Line) -> None:
        if progress is not None and isinstance(line, Progress):
            progress(line)

    return listen


def _pipeline() -> Any:
    """Loaded on first use: importing TensorFlow takes seconds."""
    from pruning.keras import pipeline

    return pipeline
