"""Where the public models and data lie that some benchmarks need: beside the project, and no part of it."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
