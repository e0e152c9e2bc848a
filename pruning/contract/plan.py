"""The decision as plain data: which units stay. Replayable on the same model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pruning.contract.base import MOST, Choice, Record

Structure = Literal["channel", "head", "weight", "layer"]
Index = Annotated[int, Field(ge=0, le=MOST)]


class GroupPlan(Choice):
    """One group of coupled units: the indices that stay, in order, out of `width`."""

    id: str
    layers: list[str] = []
    width: Index
    keep: list[Index]


class MaskPlan(Choice):
    """One masked weight. `mask` is base64(zlib(packbits(mask, C order))), a set bit stays; `kept` counts them."""

    weight: str
    shape: list[Index]
    kept: Annotated[int, Field(ge=0)]
    mask: str


class Plan(Choice):
    """What stays of the model. `groups` for structures that are cut out, `masks` for weights that become zero.

    Groups and weights that are not listed stay as they are.

    `layers`: the ids of blocks that go as a whole, those inside other ones too.
    """

    structure: Structure
    groups: list[GroupPlan] = []
    masks: list[MaskPlan] = []
    layers: list[str] = []


class KeptArray(Record):
    """Which places of an array of the original an array of the delivered model has: a copy along each axis.

    `path` names it in the delivered weights file, `source` in the original's as the service saved it, where it has
    `shape`. `axes`: by number of the axis (as text) the indices kept, in order; an axis that is not named is whole.
    `factor`: what its values are multiplied by (an attention's query where the key dimension shrank).
    """

    path: str
    source: str
    shape: list[int]
    axes: dict[str, list[int]]
    factor: float = 1.0


class KeepMap(Record):
    """Every array of the delivered model by the indices it keeps of the original, before any recovery."""

    arrays: list[KeptArray]
