"""The base of every record: frozen, and an unknown field is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

# No count of anything in a model or a data set is larger; what is goes into arrays of 64-bit integers.
MOST = 2**31 - 1


class Record(BaseModel):
    """A frozen record that refuses unknown fields and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Choice(Record):
    """A record that a user writes: a wrong type is refused and not made to fit (`"yes"` is no boolean)."""

    model_config = ConfigDict(strict=True)


def contradiction(detail: str) -> PydanticCustomError:
    """A validation error that the service answers with `contradictory_spec`."""
    return PydanticCustomError("contradictory_spec", "{detail}", {"detail": detail})


def out_of_range(detail: str) -> PydanticCustomError:
    """A validation error that the service answers with `target_out_of_range`."""
    return PydanticCustomError("target_out_of_range", "{detail}", {"detail": detail})
