"""Headers of arrays: what they say is what is answered; what does not fit is refused by its code."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.datasets import validation
from pruning.contract.dataset import DatasetDescription
from pruning.contract.errors import DatasetMismatch, SecateurError, UnreadableFile, UnsafeFile, UnsupportedFormat
from tests.app.files import archive, keras, labelled, npy, npz


def check(content: bytes, folder: Path) -> DatasetDescription:
    path = folder / "upload"
    path.write_bytes(content)
    return validation.check(path)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "int64", "float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 2, 2, 1)])
def test_names_shapes_and_dtypes_are_those_of_numpy(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    described = check(npz(x=np.zeros(shape, dtype)), tmp_path).arrays[0]
    assert (described.name, tuple(described.shape)) == ("x", shape)
    assert described.dtype == np.dtype(dtype).name


@pytest.mark.parametrize("values", [["a", "ein Film"], [["a"], ["bé"]], [b"a", b"bc"]])
def test_texts(values: list[Any], tmp_path: Path) -> None:
    described = check(npz(x=np.array(values), y=np.arange(2)), tmp_path).arrays[0]
    assert (described.shape, described.dtype) == (list(np.array(values).shape), "string")


def test_fortran_order_and_compression(tmp_path: Path) -> None:
    content = npz(compressed=True, x=np.asfortranarray(np.ones((4, 3))), y=np.arange(4))
    assert check(content, tmp_path).splits == {"train": 4, "validation": 0, "test": 0}


def test_splits_and_labels(tmp_path: Path) -> None:
    described = check(npz(**labelled(20)), tmp_path)
    assert described.splits == {"train": 20, "validation": 10, "test": 10}
    assert described.has_labels
    assert not described.split_from_all


def test_labels_with_and_without_an_axis_of_their_own_and_lengths_of_any_size_are_alike(tmp_path: Path) -> None:
    arrays = {
        "x_train": np.ones((4, 5, 2)),
        "x_validation": np.ones((1, 5, 2)),
        "x_test": np.ones((3, 7, 2)),
        "y_train": np.ones(4),
        "y_validation": np.ones(1),
        "y_test": np.ones((3, 1)),
    }
    assert check(npz(**arrays), tmp_path).splits == {"train": 4, "validation": 1, "test": 3}


def test_one_step_of_many_is_no_other_rank(tmp_path: Path) -> None:
    assert check(npz(x_train=np.ones((4, 12)), x_test=np.ones((3, 1))), tmp_path).splits == {"train": 4, "test": 3}


def test_header_versions(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        assert check(archive({"x.npy": npy("'<f4'", "(2,)", bytes(8), version)}), tmp_path).arrays[0].dtype == "float32"


ones = np.ones((4, 2))
REFUSED: dict[str, tuple[bytes, type[SecateurError]]] = {
    "empty": (b"", UnreadableFile),
    "cut": (b"PK\x03", UnreadableFile),
    "text": (b"a,b\n1,2\n", UnsupportedFormat),
    "program": (b"MZ" + bytes(100), UnsupportedFormat),
    "one npy": (npy("'<f4'", "(2,)", bytes(8)), UnsupportedFormat),
    "a model": (keras(), UnsupportedFormat),
    "truncated": (npz(**labelled())[:-50], UnreadableFile),
    "objects": (npz(x=np.array([{}, None])), UnsafeFile),
    "objects by hand": (archive({"x.npy": npy("'|O'", "(2,)", bytes(16))}), UnsafeFile),
    "fields": (npz(x=np.zeros(3, [("a", "f4"), ("b", "i4")])), DatasetMismatch),
    "texts for labels": (npz(x=np.ones(2), y=np.array(["a", "b"])), DatasetMismatch),
    "bytes for labels": (npz(x=np.ones(2), y=np.array([b"a", b"b"])), DatasetMismatch),
    "texts too short": (archive({"x.npy": npy("'<U2'", "(2,)", bytes(15))}), UnreadableFile),
    "dates": (npz(x=np.array(["2026-01-01"], "M8[D]")), DatasetMismatch),
    "complex": (npz(x=np.ones(3, "complex64")), DatasetMismatch),
    "numbers with a unit": (archive({"x.npy": npy("'<f4[x]'", "(2,)", bytes(8))}), UnreadableFile),
    "unknown name": (npz(x=ones, weights=ones), DatasetMismatch),
    "no inputs": (npz(y=ones), DatasetMismatch),
    "lengths differ": (npz(x=ones, y=np.ones(3)), DatasetMismatch),
    "labels in one split": (npz(x_train=ones, y_train=ones, x_test=ones), DatasetMismatch),
    "samples of another rank": (npz(x_train=ones, x_test=np.ones((4, 2, 2))), DatasetMismatch),
    "labels of another rank": (
        npz(x_train=ones, y_train=np.zeros(4), x_test=ones, y_test=np.zeros((4, 3))),
        DatasetMismatch,
    ),
    "both namings": (npz(x=ones, x_train=ones), DatasetMismatch),
    "scalar": (npz(x=np.float32(1)), DatasetMismatch),
    "no samples": (npz(x=np.ones((0, 2))), DatasetMismatch),
    "size too small": (archive({"x.npy": npy("'<f4'", "(2,)", bytes(7))}), UnreadableFile),
    "size too large": (archive({"x.npy": npy("'<f4'", "(2,)", bytes(9))}), UnreadableFile),
    "shape bomb": (archive({"x.npy": npy("'<f4'", "(99999999999, 99999999999)", bytes(8))}), UnreadableFile),
    "negative shape": (archive({"x.npy": npy("'<f4'", "(-2,)", bytes(8))}), UnreadableFile),
    "shape of truths": (archive({"x.npy": npy("'<f4'", "(True,)", bytes(4))}), UnreadableFile),
    "shape a list": (archive({"x.npy": npy("'<f4'", "[2]", bytes(8))}), UnreadableFile),
    "no header": (archive({"x.npy": b"hello world, no header"}), UnreadableFile),
    "empty member": (archive({"x.npy": b""}), UnreadableFile),
    "version 9": (archive({"x.npy": b"\x93NUMPY\x09\x00" + bytes(20)}), UnreadableFile),
    "header bomb": (archive({"x.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"(" * 5000}), UnsafeFile),
    "brackets": (archive({"x.npy": npy("(" * 5000, "(2,)", b"")}), UnreadableFile),
    "code in the header": (archive({"x.npy": npy("__import__('os').getcwd()", "(2,)", b"")}), UnreadableFile),
    "unknown dtype": (archive({"x.npy": npy("'<q8z'", "(2,)", bytes(16))}), UnreadableFile),
    "deflate bomb": (archive({"x.npy": npy("'|u1'", "(1000,)", bytes(999))}, zipfile.ZIP_DEFLATED), UnreadableFile),
    "traversal": (archive({"../x.npy": npy("'<f4'", "(2,)", bytes(8))}), UnsafeFile),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    content, error = REFUSED[name]
    with pytest.raises(error) as raised:
        check(content, tmp_path)
    assert type(raised.value) is error


def test_flipped_values_are_found(tmp_path: Path) -> None:
    sound = npz(x=np.ones((4, 2)))
    at = sound.index(np.ones(1).tobytes())
    with pytest.raises(UnreadableFile):
        check(sound[:at] + b"\x01" + sound[at + 1 :], tmp_path)


def test_numpy_agrees_on_every_array(tmp_path: Path) -> None:
    arrays: dict[str, Any] = labelled()
    content = npz(**arrays)
    described = {array.name: array for array in check(content, tmp_path).arrays}
    with np.load(io.BytesIO(content)) as loaded:
        assert {name: (list(loaded[name].shape), loaded[name].dtype.name) for name in loaded.files} == {
            name: (array.shape, array.dtype) for name, array in described.items()
        }
