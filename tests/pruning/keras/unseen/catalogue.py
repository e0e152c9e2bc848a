"""The architectures by name, as their modules register them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class Architecture:
    """`zero`: zero stays zero on every way through it. `quick`: small enough for the default suite."""

    build: Callable[[], keras.Model]
    zero: bool
    quick: bool


ARCHITECTURES: dict[str, Architecture] = {}


def architecture(*, zero: bool = True, quick: bool = False) -> Callable[[Callable[[], keras.Model]], None]:
    """Register what a function builds under its name."""

    def register(build: Callable[[], keras.Model]) -> None:
        ARCHITECTURES[build.__name__] = Architecture(build, zero, quick)

    return register
