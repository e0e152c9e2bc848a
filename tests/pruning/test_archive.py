from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from pruning import archive as archives
from pruning.contract.errors import UnreadableFile
from tests import graphs


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    graphs.build("nested").save(path)
    return path


def test_arrays_are_those_of_the_model(tmp_path: Path) -> None:
    model = graphs.build("separable")
    model.save(tmp_path / "m.keras")
    archive = archives.read(tmp_path / "m.keras")
    layer = model.get_layer("separable_conv2d")
    for index, weight in enumerate(layer.weights):
        np.testing.assert_array_equal(archive.arrays[f"layers/separable_conv2d/vars/{index}"], weight.numpy())
    assert archive.names["layers/separable_conv2d_1"] == "separable_conv2d_1"
    assert archive.config["class_name"] == "Functional"
    assert archive.metadata["keras_version"] == keras.__version__


def test_written_file_holds_the_same_and_keras_opens_it(saved: Path, tmp_path: Path) -> None:
    archive = archives.read(saved)
    archives.write(tmp_path / "again.keras", archive)
    again = archives.read(tmp_path / "again.keras")
    assert again.config == archive.config
    assert again.names == archive.names
    assert again.arrays.keys() == archive.arrays.keys()
    sample = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    first, second = (keras.saving.load_model(path, compile=False) for path in (saved, tmp_path / "again.keras"))
    np.testing.assert_array_equal(first(sample), second(sample))


def test_layout_is_the_one_that_keras_writes(saved: Path, tmp_path: Path) -> None:
    archives.write(tmp_path / "again.keras", archives.read(saved))

    def layout(path: Path) -> list[Any]:
        found: list[Any] = []
        with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as member, h5py.File(member) as file:
            file.visititems(lambda name, node: found.append((name, dict(node.attrs), getattr(node, "shape", None))))
            return [archive.namelist(), found]

    assert layout(tmp_path / "again.keras") == layout(saved)


def test_equal_archives_give_equal_bytes_of_the_predicted_size(saved: Path, tmp_path: Path) -> None:
    archive = archives.read(saved)
    for name in ("one.keras", "two.keras"):
        archives.write(tmp_path / name, archive)
        os.utime(saved)
    one, two = (tmp_path / "one.keras").read_bytes(), (tmp_path / "two.keras").read_bytes()
    assert one == two
    assert archives.size_bytes(archive) == len(one)


def test_a_written_archive_is_as_large_as_what_keras_writes(saved: Path) -> None:
    assert archives.size_bytes(archives.read(saved)) == pytest.approx(saved.stat().st_size, rel=0.02)


def test_arrays_outlive_the_file_and_are_read_only(saved: Path) -> None:
    archive = archives.read(saved)
    before = {path: array.copy() for path, array in archive.arrays.items()}
    saved.unlink()
    for path, array in archive.arrays.items():
        np.testing.assert_array_equal(array, before[path])
    with pytest.raises(ValueError, match="read-only"):
        archive.arrays["layers/conv2d/vars/0"][0] = 0


def test_a_compressed_archive_is_read_too(saved: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    for path, array in archives.read(saved).arrays.items():
        np.testing.assert_array_equal(archives.read(packed).arrays[path], array)


def test_bfloat16_becomes_float32_and_goes_back(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype="bfloat16")])
    model.save(tmp_path / "m.keras")
    archive = archives.read(tmp_path / "m.keras")
    kernel = archive.arrays["layers/dense/vars/0"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, np.asarray(model.layers[0].kernel.numpy(), np.float32))
    archives.write(tmp_path / "again.keras", archive)
    again = keras.saving.load_model(tmp_path / "again.keras")
    np.testing.assert_array_equal(again.layers[0].kernel.numpy(), model.layers[0].kernel.numpy())


def test_assets_are_kept(tmp_path: Path) -> None:
    inputs = keras.Input((1,), dtype="string")
    lookup = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")
    model = keras.Model(inputs, keras.layers.Dense(2)(lookup(inputs)))
    model.save(tmp_path / "m.keras")
    archive = archives.read(tmp_path / "m.keras")
    archives.write(tmp_path / "again.keras", archive)
    assert archives.read(tmp_path / "again.keras").assets == archive.assets


def test_optimizer_state_is_dropped(tmp_path: Path) -> None:
    model = graphs.build("dense_stack")
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 5)), np.ones((2, 3)))
    model.save(tmp_path / "m.keras")
    archive = archives.read(tmp_path / "m.keras")
    assert any(path.startswith("optimizer/") for path in archive.arrays)
    bare = archives.without_optimizer(archive)
    assert not any(path.startswith("optimizer") for path in (*bare.arrays, *bare.names))
    assert bare.arrays.keys() == {path for path in archive.arrays if path.startswith("layers/")}


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(UnreadableFile):
        archives.read(tmp_path / "m.keras")


def test_a_truncated_archive_is_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(UnreadableFile):
        archives.read(saved)


def test_broken_weights_are_refused(saved: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.keras"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(broken, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[:700] if name == "model.weights.h5" else content)
    with pytest.raises(UnreadableFile):
        archives.read(broken)


def test_missing_config_is_refused(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as target:
        target.writestr("metadata.json", "{}")
    with pytest.raises(UnreadableFile, match=r"config\.json"):
        archives.read(tmp_path / "m.keras")


def test_replaced_arrays_keep_the_rest(saved: Path) -> None:
    archive = archives.read(saved)
    path = "layers/conv2d/vars/1"
    changed = archives.replace_arrays(archive, {path: archive.arrays[path] + 1})
    assert replace(changed, arrays=archive.arrays) == archive
    np.testing.assert_array_equal(changed.arrays[path], archive.arrays[path] + 1)
