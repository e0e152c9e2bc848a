"""The decision as plain data: which units stay. Replayable on the same model."""

from __future__ import annotations

from typing import Literal

from pruning.contract.base import Record


class GroupPlan(Record):
    """One group of coupled units: the indices that stay, in order, out of `width`."""

    id: str
    layers: list[str]
    width: int
    keep: list[int]


class MaskPlan(Record):
    """One masked weight. `mask` is base64(zlib(packbits(mask, C order))), a set bit stays; `kept` counts them."""

    weight: str
    shape: list[int]
    kept: int
    mask: str


class Plan(Record):
    """What stays of the model. `groups` for structures that are cut out, `masks` for weights that become zero."""

    structure: Literal["channel", "weight"]
    groups: list[GroupPlan] = []
    masks: list[MaskPlan] = []
