"""Scores and a target -> which channels go: a `Plan`. No model is built on the way; costs are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pruning.bindings import Binding, bind
from pruning.competition import Channels, FileBytes, Ids, Scores
from pruning.contract.errors import ContradictorySpec, NothingToPrune
from pruning.contract.plan import Plan
from pruning.contract.spec import Pruning
from pruning.limits import Limits
from pruning.measures import staying
from pruning.scopes import share, shares
from pruning.targets import Infeasible, meet

if TYPE_CHECKING:
    from pruning.units import Group, Units

__all__ = ["Infeasible", "kept_because", "select"]


def select(units: Units, scores: Scores, pruning: Pruning, file_bytes: FileBytes | None = None) -> Plan:
    """The channels that stay: `scores` by group id, aligned with `group.units`, higher is kept.

    A group without scores keeps its units unless `layers` names their indices. Ratios count the units that compete: a
    group under a rule of `layers` does not. A ratio is met exactly, or under `round_to` as nearly as widths allow from
    below. A budget is met with the least removed: one more unit of any group (of several classes: the last one of the
    order) would exceed it; one that the model as it came meets removes nothing.

    `file_bytes`: the exact size in bytes of the delivered file without these unit ids, for budgets on `size_bytes`;
    without it the arrays' bytes are counted.

    Raises `Infeasible`; `NothingToPrune` if nothing may go; what `bindings.bind` raises.
    """
    prunable = [group for group in units.groups if group.barrier is None]
    if not prunable:
        raise NothingToPrune(_nothing(units, pruning.structure))
    binding = bind(units, pruning.layers)
    fixed = _fixed(prunable, scores, pruning, binding)
    competing = [group for group in prunable if group.id in scores and group.id not in binding]
    return meet(pruning.target, Channels(units, competing, scores, pruning, fixed, file_bytes))


def kept_because(units: Units, scores: Scores, pruning: Pruning) -> dict[str, str]:
    """Why units stay whatever the target, by group id: a barrier, a single unit, `skip`, or no evidence for scores."""
    found = staying(units)
    if pruning.target.type == "plan":
        return found
    binding = bind(units, pruning.layers)
    for group in units.groups:
        if group.id in binding.skipped:
            found.setdefault(group.id, "skipped by `layers`")
        elif group.id not in scores and group.id not in binding:
            found.setdefault(group.id, f"criterion {pruning.criterion.name} finds nothing to score it by")
    return found


def _nothing(units: Units, structure: str) -> str:
    """Why no unit of the structure may go."""
    if structure == "head":
        if not units.heads:
            return "this model has no heads: they are those of MultiHeadAttention and GroupQueryAttention layers"
        barriers = [g.barrier for g in units.groups if g.structure == "head" and g.barrier is not None]
    else:
        barriers = list(units.barriers)
    found = list(dict.fromkeys(f"{barrier.layer!r}: {barrier.detail}" for barrier in barriers))
    reasons = "; ".join([*found[:5], *(["..."] if len(found) > 5 else [])])
    return f"every unit of this model is kept: {reasons or 'no layer of a known class makes units'}"


def _fixed(prunable: Sequence[Group], scores: Scores, pruning: Pruning, binding: Binding) -> Ids:
    """The unit ids that the rules of `layers` remove; `round_to` does not bind what was named by index."""
    gone = [np.empty(0, dtype=np.int64)]
    for group in prunable:
        limits = Limits.of(np.array([len(group.units)]), pruning.constraints)
        if (ids := binding.removed.get(group.id)) is not None:
            _hold(group, limits, len(ids))
            gone.append(ids)
        if ratio := binding.shares.get(group.id):
            if group.id not in scores:
                raise NothingToPrune(
                    f"layers: a ratio of {ratio} for {group.id!r} needs scores, and the criterion "
                    f"{pruning.criterion.name} has none for it"
                )
            _hold(group, limits, share(ratio, len(group.units), "floor"))
            count = int(limits.allowed(shares(ratio, limits.sizes))[0])
            gone.append(group.units[np.argsort(scores[group.id], kind="stable")[:count]])
    return np.concatenate(gone)


def _hold(group: Group, limits: Limits, lost: int) -> None:
    if lost > limits.removable[0]:
        raise ContradictorySpec(
            f"layers: {lost} of the {len(group.units)} units of {group.id!r} would go, but min_units and max_ratio "
            f"keep {limits.least[0]}"
        )
