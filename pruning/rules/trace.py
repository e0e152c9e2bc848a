"""What a rule writes while the graph is traced: which axes are tied, pinned or new, what runs there, what is resized.

Tensors are tuples of extents (`extents`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np

from pruning.contract.errors import VerificationFailed
from pruning.graph import Op
from pruning.rules.extents import FIXED, Extent, Ids, Value, size
from pruning.rules.union import unite

Role = Literal["producer", "consumer", "follower", "factor"]
Structure = Literal["channel", "head"]
NormalizedAxes = Literal["keep", "prune"]


@dataclass(frozen=True)
class Axis:
    """One axis of one weight: `ids[i]` is the unit that index i belongs to, -1 where it stays.

    A producer's slices make the units and score them, a consumer's read them and are zero in the masked original. A
    factor's do both: the query's side of a product with the key, the projection that ends a head, a tied table.
    """

    weight: str
    axis: int
    ids: Ids
    role: Role
    layer: str


@dataclass(frozen=True)
class Cost:
    """MACs of one call for one sample: `multiplier` times the number of kept entries of each of `axes`.

    `per_element`: the MACs that run through one element of `weight` (a convolution: its output positions). `op`: the
    index of the call in the graph.
    """

    layer: str
    multiplier: int
    axes: tuple[Ids, ...]
    weight: str | None
    per_element: int
    op: int = 0


@dataclass(frozen=True)
class Barrier:
    """A layer or operation that keeps the units reaching it, with a reason."""

    layer: str
    code: str
    detail: str


@dataclass(frozen=True)
class Resize:
    """A number or a list of numbers in a layer's config: how many of these ids are kept (an int stays as it is)."""

    layer: str
    location: tuple[str | int, ...]
    value: Extent | tuple[Extent, ...]


@dataclass(frozen=True)
class Rescale:
    """Keras divides by the root of how many `ids` there are: where fewer are left, `weight` makes up for it."""

    weight: str
    ids: Ids


@dataclass(frozen=True)
class Hold:
    """Keras works a number out of how many `ids` there are: where fewer are left, the config says what it was."""

    location: tuple[str | int, ...]
    value: float
    ids: Ids


@dataclass(frozen=True)
class Mix:
    """An op that mixes units along an axis of its `input`-th tensor, with no weights to set to zero.

    The masked original computes it over the units that are kept (`pruning.keras.masked`).
    """

    layer: str
    input: int
    axis: int
    ids: Ids


@dataclass(frozen=True)
class Constant:
    """An array in the config, such as a factor per channel: along `axis` its numbers belong to these units."""

    location: tuple[str | int, ...]
    axis: int
    ids: Ids


@dataclass(frozen=True, eq=False)
class Avoided:
    """An axis of a layer and the number of units that it must not be left with; `what` they are, and `why`."""

    layer: str
    ids: Ids
    count: int
    what: str
    why: str


class Trace:
    """The notes of all rules on one graph. Methods speak of the op that is being traced, `op`, the graph's `at`-th."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], normalized_axes: NormalizedAxes = "keep") -> None:
        self.weights = shapes
        self.normalized_axes = normalized_axes
        self.op: Op
        self.at = 0
        self.count = 0
        self.axes: dict[tuple[str, int], Axis] = {}
        self.made: set[tuple[str, int]] = set()  # which of these started units, whatever their role is now
        self.costs: list[Cost] = []
        self.barriers: list[Barrier] = []
        self.pins: list[tuple[Ids, int]] = []
        self.ties: list[tuple[Ids, Ids, Op]] = []
        self.produced: list[int] = []
        self.structures: list[Structure] = []
        self._labels = np.empty(0, np.int64)
        self._settled = 0
        self.resizes: dict[tuple[str | int, ...], Resize] = {}
        self.rescales: dict[str, Rescale] = {}
        self.holds: list[Hold] = []
        self.mixes: dict[tuple[str, int, int], Mix] = {}
        self.depth = 0
        self.constants: dict[tuple[tuple[str | int, ...], int], Constant] = {}
        self.widths: dict[str, Ids] = {}
        self.heads: dict[str, Ids] = {}
        self.scales: set[str] = set()
        self.vocabularies: dict[int, int] = {}
        self.sources: dict[int, set[int]] = {}
        # Tensors that a table is read at.
        self.indices: set[int] = set()
        # Tensor -> rows of its batch for one sample, where that is not one: windows that a reshape put there.
        self.rows: dict[int, int] = {}
        # Arrays that the file holds a second time under another layer.
        self.aliases: set[str] = set()
        # Parts that slices and splits cut out: each has to keep a unit.
        self.parts: list[Ids] = []
        # Time axes of the TimeDistributed layers around the op.
        self.repeats: list[Extent] = []
        self.avoided: dict[tuple[str, bytes, int], Avoided] = {}

    # --- ids ---------------------------------------------------------------------------------------------------

    def new(self, count: int, structure: Structure = "channel") -> Ids:
        """`count` units that nothing is tied to yet."""
        self.count += count
        self.produced.append(count)
        self.structures.append(structure)
        return np.arange(self.count - count, self.count, dtype=np.int64)

    def tie(self, first: Ids, second: Ids) -> None:
        """Units at the same place of two arrays stand and fall together; with -1 they stay."""
        if first.shape != second.shape:
            raise VerificationFailed(
                f"layer {self.op.name!r} ties {first.shape} units to {second.shape}: the graph was read wrongly"
            )
        first, second = first.reshape(-1), second.reshape(-1)
        differ = first != second
        if not differ.any():
            return
        loose = (first == FIXED) | (second == FIXED)
        if loose.any():
            alone = np.where(loose & differ, np.maximum(first, second), FIXED)
            self.pin(alone, "fixed_axis", "meets places without units, such as those of an input or a constant")
        kept = differ & ~loose
        if kept.any():
            self.ties.append((first[kept], second[kept], self.op))

    def pin(self, value: Extent | Value, code: str, detail: str) -> None:
        """The units of an axis, or of all axes of a tensor, stay."""
        for extent in value if isinstance(value, tuple) else (value,):
            if isinstance(extent, np.ndarray) and (extent != FIXED).any():
                barrier = Barrier(self.op.name, code, detail)
                if barrier not in self.barriers[-1:]:
                    self.barriers.append(barrier)
                self.pins.append((extent, len(self.barriers) - 1))

    def mix(self, place: int, axis: int, extent: Extent) -> None:
        """The op sums over these units, along an axis of its `place`-th tensor; calls of a layer mix the same units."""
        if not isinstance(extent, np.ndarray):
            return
        if self.depth:
            self.pin(extent, "mixes_channels", "mixes units inside a wrapper, where no masked original can be made")
            return
        known = self.mixes.setdefault((self.op.name, place, axis), Mix(self.op.name, place, axis, extent))
        self.tie(known.ids, extent)

    def normalize(self, extent: Extent, mixes: Sequence[tuple[int, int]]) -> None:
        """The op takes statistics along `mixes` (tensor, axis) of these units: they stay, or it goes on with fewer."""
        if self.normalized_axes == "keep":
            detail = f"{self.op.class_name} takes its statistics over these units, and normalized_axes is keep"
            self.pin(extent, "normalized_axis", detail)
        for place, axis in mixes:
            self.mix(place, axis, extent)

    def meet(self, first: Extent, second: Extent) -> Extent:
        """One axis known from two sides: ids are tied, ids that meet a plain size are pinned."""
        if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
            self.tie(first, second)
            return first
        for ids, plain in ((first, second), (second, first)):
            if isinstance(ids, np.ndarray):
                if plain is not None and plain != len(ids):
                    raise VerificationFailed(f"layer {self.op.name!r} meets sizes {len(ids)} and {plain} on one axis")
                self.pin(ids, "fixed_axis", "meets an axis without units: of an input, a constant, steps or a reshape")
                return len(ids)
        return first if first is not None else second

    def part(self, extent: Extent) -> Extent:
        """A part cut out of an axis. Its units make groups of their own, so that no part can lose them all."""
        if isinstance(extent, np.ndarray):
            self.parts.append(extent)
        return extent

    def resolve(self, ids: Ids) -> Ids:
        """The class of each id by all ties so far; -1 stays."""
        labels = np.arange(self.count + 1, dtype=np.int64)
        labels[: len(self._labels)] = self._labels
        if fresh := self.ties[self._settled :]:
            unite(labels, np.concatenate([t[0] for t in fresh]), np.concatenate([t[1] for t in fresh]))
        self._labels, self._settled = labels[:-1], len(self.ties)
        labels[-1] = FIXED
        return labels[ids]

    @contextmanager
    def inside(self, key: str, path: str) -> Iterator[Op]:
        """The layer that stands under `key` in the op's config, with its arrays at `path`, as the op that is traced."""
        outer, entry = self.op, self.op.config[key]
        self.op = replace(
            outer,
            class_name=entry["class_name"],
            module=entry.get("module") or "",
            config=entry["config"],
            path=f"{outer.path}/{path}",
            location=(*outer.location, "config", key),
        )
        self.depth += 1
        try:
            yield self.op
        finally:
            self.depth -= 1
            self.op = outer

    # --- weights, costs, config --------------------------------------------------------------------------------

    def weight(self, index: int | str, inner: str = "") -> str:
        """The path of the layer's `index`-th array, or of that of a layer `inner` inside it."""
        place = f"{self.op.path}/{inner}" if self.op.path and inner else self.op.path or inner
        return f"{place}/vars/{index}" if place else f"vars/{index}"

    def shape(self, weight: str) -> tuple[int, ...]:
        """The shape of an array. Raises `VerificationFailed` where the file lacks it."""
        if weight not in self.weights:
            raise VerificationFailed(f"layer {self.op.name!r} should have an array {weight!r}: the file lacks it")
        return self.weights[weight]

    def expect(self, weight: str, shape: Sequence[int | None]) -> None:
        """Raise `VerificationFailed` where an array has not the shape that config and inputs call for."""
        found = self.shape(weight)
        if found == tuple(shape):
            return
        if len(found) != len(shape) or any(want not in (None, have) for want, have in zip(shape, found, strict=True)):
            raise VerificationFailed(
                f"layer {self.op.name!r} needs {weight!r} of shape {tuple(shape)}, the file has {found}"
            )

    def bind(self, weight: str, axis: int, extent: Extent, role: Role) -> None:
        """These units lie along this axis of this array. A shared array ties the units of all its calls."""
        shape = self.shape(weight)
        axis %= len(shape)
        length = size(extent)
        if length is not None and length != shape[axis]:
            raise VerificationFailed(
                f"layer {self.op.name!r} meets {length} units on axis {axis} of {weight!r}, which has shape {shape}"
            )
        ids = extent if isinstance(extent, np.ndarray) else np.full(shape[axis], FIXED, np.int64)
        known = self.axes.setdefault((weight, axis), Axis(weight, axis, ids, role, self.op.name))
        if known.ids is not ids:
            self.tie(known.ids, ids)

    def follow(self, weight: str, extent: Extent) -> None:
        """A vector with one number for each place of an axis, such as a bias."""
        self.expect(weight, (size(extent),))
        self.bind(weight, 0, extent, "follower")

    def produce(self, weight: str, axis: int, count: int | None = None, structure: Structure = "channel") -> Ids:
        """The units that an array's axis creates: new ones at its first call, the same ones at later calls."""
        shape = self.shape(weight)
        axis %= len(shape)
        known = self.axes.get((weight, axis))
        if known is not None:
            return known.ids
        ids = self.new(shape[axis] if count is None else count, structure)
        self.bind(weight, axis, ids, "producer")
        self.made.add((weight, axis))
        return ids

    def cost(self, places: Value, axes: Sequence[Extent], weight: str | None, per_place: int = 1) -> None:
        """The sizes of `places`, of `axes` and `per_place` multiplied are the MACs of this call for one sample.

        `places`: where `weight` is applied (see `places`); `axes`: axes of `weight`; `per_place`: its other elements.
        Unknown sizes count as 1.
        """
        places = (self.rows_of(self.op), *self.repeats, *places)
        together = (*places, *axes)
        ids = tuple(extent for extent in together if isinstance(extent, np.ndarray))
        plain = prod(extent or 1 for extent in together if not isinstance(extent, np.ndarray))
        per_element = prod(size(extent) or 1 for extent in places)
        self.costs.append(Cost(self.op.name, per_place * plain, ids, weight, per_element, self.at))

    def resize(self, key: str, value: Extent | Value) -> None:
        """Config field `key` counts these ids; a layer that is called twice has one field for both calls."""
        self.resize_at((*self.op.location, "config", key), value)

    def resize_at(self, location: tuple[str | int, ...], value: Extent | Value) -> None:
        """The number or list at this place of the config counts these ids."""
        known = self.resizes.setdefault(location, Resize(self.op.name, location, value))
        if known.value is value:
            return
        before = known.value if isinstance(known.value, tuple) else (known.value,)
        for first, second in zip(before, value if isinstance(value, tuple) else (value,), strict=True):
            if isinstance(first, np.ndarray) or isinstance(second, np.ndarray):
                self.meet(first, second)

    def rescale(self, weight: str, ids: Ids) -> None:
        """Surgery multiplies `weight` by the root of the share of these ids that stays."""
        self.rescales.setdefault(weight, Rescale(weight, ids))

    def hold(self, location: tuple[str | int, ...], value: float, extent: Extent) -> None:
        """Surgery writes `value` to this place of the config where some of these units go."""
        if isinstance(extent, np.ndarray):
            self.holds.append(Hold(location, value, extent))

    def vocabulary(self, tensor: int, size: int) -> None:
        """This tensor holds indices below `size`; where several tables read it, those of the smallest."""
        self.indices.add(tensor)
        for source in self.sources.get(tensor, {tensor}):
            self.vocabularies[source] = min(size, self.vocabularies.get(source, size))

    def rows_of(self, op: Op) -> int:
        """Rows of the batch that enter a call for one sample."""
        return max((self.rows.get(tensor, 1) for tensor in op.inputs), default=1)

    def come_from(self, outputs: Sequence[int], inputs: Sequence[int]) -> None:
        """The numbers in these tensors are some of those in the others, as they are."""
        found = set[int]().union(*(self.sources.get(tensor, {tensor}) for tensor in inputs))
        self.sources.update(dict.fromkeys(outputs, found))

    def width(self, ids: Extent) -> None:
        """These are the units on the layer's output axis, in the order in which a user counts them."""
        if isinstance(ids, np.ndarray):
            self.widths.setdefault(self.op.name, ids)

    def avoid(self, ids: Ids, count: int, what: str, why: str) -> None:
        """Of these units of the layer not `count` may be left; `what` they are and `why`, for people."""
        self.avoided.setdefault((self.op.name, ids.tobytes(), count), Avoided(self.op.name, ids, count, what, why))

    def head(self, ids: Extent) -> None:
        """These are the layer's heads, in the order in which a user counts them."""
        if isinstance(ids, np.ndarray):
            self.heads.setdefault(self.op.name, ids)
