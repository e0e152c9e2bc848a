"""What must not be in a model's config before Keras reads it. Nothing is imported or executed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pruning.contract import hub
from pruning.contract.errors import UnreadableFile, UnsafeFile

_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__", "__typespec__"}
_REACHING_OUT = {"utils", "saving", "config", "export", "backend", "callbacks", "datasets", "trainers", "legacy"}


def check(config: Any) -> None:
    """Refuses what could run code (`UnsafeFile`) and classes that Keras does not have (`UnreadableFile`)."""
    for entry in _entries(config):
        _check_entry(entry)


def _entries(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the config that names a class; without recursion, so depth costs nothing."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            _check_texts({key: part for key, part in item.items() if key != "registered_name"}.values())
            stack.extend(item.values())
        elif isinstance(item, list):
            _check_texts(item)
            stack.extend(item)


def _check_texts(values: Iterable[Any]) -> None:
    """A text in the place of an activation, say, may name anything that an imported package has registered."""
    for value in values:
        if isinstance(value, str) and hub.is_registered(value) and value not in hub.FUNCTIONS:
            raise UnsafeFile(f"the model names {value[:80]!r}, which is no activation of keras-hub")


def _check_entry(entry: dict[str, Any]) -> None:
    class_name, module, inner = str(entry["class_name"]), entry.get("module"), entry.get("config")
    where = repr(class_name) + (f" of {module!r}" if module else "")
    names = {class_name.split(">")[-1], inner if isinstance(inner, str) else ""}
    if names & _CODE:
        raise UnsafeFile(f"the model holds {where}, which can run code: replace it by a layer of Keras")
    if not hub.is_hub(module) and hub.is_registered(entry.get("registered_name")):
        raise UnsafeFile(f"{where} is registered as {str(entry['registered_name'])[:80]!r}, which is another name")
    if module is None or class_name.startswith("__"):
        return
    parts = str(module).split(".")
    if hub.is_hub(module):
        _check_hub(entry, class_name, where)
    elif parts[0] != "keras":
        _check_foreign(class_name, where, parts[0])
    elif _REACHING_OUT & set(parts[1:3]):
        raise UnsafeFile(f"the model names {where}, which is no layer and may reach outside the file")


def _check_hub(entry: dict[str, Any], class_name: str, where: str) -> None:
    """Of keras-hub the listed classes alone, by their own names: others read files, download or sample."""
    if (entry["module"], class_name) not in hub.CLASSES:
        raise UnreadableFile(f"the model holds {where}, a class of keras-hub that this service does not load")
    if entry.get("registered_name") not in hub.names_of(class_name):
        raise UnsafeFile(f"{where} is registered as {str(entry['registered_name'])[:80]!r}, which is another name")


def _check_foreign(class_name: str, where: str, root: str) -> None:
    if root == "builtins" and class_name == "function":
        return
    if root in sys.stdlib_module_names:
        raise UnsafeFile(f"the model names {where}: only classes of Keras are loaded")
    raise UnreadableFile(
        f"the model holds {where}, a custom class: only classes of Keras can be loaded. "
        "Rebuild that part from Keras layers"
    )
