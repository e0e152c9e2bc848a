"""Small uploads made by hand: a .keras archive, an .npz archive, and zip archives with anything wrong in them."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(64)
DENSE = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {
        "name": "dense",
        "units": 3,
        "activation": "relu",
        "kernel_initializer": {
            "module": "keras.initializers",
            "class_name": "Zeros",
            "config": {},
            "registered_name": None,
        },
    },
    "registered_name": None,
    "build_config": {"input_shape": [None, 4]},
}


def sequential(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The config of a Sequential model of these layers."""
    config = {"name": "sequential", "layers": list(layers)}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": None, **more}


def layer(class_name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    """The config of one layer."""
    made = {"class_name": class_name, "config": {"name": "layer", **config}, "registered_name": None}
    return made if module is None else {"module": module, **made}


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive, the same bytes at any time of day."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name), content, compression)
    return target.getvalue()


def keras(config: dict[str, Any] | bytes | None = None, weights: bytes = HDF5, **members: bytes) -> bytes:
    """A .keras archive; its weights are only a signature."""
    written = config if isinstance(config, bytes) else json.dumps(config or sequential(DENSE)).encode()
    return archive(
        {
            "config.json": written,
            "metadata.json": json.dumps({"keras_version": "3.15.1"}).encode(),
            "model.weights.h5": weights,
            **members,
        }
    )


def npz(*, compressed: bool = False, **arrays: Any) -> bytes:
    """An .npz archive as NumPy writes it."""
    target = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(target, **arrays)
    return target.getvalue()


def npy(descr: str, shape: str, values: bytes, version: int = 1, fortran: str = "False") -> bytes:
    """A .npy member by hand."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + values


def labelled(samples: int = 20, classes: int = 3) -> dict[str, Any]:
    """Arrays of all three splits with labels."""
    rng = np.random.default_rng(0)
    made = {}
    for split, size in (("train", samples), ("validation", samples // 2), ("test", samples // 2)):
        made[f"x_{split}"] = rng.standard_normal((size, 4)).astype("float32")
        made[f"y_{split}"] = rng.integers(0, classes, size)
    return made
