"""The decision as plain data: which units stay. Replayable on the same model."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pruning.contract.base import MOST, Choice, Record, contradiction, out_of_range

Structure = Literal["channel", "head", "weight", "layer"]
Index = Annotated[int, Field(ge=0, le=MOST)]


class GroupPlan(Choice):
    """One group of coupled units: the indices that stay, in order, out of `width`."""

    id: str
    layers: list[str] = []
    width: Index
    keep: list[Index]

    @model_validator(mode="after")
    def within_its_width(self) -> Self:
        if (last := max(self.keep, default=-1)) >= self.width:
            raise out_of_range(f"group {self.id!r} keeps index {last} of {self.width} units (from 0)")
        return self


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

    @model_validator(mode="after")
    def of_its_structure(self) -> Self:
        own = {"weight": "masks", "layer": "layers"}.get(self.structure, "groups")
        for name in ("groups", "masks", "layers"):
            if name != own and getattr(self, name):
                raise contradiction(f"a plan of structure {self.structure} says what stays in `{own}`, not in `{name}`")
        names = Counter([*(group.id for group in self.groups), *(mask.weight for mask in self.masks)])
        if twice := [name for name, count in names.items() if count > 1]:
            raise contradiction(f"the plan names {twice[0]!r} twice")
        return self


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
