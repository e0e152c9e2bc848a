"""The dry run in a process that has no TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
for name in ("tensorflow", "keras"):
    sys.modules[name] = None
import pruning.planning
import pruning.contract
print("fine")
"""


def test_planning_needs_neither_tensorflow_nor_keras() -> None:
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr
