"""The way from scores to a plan of whole blocks: rules of `layers`, competition, target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pruning.bindings import Match, matches
from pruning.blocks import Block, Blocks
from pruning.competition import Competition
from pruning.contract.errors import ContradictorySpec, NothingToPrune
from pruning.contract.plan import Plan
from pruning.contract.spec import Measure, Pruning
from pruning.limits import Limits
from pruning.measures import elements
from pruning.scopes import Counts, share
from pruning.targets import meet

if TYPE_CHECKING:
    from pruning.units import Units

FileBytes: TypeAlias = Callable[[Sequence[Block]], int]


def select(
    units: Units, blocks: Blocks, scores: Mapping[str, float], pruning: Pruning, file_bytes: FileBytes | None = None
) -> Plan:
    """The blocks that go: `scores` by block id, higher is kept. A block takes along those inside it, and the last part
    of a branch the branch.

    A block without a score stays unless `layers` names it. Ratios count the blocks that compete, those inside others
    too; a ratio is met as nearly as it can be from below. A budget is met with the least removed: one more block would
    exceed it. `file_bytes`: the exact size in bytes of the delivered file without these blocks.

    Raises `Infeasible`; `NothingToPrune` if nothing may go; what `bindings.matches` raises.
    """
    if not blocks.found:
        raise NothingToPrune(f"no layer or block of this model can go as a whole: {_reasons(blocks)}")
    skipped, removed = bind(units, blocks, pruning)
    fixed = blocks.closed(blocks.named(removed))
    competing = [b for b in blocks.found if b.id in scores and b.id not in skipped and b.id not in fixed]
    return meet(pruning.target, WholeBlocks(units, blocks, competing, scores, pruning, fixed, skipped, file_bytes))


def bind(units: Units, blocks: Blocks, pruning: Pruning) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of the blocks that `layers` keeps and of those that it removes.

    `skip` on a layer keeps every block that it is called in; `remove` names blocks by their ids.
    """
    names = dict.fromkeys([*(entry.name for entry in units.layers), *(block.id for block in blocks.found)])
    found = matches(names, pruning.layers)
    skipped = {
        block.id: match
        for block in blocks.found
        for name in (block.id, *blocks.called(block))
        if (match := found.get(name)) is not None and match.rule.skip
    }
    removed = {block.id: found[block.id] for block in blocks.found if block.id in found and found[block.id].rule.remove}
    _refuse_unmet(blocks, found.values(), removed)
    for id in blocks.closed(blocks.named(removed)):
        if id in skipped:
            raise ContradictorySpec(
                f"layers: skip for {skipped[id].key!r} keeps block {id!r}, which another rule removes, maybe with one "
                "around it"
            )
    return frozenset(skipped), frozenset(removed)


def kept_because(units: Units, blocks: Blocks, scores: Mapping[str, float], pruning: Pruning) -> dict[str, str]:
    """Why a layer stays whatever the target, by name: no block holds it, `skip`, or no evidence for scores."""
    if pruning.target.type == "plan":
        return {}
    skipped, removed = bind(units, blocks, pruning)
    free: set[str] = set()
    reasons: dict[str, str] = {}
    for block in blocks.found:
        if block.id in skipped:
            reasons |= dict.fromkeys(block.layers, "skipped by `layers`")
        elif block.id not in scores and block.id not in removed:
            reasons |= dict.fromkeys(block.layers, f"criterion {pruning.criterion.name} finds nothing to score it by")
        else:
            free.update(block.layers)
    kept = {barrier.layer: barrier.detail for barrier in blocks.barriers}
    for entry in units.layers:
        reasons.setdefault(entry.name, kept.get(entry.name, "in no block whose input could stand for its output"))
    return {name: reason for name, reason in reasons.items() if name not in free}


def most(blocks: Blocks) -> tuple[Block, ...]:
    """As many blocks as can go together: all, but for those of the last without which an input would have no reader."""
    gone = list(blocks.found)
    put_back: list[Block] = []
    while gone and not blocks.feasible(gone):
        put_back.insert(0, gone.pop())
    for block in put_back:
        if blocks.feasible([*gone, block]):
            gone.append(block)
    return blocks.named(block.id for block in blocks.found if block in gone)


def _refuse_unmet(blocks: Blocks, found: Iterable[Match], removed: Mapping[str, Match]) -> None:
    met = {match.key for match in removed.values()}
    for match in found:
        if match.rule.remove and match.key not in met:
            around = [block.id for block in blocks.found if match.layer in blocks.called(block)]
            hint = (
                f"{match.layer!r} lies in block {around[0]!r}: name that"
                if around
                else f"the blocks are {_some(blocks)}"
            )
            raise NothingToPrune(f"layers: {match.key!r} asks to remove blocks, but is the id of none; {hint}")


def _some(blocks: Blocks) -> str:
    return ", ".join(repr(block.id) for block in blocks.found[:5]) + (", ..." if len(blocks.found) > 5 else "")


def _reasons(blocks: Blocks) -> str:
    found = [f"{barrier.layer!r} {barrier.detail}" for barrier in blocks.barriers[:5]]
    return "; ".join(found) or "no layer gives back the shape that it takes, and nothing is added to a shortcut"


class WholeBlocks(Competition):
    """Each block is a bucket of one unit. `fixed`: ids of blocks that are gone in any case, with all inside them.

    `kept`: ids of those that stay, though their parts may go.
    """

    def __init__(
        self,
        units: Units,
        blocks: Blocks,
        competing: Sequence[Block],
        scores: Mapping[str, float],
        pruning: Pruning,
        fixed: frozenset[str],
        kept: frozenset[str],
        file_bytes: FileBytes | None,
    ) -> None:
        alone = [np.array([scores[block.id]]) for block in competing]
        kinds = [block.kind for block in competing]
        super().__init__(alone, pruning, kinds, decided=bool(fixed), scored=bool(scores))
        self.limits = Limits(self.sizes, np.zeros_like(self.sizes))
        self._units, self._blocks, self._competing, self._fixed, self._kept = units, blocks, competing, fixed, kept
        self._max_ratio = pruning.constraints.max_ratio
        self._bound = share(pruning.constraints.max_ratio, len(blocks.found), "floor")
        self._file_bytes = file_bytes
        self._known: dict[tuple[str, frozenset[str]], int] = {}
        self._elements = elements(units)

    @property
    def most(self) -> int:
        """Blocks that may go at most; what `layers` removed counts too."""
        return max(0, min(self._bound - len(self._fixed), len(self._competing)))

    def idle(self) -> str:
        """Why no block may go, as a sentence."""
        total = len(self._blocks.found)
        taken = min(len(self._blocks.closed([block]) - self._fixed) for block in self._competing)
        return (
            f"max_ratio {self._max_ratio} lets {self._bound} of {total} blocks go, and one counts {taken} with those "
            f"it takes along: give a max_ratio of {ceil(taken / total * 1e4) / 1e4} or more"
        )

    def beyond(self, share: float, asked: float) -> str:
        """Why only this share may go, as a sentence."""
        bound = f"max_ratio {self._max_ratio} lets {self._bound} of {len(self._blocks.found)} blocks go"
        return f"{bound}: a share of {share:.4g} of the {len(self._competing)} that compete, not {asked}"

    def allowed(self, wanted: Counts) -> Counts:
        """These blocks and what they take along; where that cannot go, those of them that fit, lowest first."""
        gone = self._gone(wanted)
        if not self._holds(gone):
            gone = self._fixed
            for index in sorted(np.flatnonzero(wanted).tolist(), key=lambda index: self.scores[index][0]):
                more = self._blocks.closed([*self._blocks.named(gone), self._competing[index]])
                gone = more if self._holds(more) else gone
        return np.array([block.id in gone for block in self._competing], dtype=np.int64)

    def _holds(self, gone: frozenset[str]) -> bool:
        """Whether `max_ratio`, rules of `layers` and the model's inputs let these go together."""
        within = len(gone) <= self._bound and gone.isdisjoint(self._kept)
        return within and self._blocks.feasible(self._blocks.named(gone))

    def within(self, wanted: int) -> Counts:
        """Lowest scores first; a block that would take along too many is passed over."""
        counts = self.none
        for index in np.argsort([scores[0] for scores in self.scores], kind="stable").tolist():
            more = counts.copy()
            more[index] = 1
            if (found := self.allowed(more))[index] and found.sum() <= wanted and (found >= counts).all():
                counts = found
        return counts

    def cost(self, measure: Measure, counts: Counts) -> Counts:
        """MACs, parameters, or bytes of all arrays."""
        rows = np.asarray(counts).reshape(-1, len(self._competing))
        found = [self._cost(measure, self._gone(row)) for row in rows]
        return np.array(found, dtype=np.int64).reshape(np.shape(counts)[:-1])

    def original(self, measure: Measure) -> int:
        """The same with every block in place; bytes are the file's where they can be told."""
        if measure == "size_bytes" and self._file_bytes is not None:
            return self._file_bytes(())
        return self._cost(measure, frozenset())

    def file_bytes(self, counts: Counts) -> int | None:
        """What the caller says of the file without these blocks."""
        return self._cost("file", self._gone(counts)) if self._file_bytes is not None else None

    def plan(self, counts: Counts) -> Plan:
        """The ids of the blocks that go, in the order in which they run."""
        gone = self._gone(counts)
        return Plan(structure="layer", layers=[block.id for block in self._blocks.found if block.id in gone])

    def _gone(self, counts: Counts) -> frozenset[str]:
        chosen = [block for block, flag in zip(self._competing, np.asarray(counts).tolist(), strict=True) if flag]
        return self._blocks.closed([*chosen, *self._blocks.named(self._fixed)])

    def _cost(self, measure: str, gone: frozenset[str]) -> int:
        if (measure, gone) not in self._known:
            self._known[measure, gone] = self._counted(measure, self._blocks.named(gone))
        return self._known[measure, gone]

    def _counted(self, measure: str, gone: Sequence[Block]) -> int:
        if measure == "file" and self._file_bytes is not None:
            return self._file_bytes(gone)
        if measure == "macs":
            return sum(self._blocks.macs(self._units, gone).values())
        left = self._blocks.layers(gone)
        return sum(
            self._elements[path] * (1 if measure == "parameters" else self._units.itemsize(path))
            for entry in self._units.layers
            if entry.name in left or not entry.name
            for path in entry.weights
        )
