"""The API is light: importing it loads neither TensorFlow nor Keras nor NumPy, quickly."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys, time
before = time.process_time()
import app.main
print(time.process_time() - before)
print(*sorted({"tensorflow", "keras", "numpy", "h5py", "alembic", "worker"} & set(sys.modules)))
"""


def test_import_is_light() -> None:
    runs = [subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True) for _ in range(2)]
    for run in runs:
        assert run.stdout.splitlines()[1] == ""
    # Of the processor, not of the clock: the machine may be busy with other tests.
    assert min(float(run.stdout.splitlines()[0]) for run in runs) < 1.5
