"""An upload as the file that jobs work on: as our pinned Keras writes it, one graph, nothing but weights and layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from pruning import archive as archives
from pruning import planning
from pruning.keras import hub, live, private, probe, verify
from pruning.keras import load as loading

_ZEROS: dict[str, Any] = {"module": "keras.initializers", "class_name": "Zeros", "config": {}, "registered_name": None}
_LORA = ("lora_rank", "lora_alpha")


def normalize(model: keras.Model, path: Path) -> None:
    """Save a model as our pinned Keras writes it: one graph without models of keras-hub, without optimizer state.

    Raises `VerificationFailed` where the graph of a model of keras-hub does not compute what the model does.
    """
    plain = hub.plain(model)
    private.keep_vocabularies(plain)
    saved = live.archive(plain)
    archive = replace(saved, config=settled(saved.config))
    archives.write(path, archive)
    if plain is not model:
        probes = probe.probes(model, planning.study(archive).vocabularies, None)
        verify.reloaded(model, loading.load_delivered(path), probes)


def settled(value: Any) -> Any:
    """The config without initial values that are arrays, and without LoRA.

    Such arrays are as large as the weights that the file has anyway, and a layer with fewer units could not be built
    from them. Of LoRA the products were added to the kernels when Keras saved the model; only the ranks are left.
    """
    if isinstance(value, dict):
        if _is_array_initializer(value):
            return dict(_ZEROS)
        return {key: settled(item) for key, item in value.items() if key not in _LORA}
    return [settled(item) for item in value] if isinstance(value, list) else value


def _is_array_initializer(entry: dict[str, Any]) -> bool:
    if entry.get("module") != "keras.initializers" or str(entry.get("class_name")).lower() != "constant":
        return False
    return isinstance(entry.get("config", {}).get("value"), list | dict)
