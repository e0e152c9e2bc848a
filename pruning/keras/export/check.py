"""What a written file has to pass: given the model that was loaded from it, raise or return."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import keras

Check: TypeAlias = Callable[[keras.Model], None]
