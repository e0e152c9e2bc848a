"""The engine as a library: `inspect(path)`, and `prune(path, spec, data)`: the same steps and results as the service's.

Both are loaded on first use, so `pruning.contract` stays free of NumPy and TensorFlow.
"""

from __future__ import annotations

from typing import Any

__all__ = ["inspect", "prune"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from pruning.keras import library

        return getattr(library, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
