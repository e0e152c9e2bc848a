"""What the user's `layers` says of a model: which rule holds for which layer, and what that fixes.

A rule binds whatever the target says: a group of coupled units under `skip`, `ratio`, `remove` or `keep` is decided by
that alone and no longer competes. `remove` and `keep` are exact: these go, or exactly these stay, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.contract.errors import ContradictorySpec, InvalidSpec, LayerNotFound, NothingToPrune, TargetOutOfRange
from pruning.contract.spec import LayerRule

if TYPE_CHECKING:
    from pruning.units import Group, Units

Ids: TypeAlias = NDArray[np.int64]
NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Match:
    """The rule that holds for one layer, and the key of `layers` that says so."""

    layer: str
    key: str
    rule: LayerRule

    @property
    def exact(self) -> bool:
        """Whether the key is the layer's own name and not a pattern."""
        return self.key == self.layer


@dataclass(frozen=True)
class Claim:
    """What the rule on one of its layers asks of a group: a share, or units that go and units named as staying."""

    match: Match
    gone: Ids
    kept: Ids

    @property
    def by_index(self) -> bool:
        """Whether the rule chooses by index."""
        return self.match.rule.remove is not None or self.match.rule.keep is not None

    def __str__(self) -> str:
        rule = self.match.rule
        said = "skip" if rule.skip else f"ratio {rule.ratio}" if rule.ratio is not None else "indices"
        return f"{said} for layer {self.match.layer!r} (key {self.match.key!r})"


@dataclass(frozen=True)
class Binding:
    """What the rules fix, by group id: groups that stay, groups that lose a share, groups that lose these units."""

    skipped: frozenset[str]
    shares: dict[str, float]
    removed: dict[str, Ids]

    def __contains__(self, group: str) -> bool:
        """Whether the group is decided and no longer competes."""
        return group in self.skipped or group in self.shares or group in self.removed


def matches(names: Iterable[str], rules: Mapping[str, LayerRule]) -> dict[str, Match]:
    """The rule of each layer that has one: an exact name beats a pattern (shell-style, case matters).

    Raises `LayerNotFound` for a key that matches no layer, `ContradictorySpec` where patterns disagree on a layer.
    """
    names = list(names)
    found: dict[str, Match] = {}
    for key, rule in rules.items():
        layers = [key] if key in names else [name for name in names if fnmatchcase(name, key)]
        if not layers:
            close = get_close_matches(key, names, n=3) or names[:5]
            raise LayerNotFound(
                f"layers: {key!r} matches no layer of this model; there are {', '.join(close)} and others"
            )
        for layer in layers:
            match, other = Match(layer, key, rule), found.get(layer)
            if other is None or match.exact:
                found[layer] = match
            elif not other.exact and other.rule != rule:
                raise ContradictorySpec(
                    f"layers: {other.key!r} and {key!r} both match {layer!r} and differ; add a rule named {layer!r}"
                )
    return found


def bind(units: Units, rules: Mapping[str, LayerRule]) -> Binding:
    """What the rules fix on the units of a model; indices are positions on the layer's width.

    Units go with everything coupled to them. A pattern binds the producers among the layers that it matches, and the
    others (depthwise convolutions, say) only where it matches no producer. On coupled layers an exact name beats a
    pattern, but nothing beats `skip` on another layer.

    Raises `LayerNotFound`, `TargetOutOfRange` (an index beyond the layer), `ContradictorySpec` (rules that cannot both
    hold, a layer emptied), `NothingToPrune` (a rule removes what a barrier keeps; the barrier's reason is given),
    `InvalidSpec` (`skip` where there is nothing to skip, such as a sum: it would protect nothing, silently).
    """
    if not rules:
        return Binding(frozenset(), {}, {})
    claims: dict[str, list[Claim]] = {}
    for match in _binding(units, matches([entry.name for entry in units.layers], rules)):
        for group, claim in _claims(units, match):
            claims.setdefault(group.id, []).append(claim)
    active = {group: _settled(group, of_group) for group, of_group in claims.items()}
    binding = Binding(
        frozenset(group for group, kept in active.items() if kept[0].match.rule.skip),
        {group: kept[0].match.rule.ratio for group, kept in active.items() if kept[0].match.rule.ratio is not None},
        {
            group: np.unique(np.concatenate([c.gone for c in kept]))
            for group, kept in active.items()
            if kept[0].by_index
        },
    )
    _refuse_emptied(units, binding.removed)
    return binding


def width_of(units: Units, layer: str) -> Ids:
    """The ids along a layer's width; a normalisation's are those of its vectors; empty for a layer without any."""
    if layer in units.widths:
        return units.widths[layer]
    return next((axis.ids for axis in units.axes if axis.layer == layer and axis.role == "follower"), NONE)


def groups_on(units: Units, layer: str) -> list[Group]:
    """The groups on a layer's width, and for a layer without arrays (a sum, an activation) those that pass it."""
    if not len(ids := width_of(units, layer)):
        return [group for group in units.groups if layer in group.layers]
    return [units.groups[index] for index in np.unique(units.owners[ids]) if index >= 0]


def groups_of(units: Units, layer: str) -> list[Group]:
    """The groups on a layer's width and those that it makes beside it, such as an attention's key dimensions."""
    on_width = groups_on(units, layer)
    known = {group.id for group in on_width}
    return on_width + [group for group in units.groups if layer in group.producers and group.id not in known]


def reason(units: Units, layer: str) -> str:
    """Why nothing of this layer can go: the barrier's sentence, as a clause."""
    on_layer = [group.barrier for group in groups_on(units, layer)]
    barriers = [one for one in on_layer if one] or [one for one in units.barriers if one.layer == layer]
    if barriers:
        return f"layer {layer!r} keeps its units: {barriers[0].detail} (at {barriers[0].layer!r})"
    return f"layer {layer!r} has no units that could be removed"


def _binding(units: Units, found: dict[str, Match]) -> list[Match]:
    """The matches that bind, of a pattern's the producers if there are any; refuses a share of what is all pinned."""
    producers = {layer for group in units.groups for layer in group.producers}
    producing = {match.key for match in found.values() if match.layer in producers}
    bound = [m for m in found.values() if m.exact or m.layer in producers or m.key not in producing]
    met = {match.key for match in bound if groups_on(units, match.layer)}
    if idle := [match for match in bound if match.rule.skip and match.key not in met]:
        raise InvalidSpec(f"layers: {idle[0].key!r} has no units of its own to skip; name the layers that make them")
    open_keys = {match.key for match in bound if _open(units, match.layer)}
    for match in bound:
        if match.key not in open_keys and (match.rule.ratio or match.rule.remove or match.rule.keep):
            _indexed(match, width_of(units, match.layer))
            raise NothingToPrune(f"layers: {match.key!r} asks to remove units, but {reason(units, match.layer)}")
    return bound


def _open(units: Units, layer: str) -> list[Group]:
    return [group for group in groups_of(units, layer) if group.barrier is None]


def _claims(units: Units, match: Match) -> list[tuple[Group, Claim]]:
    """What one match asks of the prunable groups on its layer's width."""
    gone, kept = _indexed(match, width_of(units, match.layer))
    groups = _open(units, match.layer)
    if len(np.setdiff1d(gone, np.concatenate([NONE, *(group.units for group in groups)]))):
        raise NothingToPrune(f"layers: {match.key!r} asks to remove units, but {reason(units, match.layer)}")
    return [
        (group, Claim(match, np.intersect1d(gone, group.units), np.intersect1d(kept, group.units))) for group in groups
    ]


def _indexed(match: Match, ids: Ids) -> tuple[Ids, Ids]:
    """(ids of the units that the rule removes, ids that it names as staying); -1 is a place without a unit."""
    remove, keep = match.rule.indices, match.rule.keep or []
    if beyond := [index for index in (*remove, *keep) if index >= len(ids)]:
        count = f"{len(ids)} units (from 0)" if len(ids) else "no units of its own: name the layers that make them"
        raise TargetOutOfRange(f"layers: {match.key!r} names index {beyond[0]}, but layer {match.layer!r} has {count}")
    gone, kept = ids[np.array(remove, dtype=np.int64)], ids[np.array(keep, dtype=np.int64)]
    if keep:
        others = np.delete(ids, np.array(keep, dtype=np.int64))
        gone = np.concatenate([gone, others[~np.isin(others, kept[kept >= 0])]])
    return gone, kept


def _settled(group: str, claims: list[Claim]) -> list[Claim]:
    """The claims that hold for a group: all of one kind and in agreement, else `ContradictorySpec`."""
    active = [claim for claim in claims if claim.match.exact] or claims
    skips = [claim for claim in claims if claim.match.rule.skip]
    if skips:
        _refuse(group, ((skips[0], other) for other in active if other.match.rule.ratio or len(other.gone)))
        return skips
    first = active[0]
    _refuse(group, ((first, other) for other in active if other.match.rule.ratio != first.match.rule.ratio))
    _refuse(group, ((a, b) for a in active for b in active if len(np.intersect1d(a.gone, b.kept))))
    return active


def _refuse(group: str, contradictions: Iterable[tuple[Claim, Claim]]) -> None:
    for one, other in contradictions:
        raise ContradictorySpec(
            f"layers: {one} and {other} cannot both hold: the units of group {group!r} stand and fall together"
        )


def _refuse_emptied(units: Units, removed: Mapping[str, Ids]) -> None:
    gone = np.concatenate([NONE, *removed.values()])
    for layer, ids in units.widths.items():
        if len(ids) and np.isin(ids, gone).all():
            raise ContradictorySpec(f"layers: every unit of layer {layer!r} would be removed; at least one has to stay")
