"""The API is light: importing it loads nothing of the engine. How long it takes is `python -m benchmarks imports`."""

from __future__ import annotations

import subprocess
import sys

CODE = "import sys, app.main; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_import_is_light() -> None:
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "fastapi" in loaded
    assert not loaded & {"tensorflow", "keras", "numpy", "h5py", "alembic", "worker"}
