"""What an uploaded model turns out to be, before any job is paid for."""

from __future__ import annotations

from typing import Any, Literal

from pruning.contract.base import Record
from pruning.contract.result import Warning


class Tensor(Record):
    """An input or output of the model; None in `shape` is a free dimension."""

    name: str
    shape: list[int | None]
    dtype: str


class LayerInfo(Record):
    """One layer. `width`: units on its output axis where it has them; `heads`: how many an attention layer has.

    Names of nested layers are `outer/inner`.
    """

    name: str
    class_name: str
    width: int | None
    parameters: int
    macs: int
    output_shape: list[int | None] | None = None
    heads: int | None = None


class GroupInfo(Record):
    """All coupled units with one set of producers: what a layer's width is made of.

    `coupled_because`: why several layers make one group; `kept_because`: the barrier of a group that is not prunable.
    """

    id: str
    width: int
    layers: list[str]
    prunable: bool
    coupled_because: str | None
    kept_because: str | None = None
    structure: Literal["channel", "head"] = "channel"


class BarrierInfo(Record):
    """A layer or operation that keeps the units reaching it, with a reason."""

    layer: str
    code: str
    detail: str


class BlockInfo(Record):
    """What structure layer can take as a whole: `id` is its last layer's name, and what rules of `layers` call it.

    `layers` go with it, with their `parameters`; `macs` are those of its calls. `inside`: the block around it.
    """

    id: str
    kind: Literal["branch", "chain"]
    layers: list[str]
    parameters: int
    macs: int
    inside: str | None


class Inspection(Record):
    """A model's description; `macs` for one sample; `unknown_dimensions` count as 1 there.

    `floor`: the least that structure channel can reach, `normalized_floor`: with `normalized_axes: prune`; `head_floor`
    and `layer_floor`: that those structures can. `kept_blocks`: what looks like a block and stays, with the reason.
    `warnings`: what became of the upload.
    """

    keras_version: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    parameters: int
    macs: int
    layers: list[LayerInfo]
    groups: list[GroupInfo]
    barriers: list[BarrierInfo]
    compiled: dict[str, Any] | None
    unknown_dimensions: list[str] = []
    floor: dict[str, float] = {}
    blocks: list[BlockInfo] = []
    kept_blocks: list[BarrierInfo] = []
    layer_floor: dict[str, float] = {}
    head_floor: dict[str, float] = {}
    normalized_floor: dict[str, float] = {}
    warnings: list[Warning] = []
