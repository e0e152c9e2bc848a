"""Pydantic's complaints about a spec as one of the contract's errors."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from pruning.contract.errors import ContradictorySpec, FieldError, InvalidSpec, SecateurError, TargetOutOfRange

_RANGE = {
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "finite_number",
    "target_out_of_range",
}
# Fields whose value is a union: Pydantic puts the label of the branch that it tried behind their name.
_UNIONS = {"criterion", "target", "schedule", "recovery", "value", "remove"}
_SHOWN = 3


def from_validation(exc: ValidationError) -> SecateurError:
    """The contract's error for what Pydantic refused, with each place as a dotted path.

    `contradictory_spec` where two parts cannot both hold, `target_out_of_range` where only numbers lie outside their
    range, else `invalid_spec`.
    """
    found = list(_deepest(exc.errors(include_url=False)))
    errors = [_field_error(path, error) for path, error in found]
    kinds = {error["type"] for _, error in found}
    if "contradictory_spec" in kinds:
        kind: type[SecateurError] = ContradictorySpec
    elif kinds <= _RANGE:
        kind = TargetOutOfRange
    else:
        kind = InvalidSpec
    sentences = [f"{error['path']}: {error['detail']}" if error["path"] else error["detail"] for error in errors]
    more = f" (and {len(sentences) - _SHOWN} more)" if len(sentences) > _SHOWN else ""
    return kind("; ".join(sentences[:_SHOWN]) + more, errors=errors)


def _deepest(errors: Iterable[ErrorDetails]) -> Iterable[tuple[tuple[int | str, ...], ErrorDetails]]:
    """Errors with their paths, without those of union branches that another branch got further than."""
    found = [(_path(error["loc"]), error) for error in errors]
    for path, error in found:
        if not any(len(other) > len(path) and other[: len(path)] == path for other, _ in found):
            yield path, error


def _path(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    kept: list[int | str] = []
    for position, part in enumerate(loc):
        before = loc[position - 1] if position else None
        named_by_user = position >= 2 and loc[position - 2] == "layers"
        branch = before in _UNIONS and isinstance(part, str) and not named_by_user
        tag = isinstance(part, str) and isinstance(before, int) and str(loc[position - 2]).startswith("list[")
        if not (branch or tag):
            kept.append(part)
    return tuple(kept)


def _field_error(path: tuple[int | str, ...], error: ErrorDetails) -> FieldError:
    received = repr(error.get("input"))
    shown = f" (received {received})" if len(received) <= 60 and error["type"] != "missing" else ""
    return FieldError(path=".".join(map(str, path)), code=error["type"], detail=error["msg"] + shown)
