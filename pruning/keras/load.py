"""An upload of any age as a live Keras 3 model."""

from __future__ import annotations

import json
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import keras
import numpy as np

from pruning.contract.errors import SecateurError, UnreadableFile, UnsafeFile, UnsupportedFormat
from pruning.contract.result import Warning
from pruning.keras import guard, hub, private
from pruning.keras.legacy import modernize, modernize_training

Model: TypeAlias = keras.Model


def load(path: Path, architecture: str | None = None) -> Model:
    """The model in a `.keras` or HDF5 file, compiled where the file says how and Keras 3 still knows it.

    `architecture`: the JSON of `model.to_json()` (Keras 2 or 3) where the file holds weights only.
    Raises `UnreadableFile`, `UnsafeFile` or `UnsupportedFormat` with a sentence; nothing of Keras' own errors leaves.
    """
    with _told_plainly():
        if zipfile.is_zipfile(path):
            model = _load_keras(path)
        elif h5py.is_hdf5(path):
            model = _load_hdf5(path, architecture)
        else:
            raise UnreadableFile(_what_it_is(path))
        check_weights(model)
    return model


def left_out(path: Path) -> list[Warning]:
    """`preprocessor_left_out` for every preprocessor in a file that `load` took, which the model goes on without."""
    return [
        Warning(
            code="preprocessor_left_out",
            detail=f"{name} is left out: the model takes what it gives, see `inputs`. Run it on the data before",
        )
        for name in (hub.preprocessors(_config(path)) if zipfile.is_zipfile(path) else ())
    ]


def load_delivered(path: Path) -> Model:
    """A `.keras` file that this package wrote, without compiling it."""
    with _told_plainly(), _quietly():
        model: Model = keras.saving.load_model(path, compile=False, safe_mode=True)
    return private.with_plain_scopes(model)


def check_weights(model: Model) -> None:
    """Raises `UnreadableFile`, naming the array, for weights that are NaN or infinite."""
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        if not np.isfinite(np.asarray(values, np.float32)).all():
            bad = int(np.size(values) - np.isfinite(np.asarray(values, np.float32)).sum())
            raise UnreadableFile(f"weights {variable.path!r} hold {bad} values that are NaN or infinite")


def _load_keras(path: Path) -> Model:
    config = _config(path)
    bare = hub.without_preprocessors(config)
    guard.check(bare)
    hub.require(bare)
    with _quietly():
        model = _load_weights_into(bare, path) if bare != config else _load_whole(path)
    if config.get("compile_config"):
        _try_to_compile(model, lambda: model.compile_from_config(config["compile_config"]))
    return model


def _config(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as bundle:
        names = bundle.namelist()
        if "config.json" not in names:
            raise UnsupportedFormat(f"a zip file without config.json is no .keras file (it holds {names[:5]})")
        return _parse(bundle.read("config.json"), "config.json")


def _load_whole(path: Path) -> Model:
    with _named(path, "model.keras") as link:
        model: Model = keras.saving.load_model(link, compile=False, safe_mode=True)
    return model


def _load_weights_into(config: dict[str, Any], path: Path) -> Model:
    """The model of a config that is not the file's own, with the file's weights."""
    with private.sharing():
        model: Model = keras.saving.deserialize_keras_object(
            {key: value for key, value in config.items() if key != "compile_config"}, safe_mode=True
        )
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as bundle:
        model.load_weights(bundle.extract("model.weights.h5", folder))
    return model


def _load_hdf5(path: Path, architecture: str | None) -> Model:
    with h5py.File(path) as file:
        text, training = (file.attrs.get(name) for name in ("model_config", "training_config"))
        grouped = "layer_names" in file.attrs or "model_weights" in file
    if text is None and architecture is None:
        raise UnreadableFile(
            "the file holds weights only, without the model's architecture: "
            "send the JSON of model.to_json() as `architecture` beside it"
        )
    config = _parse(text if text is not None else architecture or "", "the architecture")
    guard.check(config)
    config = modernize(config)
    guard.check(config)
    hub.require(config)
    with _quietly():
        model: Model = keras.models.model_from_json(json.dumps(config))
        if not model.built:
            raise UnreadableFile("the architecture says no input shape: give the first layer one and save again")
        with _named(path, "model.h5" if grouped else "model.weights.h5") as link:
            model.load_weights(link)
    if training is not None:
        arguments = _parse(training, "training_config")
        guard.check(arguments)
        _try_to_compile(model, lambda: model.compile(**_built(modernize_training(arguments))))
    return model


def _built(training: dict[str, Any]) -> dict[str, Any]:
    losses = training["loss"]
    built = {"optimizer": keras.optimizers.deserialize(training["optimizer"])}
    return {**training, **built, "loss": _build(losses, keras.losses.deserialize)} | {
        key: _build(training[key], keras.metrics.deserialize)
        for key in ("metrics", "weighted_metrics")
        if key in training
    }


def _build(value: Any, deserialize: Any) -> Any:
    if isinstance(value, list):
        return [_build(item, deserialize) for item in value]
    if isinstance(value, dict):
        if "class_name" in value:
            return deserialize(value)
        return {key: _build(item, deserialize) for key, item in value.items()}
    return value


def _try_to_compile(model: Model, compile_model: Any) -> None:
    """How a model was trained is no reason to refuse it: what Keras cannot compile stays uncompiled."""
    try:
        with _quietly():
            compile_model()
    except Exception:
        model.compiled = False


def _parse(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{what} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnreadableFile(f"{what} is no JSON object")
    return value


def _what_it_is(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        return "the file is empty"
    if start[:2] == b"PK":
        return "the file begins like a .keras file but is cut off or damaged: upload it again"
    if start[:4] == b"\x89HDF":
        return "the file begins like an HDF5 file but is cut off or damaged: upload it again"
    kind = "an executable" if start[:2] == b"MZ" or start[:4] == b"\x7fELF" else "neither a .keras nor an HDF5 file"
    return f"the file is {kind}: upload what model.save('model.keras') or model.save('model.h5') wrote"


@contextmanager
def _named(path: Path, name: str) -> Iterator[Path]:
    """The file under a name that ends as Keras wants it."""
    if path.name.endswith(name[name.index(".") :]):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder, name)
        link.symlink_to(path.resolve())
        yield link


@contextmanager
def _quietly() -> Iterator[None]:
    """Keras warns about old keywords and optimizer state; neither is the user's concern here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        yield
    except (SecateurError, MemoryError):
        raise
    except Exception as error:
        raise _plain(error) from error


def _plain(error: Exception) -> SecateurError:
    message = " ".join(str(error).split())
    if found := re.search(r"(?:Could not locate class|Unknown layer:|Could not deserialize) '([^']+)'", message):
        return UnreadableFile(
            f"the model holds a {found[1]!r}, which Keras {keras.__version__} does not have: "
            "only classes of Keras can be loaded. Rebuild that part from Keras layers"
        )
    if "safe_mode" in message or "unsafe" in message:
        return UnsafeFile(f"Keras refuses to load the model in safe mode: {message[:200]}")
    return UnreadableFile(f"Keras {keras.__version__} cannot load the model: {message[:300]}")
