"""One test over every format: what is written opens in plain Keras and computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import keras
import numpy as np
import pytest

from pruning import archive as archives
from pruning.contract.errors import ExportFailed, VerificationFailed
from pruning.contract.spec import ExportName
from pruning.keras import export, verify
from tests.pruning.keras import small

NAMES = get_args(ExportName)


def test_every_name_of_the_spec_has_one_implementation() -> None:
    assert set(export.EXPORTS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_opens_in_plain_keras(tmp_path: Path, name: ExportName) -> None:
    model = small.residual()
    archive = small.case(model, tmp_path).archive
    probes = [[small.images(4)[0]]]
    path, loaded = export.write(name, archive, tmp_path)
    assert path.name == f"pruned.{name}"
    assert verify.reloaded(model, loaded, probes).relative_difference == 0.0
    np.testing.assert_array_equal(keras.saving.load_model(path, compile=False)(probes[0][0]), model(probes[0][0]))


def test_equal_models_give_equal_bytes_of_the_predicted_size(tmp_path: Path) -> None:
    archive = small.case(small.residual(), tmp_path).archive
    first = export.write("keras", archive, tmp_path, "first")[0].read_bytes()
    assert export.write("keras", archive, tmp_path, "second")[0].read_bytes() == first
    assert archives.size_bytes(archive) == len(first)


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_written_or_differs_is_not_delivered(tmp_path: Path, name: ExportName) -> None:
    archive = small.case(small.residual(), tmp_path).archive
    _, loaded = export.write(name, archive, tmp_path)
    with pytest.raises(VerificationFailed):
        verify.reloaded(small.residual(seed=1), loaded, [[small.images(2)[0]]])
    (tmp_path / f"taken.{name}").mkdir()
    with pytest.raises(ExportFailed, match=f"written as {name}"):
        export.write(name, archive, tmp_path, "taken")


def test_a_model_that_hdf5_does_not_hold_is_told_as_that(tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs) + keras.layers.Dense(3)(inputs))
    archive = small.case(model, tmp_path).archive
    assert export.write("keras", archive, tmp_path)[0].is_file()
    with pytest.raises(ExportFailed, match="loaded from h5, which does not hold operations"):
        export.write("h5", archive, tmp_path)
