"""What of an uploaded model is checked before it is stored, without TensorFlow; nothing is unpacked or executed.

Of HDF5 only the signature is looked at: libhdf5 has memory holes of its own, so it is opened in the engine's process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from app import zips
from app.models import allowlist
from pruning.contract import hub
from pruning.contract.errors import UnreadableFile, UnsafeFile, UnsupportedFormat

Format = Literal["keras", "h5"]
MAX_CONFIG_BYTES = 16 * 2**20
MAX_METADATA_BYTES = 2**16
MAX_NODES = 500_000
MAX_DEPTH = 200
_HDF5 = b"\x89HDF\r\n\x1a\n"
_SIGNATURES: dict[bytes, Format] = {zips.SIGNATURE: "keras", _HDF5: "h5"}
_NEEDED = ("config.json", "metadata.json", "model.weights.h5")
_MAX_LAYER_NAME = 512


def check(path: Path) -> Format:
    """The format of the upload at `path`.

    Raises `UnsupportedFormat`, `UnreadableFile` for what is broken and `UnsafeFile` for what could run code or reach
    outside the file.
    """
    found = sniff(path)
    if found == "keras":
        _check_keras(path)
    return found


def sniff(path: Path) -> Format:
    """The format by the file's first bytes. Raises `UnsupportedFormat`; `UnreadableFile` if cut short within them."""
    with path.open("rb") as file:
        head = file.read(len(_HDF5))
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name
        if signature.startswith(head):
            raise UnreadableFile("the file is empty" if not head else f"the file ends after {len(head)} bytes")
    raise UnsupportedFormat(
        "the file is no .keras archive and no HDF5 file: save the model with model.save('model.keras')"
    )


def check_config(data: bytes) -> None:
    """Refuses a config (JSON) that names anything but Keras' own and what is listed of keras-hub, or is too large.

    Raises `UnreadableFile` for what is no JSON object, `UnsafeFile` for the rest, naming the place.
    """
    for entry in _entries(parse(data, "config.json")):
        _check_entry(entry)


def check_architecture(data: bytes) -> None:
    """Refuses what is no JSON of `model.to_json()`. Raises `UnreadableFile`, `UnsafeFile` where it is too large."""
    if not isinstance(parse(data, "architecture").get("class_name"), str):
        raise UnreadableFile("architecture has no class_name: send the JSON of model.to_json(), not of get_config()")


def parse(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object of limited size and depth. Raises `UnreadableFile`, `UnsafeFile`."""
    # Counted before it is parsed: 16 MiB of brackets would become a GiB of lists.
    if len(data) > MAX_CONFIG_BYTES or sum(data.count(sign) for sign in (b",", b"[", b"{")) > MAX_NODES:
        raise UnsafeFile(f"{what} is too large: at most {MAX_CONFIG_BYTES} bytes and {MAX_NODES} values are read")
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise UnsafeFile(f"{what} is nested too deeply") from error
    except ValueError as error:
        raise UnreadableFile(f"{what} is not JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict):
        raise UnreadableFile(f"{what} is not a JSON object")
    return value


def _check_keras(path: Path) -> None:
    with zips.opened(path) as archive:
        _check_members(set(archive.members))
        for name, limit in (("config.json", MAX_CONFIG_BYTES), ("metadata.json", MAX_METADATA_BYTES)):
            if archive.members[name].file_size > limit:
                raise UnsafeFile(f"{name} has {archive.members[name].file_size} bytes: at most {limit} are read")
        check_config(archive.head("config.json", MAX_CONFIG_BYTES))
        parse(archive.head("metadata.json", MAX_METADATA_BYTES), "metadata.json")
        if archive.head("model.weights.h5", len(_HDF5)) != _HDF5:
            raise UnreadableFile("model.weights.h5 is not an HDF5 file")
        archive.check_bytes()


def _check_members(names: set[str]) -> None:
    if missing := [name for name in _NEEDED if name not in names]:
        if any(name.rpartition("/")[2] == "saved_model.pb" for name in names):
            hint = "it is a SavedModel, which is a program: load it where you trust it and save it as .keras"
        elif names and all(name.endswith(".npy") for name in names):
            hint = "it holds arrays: send it to /v1/datasets"
        else:
            hint = "save the model with model.save('model.keras')"
        raise UnsupportedFormat(f"the zip archive is no .keras file, {', '.join(missing)} is missing: {hint}")


def _entries(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every object of the config, outermost first. Raises `UnsafeFile` beyond MAX_DEPTH."""
    level: list[Any] = [config]
    for _ in range(MAX_DEPTH):
        yield from (value for value in level if isinstance(value, dict))
        level = [child for value in level for child in _children(value)]
        if not level:
            return
    raise UnsafeFile(f"config.json is nested more than {MAX_DEPTH} deep")


def _children(value: dict[str, Any] | list[Any]) -> Iterator[Any]:
    """What is read of a value: not the preprocessor of a keras-hub task, which the engine leaves out before Keras."""
    if isinstance(value, dict) and hub.is_task(value):
        value = {key: child for key, child in value.items() if key != "preprocessor"}
    values = value.values() if isinstance(value, dict) else value
    return (child for child in values if isinstance(child, dict | list))


def _check_entry(entry: dict[str, Any]) -> None:
    if isinstance(entry.get("vocabulary"), str):
        raise UnsafeFile("a vocabulary is given as the path of a file: give its words as a list")
    if "class_name" not in entry:
        return
    class_name, module, inner = entry["class_name"], entry.get("module"), entry.get("config")
    if not isinstance(class_name, str) or not isinstance(module, str | None):
        raise UnsafeFile(f"a class is named by {class_name!r} of {module!r}"[:200] + ": names are texts")
    where = f"{class_name[:80]!r} of module {str(module)[:80]!r}"
    if class_name in allowlist.CODE or (isinstance(inner, str) and inner in allowlist.CODE):
        raise UnsafeFile(f"the model holds {where}, which can run code: replace it by layers of Keras")
    if class_name == "function":
        _check_function(entry, module, inner)
    elif class_name not in allowlist.VALUES:
        if (module, class_name) not in allowlist.CLASSES | hub.CLASSES:
            raise UnsafeFile(f"the model names {where}: only classes of Keras are loaded, rebuild that part from them")
        names = hub.names_of(class_name) if hub.is_hub(module) else (None, "", class_name)
        if entry.get("registered_name") not in names:
            raise UnsafeFile(f"{where} is registered as {str(entry['registered_name'])[:80]!r}, which is another name")
        _check_layer_name(inner)


def _check_function(entry: dict[str, Any], module: Any, name: Any) -> None:
    known = isinstance(name, str) and name in allowlist.FUNCTIONS | hub.FUNCTIONS
    if not known or module not in allowlist.FUNCTION_MODULES:
        raise UnsafeFile(
            f"the model names the function {str(name)[:80]!r} of module {str(module)[:80]!r}: only activations, losses "
            "and metrics of Keras are loaded"
        )
    if entry.get("registered_name") not in (None, "", "function", name):
        raise UnsafeFile(f"the function {name!r} is registered as {str(entry['registered_name'])[:80]!r}")


def _check_layer_name(config: Any) -> None:
    name = config.get("name") if isinstance(config, dict) else None
    if name is None:
        return
    if (
        not isinstance(name, str)
        or len(name) > _MAX_LAYER_NAME
        or not name.isprintable()
        or "\\" in name
        or ".." in name
    ):
        raise UnsafeFile(f"the name {str(name)[:80]!r} has characters that could be taken for a path or a command")
