from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.contract.errors import DatasetMismatch, UnreadableFile
from pruning.keras.data import Port, check_labels, check_range, opened, split_rows
from tests.pruning.keras import small

Arrays = dict[str, Any]


def refused(arrays: Arrays, split: Any, model: keras.Model | None = None) -> str:
    with opened(arrays, model or small.residual()) as dataset, pytest.raises(DatasetMismatch) as caught:
        dataset.split(split)
    return caught.value.detail


def test_a_file_gives_its_splits_with_their_own_dtypes(tmp_path: Path) -> None:
    arrays = {name: array.astype(np.uint8) for name, array in small.splits().items()}
    np.savez_compressed(tmp_path / "d.npz", **arrays)
    with opened(tmp_path / "d.npz", small.residual()) as dataset:
        train = dataset.split("train")
        assert dataset.description.splits == {"train": 192, "validation": 64, "test": 64}
    assert train.inputs[0].dtype == np.uint8
    inputs, labels = next(train.batches(10))
    assert inputs[0].dtype == np.float32
    np.testing.assert_array_equal(inputs[0], arrays["x_train"][:10])
    np.testing.assert_array_equal(labels[0], arrays["y_train"][:10])


def test_the_order_of_bytes_does_not_matter(tmp_path: Path) -> None:
    arrays = small.splits()
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    np.savez(tmp_path / "d.npz", **swapped)
    for source in (tmp_path / "d.npz", swapped):
        with opened(source, small.residual()) as dataset:
            train = dataset.split("train")
        assert train.inputs[0].dtype.isnative
        assert [array.dtype for array in dataset.description.arrays] == [str(array.dtype) for array in arrays.values()]
        np.testing.assert_array_equal(train.inputs[0], arrays["x_train"])
        np.testing.assert_array_equal(train.labels[0].values, arrays["y_train"])


def test_batches_cover_every_sample_once() -> None:
    with opened(small.splits(train=23), small.residual()) as dataset:
        train = dataset.split("train")
    sizes = [len(labels[0]) for _, labels in train.batches(10)]
    assert sizes == [10, 10, 3]


def test_a_missing_split_is_named() -> None:
    arrays = {name: array for name, array in small.splits().items() if "validation" not in name}
    assert "no validation split (x_validation); they have test, train" in refused(arrays, "validation")


def test_a_wrong_shape_is_named_on_both_sides() -> None:
    arrays = small.splits()
    arrays["x_test"] = arrays["x_test"][:, :4]
    assert refused(arrays, "test") == (
        "array 'x_test' has samples of shape (4, 8, 2), the model's input 'image' takes (8, 8, 2)"
    )


@pytest.mark.parametrize(("label", "at"), [(3, 17), (-1, 0)])
def test_a_label_out_of_range_is_named_with_index_and_range(label: int, at: int) -> None:
    arrays = small.splits()
    arrays["y_test"][at] = label
    found = refused(arrays, "test")
    assert f"'y_test' holds label {label} at index {at}" in found
    assert "from 0 to 2" in found


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    arrays = small.splits()
    arrays["x_train"][5, 1, 2, 0] = value
    assert f"'x_train' holds {value} at index (5, 1, 2, 0)" in refused(arrays, "train")
    arrays = small.splits()
    arrays["y_train"] = arrays["y_train"].astype(np.float32)
    arrays["y_train"][3] = value
    assert f"'y_train' holds {value} at index 3" in refused(arrays, "train")


def test_labels_take_the_form_of_their_output() -> None:
    classes = Port("out", (3,), "float32")
    for values in (np.array([0, 2, 1]), np.array([[0], [2], [1]]), np.array([0.0, 2.0, 1.0])):
        labels = check_labels("y", values, classes)
        assert (labels.kind, labels.values.tolist()) == ("sparse", [0, 2, 1])
    assert check_labels("y", np.eye(3), classes).kind == "dense"
    single = check_labels("y", np.array([0.5, 1.5]), Port("out", (1,), "float32"))
    assert (single.kind, single.values.tolist()) == ("dense", [[0.5], [1.5]])
    pixels = check_labels("y", np.zeros((2, 4, 4), int), Port("out", (4, 4, 3), "float32"))
    assert pixels.kind == "sparse"
    with pytest.raises(DatasetMismatch, match=r"shape \(4,\).*output 'out' of shape \(3,\)"):
        check_labels("y", np.zeros((2, 4)), classes)
    with pytest.raises(DatasetMismatch, match=r"label 0\.5 at index 1"):
        check_labels("y", np.array([0.0, 0.5]), classes)
    with pytest.raises(DatasetMismatch, match=r"label 2 at index \(1, 0\): binary_crossentropy takes 0 to 1"):
        check_range(check_labels("y", np.array([0, 2]), Port("out", (1,), "float32")), 0, 1, "binary_crossentropy")


def test_several_inputs_and_outputs_go_by_name() -> None:
    left, right = keras.Input((2,), name="left"), keras.Input((1,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model([left, right], [keras.layers.Dense(1, name=name)(joined) for name in ("low", "high")])
    arrays = {
        "x_train__right": np.ones((4, 1)),
        "x_train__left": np.zeros((4, 2)),
        "y_train__high": np.full(4, 2.0),
        "y_train__low": np.full(4, 1.0),
    }
    with opened(arrays, model) as dataset:
        train = dataset.split("train")
    assert [array.shape for array in train.inputs] == [(4, 2), (4, 1)]
    assert [labels.values[0, 0] for labels in train.labels] == [1.0, 2.0]
    del arrays["x_train__left"]
    assert "'x_train__left' is missing" in refused(arrays, "train", model)


def test_whole_numbers_for_an_embedding() -> None:
    tokens = keras.Input((2,), dtype="int32", name="tokens")
    model = keras.Model(tokens, keras.layers.Embedding(5, 3)(tokens))
    found = refused({"x_test": np.array([[0, 1], [2, 1.5]])}, "test", model)
    assert "holds 1.5 at index (1, 1)" in found


def test_broken_files(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(UnreadableFile), opened(tmp_path / "d.npz", small.residual()):
        pass
    for number, save in enumerate((np.savez, np.savez_compressed)):
        path = tmp_path / f"{number}.npz"
        save(path, **small.splits())
        content = bytearray(path.read_bytes())
        for at in (60, 100, len(content) // 3):  # in a header's signature, in the header, in values
            path.write_bytes(content[:at] + bytes(~byte & 0xFF for byte in content[at : at + 3]) + content[at + 3 :])
            with pytest.raises(UnreadableFile, match=r"no \.npz file"), opened(path, small.residual()) as dataset:
                dataset.splits()
    np.savez(tmp_path / "o.npz", x_train=np.array([{}], dtype=object))
    with pytest.raises(DatasetMismatch, match="Python objects"), opened(tmp_path / "o.npz", small.residual()):
        pass


@given(st.lists(st.integers(0, 4), min_size=1, max_size=300), st.integers(0, 3))
def test_a_split_keeps_every_row_once_and_every_share(labels: list[int], seed: int) -> None:
    strata = np.array(labels)
    rows = split_rows(strata, seed)
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(labels)))
    assert (len(rows["validation"]), len(rows["test"])) == (len(labels) // 10, len(labels) // 10)
    for stratum in set(labels):
        size = labels.count(stratum)
        taken = int((strata[rows["test"]] == stratum).sum())
        assert abs(taken - size * (len(labels) // 10) / len(labels)) <= 1


def test_one_pair_of_arrays_is_split_by_class() -> None:
    x, y = small.images(100)
    for labels in (y, np.eye(3)[y]):
        with opened({"x": x, "y": labels}, small.residual()) as dataset:
            found = {name: dataset.split(name) for name in ("train", "validation", "test")}
        assert {name: len(samples) for name, samples in found.items()} == {"train": 80, "validation": 10, "test": 10}
        rows = split_rows(y)
        np.testing.assert_array_equal(found["test"].inputs[0], x[rows["test"]])
        np.testing.assert_array_equal(found["test"].labels[0].values, labels[rows["test"]])
