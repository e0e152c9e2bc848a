"""One file per layer family, found by itself: a rule says what a layer's call does to units.

A rule is a function `(op, inputs, trace) -> outputs` registered for classes of `keras.layers` by `@layer("Name")`, or
of `keras.ops` in a functional graph by `@operation("Name")`. It returns the outputs' extents and notes through `trace`
which axes are tied (`tie`, `meet`), pinned (`pin`) or started (`produce`), what the call costs (`cost`), how the axes
of its arrays map to units (`bind`) and how its config is resized (`resize`). What has no rule is a barrier; why it is
one says `barrier("sentence", "layers" or "ops", names)` in `pruning.rules.barriers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pkgutil import iter_modules

from pruning.graph import Op
from pruning.rules.extents import Value
from pruning.rules.trace import Trace

Rule = Callable[[Op, list[Value], Trace], "Value | list[Value]"]
RULES: dict[tuple[str, str], Rule] = {}
# Why classes without a rule are barriers.
BARRIERS: dict[tuple[str, str], str] = {}


def layer(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for layer classes of Keras itself."""
    return register("layers", *names)


def operation(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations, as `keras.ops` and Python's operators leave them in a functional graph."""
    return register("ops", *names)


def rule_of(op: Op) -> Rule | None:
    """The rule for a call, None for a class that is not Keras' own or not known."""
    return RULES.get(_key(op))


def why_none(op: Op) -> str:
    """Why a call without a rule stops the units that reach it, as a sentence about it."""
    return BARRIERS.get(_key(op), f"{op.class_name} is a layer that no rule knows")


def _key(op: Op) -> tuple[str, str]:
    return "ops" if op.module.startswith("keras.src.ops.") else op.module.removeprefix("keras."), op.class_name


def barrier(sentence: str, family: str, names: Iterable[str]) -> None:
    """Say why these classes have no rule. `sentence` goes on behind the name of the class."""
    for name in names:
        if (family, name) in BARRIERS:
            raise ValueError(f"{name} is a barrier twice")
        BARRIERS[family, name] = f"{name} {sentence}"


def register(family: str, *names: str) -> Callable[[Rule], Rule]:
    """Register a rule for classes of a family: `layers`, `ops`, a module below `keras.` or one of keras-hub."""

    def take(rule: Rule) -> Rule:
        for name in names:
            if (family, name) in RULES:
                raise ValueError(f"{name} has two rules")
            RULES[family, name] = rule
        return rule

    return take


for _module in iter_modules(__path__):
    if _module.name != "trace":
        import_module(f"{__name__}.{_module.name}")
