"""The README's sessions run as they are printed, against a real service and with the library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.service import running
from tests.docs.paths import ROOT

TEXT = (ROOT / "README.md").read_text()
# Same inputs and outputs as the demo's model and data, but small: what runs here is the README, not the training.
MAKE_MODEL = """
import keras, sys
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((28, 28, 1), dtype="uint8"), keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(8, 3, strides=4, activation="relu"), keras.layers.BatchNormalization(),
    keras.layers.Conv2D(16, 3, activation="relu"), keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(10, activation="softmax"),
])
model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.save(sys.argv[1])
"""


def block(language: str) -> str:
    """The one code block of a language in the README."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return found[0]


def data() -> dict[str, np.ndarray]:
    """Random digits in three splits."""
    rng = np.random.default_rng(0)
    x = {
        f"x_{split}": rng.integers(0, 256, (120, 28, 28, 1), dtype=np.uint8)
        for split in ("train", "validation", "test")
    }
    return x | {name.replace("x", "y", 1): rng.integers(0, 10, 120, dtype=np.uint8) for name in x}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo seems to have run."""
    made = tmp_path_factory.mktemp("reader")
    (made / "demo-output").mkdir()
    np.savez(made / "demo-output" / "digits.npz", allow_pickle=False, **data())
    model = str(made / "demo-output" / "digits.keras")
    subprocess.run([sys.executable, "-c", MAKE_MODEL, model], check=True, capture_output=True)
    return made


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= 100


def test_the_curl_session_runs(folder: Path, tmp_path: Path) -> None:
    with running(tmp_path / "data", tmp_path / "log") as address:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block("bash")],
            cwd=folder,
            env=os.environ | {"S": address},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("succeeded {")
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    downloaded = [path.name for path in folder.glob("*.keras")]
    assert len(downloaded) == 1


def test_the_library_runs_in_six_lines(folder: Path) -> None:
    code = block("python")
    assert len([line for line in code.splitlines() if line]) <= 6
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sparsity, accuracy = (float(word) for word in done.stdout.splitlines()[-1].split())
    assert 0.7 < sparsity < 0.8
    assert 0 <= accuracy <= 1
    assert list((folder / "pruned").glob("*.keras"))
