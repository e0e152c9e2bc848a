from __future__ import annotations

import time
from typing import Any

import h5py
import numpy as np
import pytest

from pruning import hdf5
from tests import equivalence

RNG = np.random.default_rng(0)


def model(layers: int) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, str]]:
    """Arrays of all sizes and kinds, and a name for each layer."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for number in range(layers):
        arrays[f"layers/dense_{number}/vars/0"] = RNG.normal(size=(number + 1, 7)).astype(np.float32)
        arrays[f"layers/dense_{number}/vars/1"] = np.float64(number) * np.ones(number % 3)
    arrays["layers/other/vars/0"] = np.array(3, np.int64)
    arrays["layers/other/vars/1"] = np.array([True, False])
    arrays["vars/0"] = np.asfortranarray(RNG.normal(size=(40, 30)).astype(np.float16))
    return arrays, {f"layers/dense_{number}": f"dense {number} ü" for number in range(layers)} | {"": "", "lone": "x"}


@pytest.mark.parametrize("layers", [0, 5, 700])
def test_what_is_written_is_read_and_its_size_is_known(layers: int) -> None:
    arrays, names = model(layers)
    content = hdf5.written(arrays, names)
    assert hdf5.size(arrays, names) == len(content)
    found, known, bfloat16 = hdf5.read(content)
    assert found.keys() == arrays.keys()
    assert known == {**names, "layers/other": ""}
    assert not bfloat16
    for path, array in arrays.items():
        np.testing.assert_array_equal(found[path], array, strict=True)


def test_no_clock_is_in_the_file() -> None:
    arrays, names = model(1)
    first = bytes(hdf5.written(arrays, names))
    time.sleep(1.1)  # HDF5 counts seconds
    assert bytes(hdf5.written(arrays, names)) == first


def test_the_size_does_not_depend_on_values() -> None:
    arrays, names = model(3)
    assert hdf5.size({path: np.zeros_like(array) for path, array in arrays.items()}, names) == hdf5.size(arrays, names)


def test_bfloat16_takes_two_bytes_and_is_rounded_to_even() -> None:
    values = np.array([[1.0, 1 + 2**-8, 1 + 3 * 2**-8]], np.float32)
    content = hdf5.written({"layers/a/vars/0": values}, {}, ["layers/a/vars/0"])
    found, _, bfloat16 = hdf5.read(content)
    assert bfloat16 == {"layers/a/vars/0"}
    np.testing.assert_array_equal(found["layers/a/vars/0"], [[1.0, 1.0, 1 + 2**-6]])
    assert hdf5.size({"layers/a/vars/0": values}, {}, bfloat16) == len(content)


def test_arrays_in_chunks_are_read_too(tmp_path: Any) -> None:
    values = RNG.normal(size=(50, 40))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("layers/a/vars/0", data=values, chunks=(10, 10), compression="gzip")
        file["layers/a/vars"].attrs["name"] = 7
    found, names, _ = hdf5.read(memoryview((tmp_path / "w.h5").read_bytes()))
    np.testing.assert_array_equal(found["layers/a/vars/0"], values)
    assert names == {"layers/a": ""}


@pytest.mark.parametrize("name", ["residual", "mobile_net", "nested_shared", "lenet"])
def test_one_file_tells_the_size_of_others_with_the_same_arrays(name: str) -> None:
    archive = equivalence.zoo(name).archive
    narrow = {path: array[tuple(slice(0, -(-n // 2)) for n in array.shape)] for path, array in archive.arrays.items()}
    hdf5.learn(len(hdf5.written(archive.arrays, archive.names)), archive.arrays, archive.names)
    assert hdf5.size(narrow, archive.names) == len(hdf5.written(narrow, archive.names))


def test_of_many_models_the_last_are_remembered() -> None:
    for count in range(1, 40):
        arrays = {f"layers/a{index}/vars/0": np.zeros((2, 3), np.float32) for index in range(count)}
        assert hdf5.size(arrays, {}) == hdf5.size(arrays, {}) == len(hdf5.written(arrays, {}))
