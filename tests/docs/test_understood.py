"""docs/understood.md is what the rules are, and nothing that Keras has is missing in them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import keras
import pytest
from keras.src import ops as keras_ops

from pruning.rules import BARRIERS, RULES
from tests.docs.understood import PAGE, page


def _classes(family: str) -> set[str]:
    """The layers that Keras exports, or the operations that it defines."""
    if family == "layers":
        exported = {
            name: c for name, c in vars(keras.layers).items() if inspect.isclass(c) and issubclass(c, keras.Layer)
        }
        # Aliases go by the name of their class, but for the one layer that Keras exports under another name alone.
        return {c.__name__ if c.__name__ in exported else name for name, c in exported.items()}
    found: set[str] = set()
    for part in pkgutil.iter_modules(keras_ops.__path__):
        if not part.name.endswith("_test"):
            module: Any = importlib.import_module(f"{keras_ops.__name__}.{part.name}")
            found |= {
                name
                for name, c in vars(module).items()
                if inspect.isclass(c) and issubclass(c, keras.Operation) and c.__module__ == module.__name__
            }
    return found


@pytest.mark.parametrize("family", ["layers", "ops"])
def test_every_class_of_keras_has_a_rule_or_a_reason(family: str) -> None:
    rules = {name.split(".")[0] for own, name in RULES if own == family}
    barriers = {name for own, name in BARRIERS if own == family}
    assert not rules & barriers
    assert rules | barriers == _classes(family)


def test_the_page_is_what_the_rules_are() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.docs.understood"


def test_every_rule_says_in_its_first_line_what_it_does() -> None:
    assert [key for key, rule in RULES.items() if not (rule.__doc__ or "").strip()] == []
