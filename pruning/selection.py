"""Scores and a target -> which channels go: a `Plan`. No model is built on the way; costs are counted (`tally`).

Units go in the order of their scope. A trial removes the first n of it, as far as the constraints let it; a target is
the n at which it is met, found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.bindings import Binding, bind
from pruning.competition import Competition, Ids, Scores
from pruning.contract.base import Record
from pruning.contract.errors import ContradictorySpec, InfeasibleTarget, NothingToPrune
from pruning.contract.plan import GroupPlan, Plan
from pruning.contract.spec import BudgetTarget, ManualTarget, Measure, Pruning, Quantile, RatioTarget, ThresholdTarget
from pruning.limits import Limits
from pruning.scopes import Counts, share, shares

if TYPE_CHECKING:
    from pruning.units import Group, Units

FileBytes: TypeAlias = Callable[[Ids], int]
Fits: TypeAlias = Callable[[Counts], NDArray[np.bool_]]


class Infeasible(InfeasibleTarget):
    """The target is out of reach; `plan` comes nearest to it and reaches `floor`, in the target's own terms."""

    def __init__(self, detail: str, plan: Plan, floor: float) -> None:
        super().__init__(detail, floor=floor)
        self.plan = plan
        self.floor = floor


def select(units: Units, scores: Scores, pruning: Pruning, file_bytes: FileBytes | None = None) -> Plan:
    """The channels that go: `scores` by group id, aligned with `group.units`, higher is kept.

    A group without scores keeps its units unless `layers` names their indices. Ratios count the units that compete: a
    group under a rule of `layers` does not. A ratio is met exactly, or under `round_to` as nearly as widths allow from
    below. A budget is met with the least removed: putting one more unit of any group back (under scope `layer`: the
    last one of the order) would exceed it. One that the original meets gives an empty plan.

    `file_bytes`: the exact size in bytes of the delivered file without these unit ids, for budgets on `size_bytes`;
    without it the arrays' bytes are counted.

    Raises `Infeasible`; `NothingToPrune` if nothing may go; what `bindings.bind` raises.
    """
    prunable = [group for group in units.groups if group.barrier is None]
    if not prunable:
        raise NothingToPrune(f"every unit of this model is kept: {_reasons(units)}")
    binding = bind(units, pruning.layers)
    fixed = _fixed(prunable, scores, pruning, binding)
    competing = [group for group in prunable if group.id in scores and group.id not in binding]
    race = Competition(units, competing, scores, pruning, fixed)
    counts = _TARGETS[type(pruning.target)](race, pruning.target, file_bytes)
    return plan_of(units, race.removed(counts))


def plan_of(units: Units, removed: Ids) -> Plan:
    """The plan that removes these unit ids: the groups that lose any, with the positions that stay."""
    gone = np.zeros(units.count, dtype=bool)
    gone[removed] = True
    return Plan(
        structure="channel",
        groups=[
            GroupPlan(
                id=group.id,
                layers=list(group.producers),
                width=len(group.units),
                keep=np.flatnonzero(~gone[group.units]).tolist(),
            )
            for group in units.groups
            if gone[group.units].any()
        ],
    )


def _reasons(units: Units) -> str:
    found = dict.fromkeys(f"{barrier.layer!r}: {barrier.detail}" for barrier in units.barriers)
    return "; ".join([*list(found)[:5], *(["..."] if len(found) > 5 else [])]) or "no layer produces units"


def _fixed(prunable: Sequence[Group], scores: Scores, pruning: Pruning, binding: Binding) -> Ids:
    """The unit ids that the rules of `layers` remove."""
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


def _refuse_idle(race: Competition) -> None:
    """Refuse where no unit may go, whatever the target; what `layers` fixes is something to prune."""
    if len(race.removed(race.none)):
        return
    if not len(race.sizes):
        raise NothingToPrune("no group competes: `layers` decides them all, or the criterion has no scores for them")
    if not race.allowed(race.sizes).any():
        widths = sorted(set(race.sizes.tolist()))
        raise NothingToPrune(f"min_units, max_ratio and round_to keep all units: the groups' widths are {widths}")


# --- targets: each finds the state of the competition at which it is met ------------------------------------------


def least(total: int, fits: Callable[[int], bool]) -> int:
    """The smallest n of 0 ... total with `fits(n)`, which holds for `total` and for all n above one that fits."""
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low


def _ratio(race: Competition, target: RatioTarget, _: FileBytes | None) -> Counts:
    """Scope `global`: this share of all units; `layer`: of each group. Never more, by `round_to` a little less."""
    _refuse_idle(race)
    if race.scope == "layer":
        counts = race.allowed(shares(target.value, race.sizes))
        reachable = bool((shares(target.value, race.sizes, "floor") <= race.limits.removable).all())
    else:
        total, most = race.order.total, int(race.limits.removable.sum())
        wanted = min(share(target.value, total), most)
        counts = race.after(least(total + 1, lambda n: n > total or int(race.after(n).sum()) > wanted) - 1)
        reachable = share(target.value, total, "floor") <= most
    if not reachable:
        floor = float(counts.sum() / race.sizes.sum())
        detail = f"min_units and max_ratio let a share of {floor:.4g} go under scope {race.scope}, not {target.value}"
        raise Infeasible(detail, plan_of(race.units, race.removed(counts)), floor)
    return counts


def _threshold(race: Competition, target: ThresholdTarget, _: FileBytes | None) -> Counts:
    """What scores below the number or the quantile; scope `layer` takes the quantile of each group's own scores."""
    _refuse_idle(race)
    if not race.scores:
        return race.none
    if isinstance(target.value, float):
        cuts = [target.value] * len(race.scores)
    else:
        q = target.value.quantile if isinstance(target.value, Quantile) else 0.5
        pools = race.scores if race.scope == "layer" else [np.concatenate(race.scores)] * len(race.scores)
        cuts = [float(np.quantile(pool, q)) for pool in pools]
    below = [int(scores.searchsorted(cut)) for scores, cut in zip(race.scores, cuts, strict=True)]
    return race.allowed(np.array(below, dtype=np.int64))


def _manual(race: Competition, _: ManualTarget, __: FileBytes | None) -> Counts:
    """Nothing but what `layers` fixes."""
    return race.none


def _budget(race: Competition, target: BudgetTarget, file_bytes: FileBytes | None) -> Counts:
    """The least removal that fits."""
    by_file = file_bytes if target.measure == "size_bytes" else None
    original = by_file(np.empty(0, dtype=np.int64)) if by_file else race.original(target.measure)
    limit = share(target.at_most_ratio, original, "floor") if target.at_most_ratio else target.at_most or 0.0
    counts = _fit_file(race, limit, by_file) if by_file else _fit(race, target.measure, limit)
    if counts is None:
        _refuse_idle(race)
        most = race.after(race.order.total)
        floor = by_file(race.removed(most)) if by_file else int(race.cost(target.measure, most))
        detail = f"{target.measure} of {floor} is the least under these constraints; at most {limit:.10g} was asked"
        raise Infeasible(detail, plan_of(race.units, race.removed(most)), floor)
    return counts


def _fit(race: Competition, measure: Measure, limit: float) -> Counts | None:
    """The state with the least removed that costs at most `limit`; None if there is none."""

    def fits(counts: Counts) -> NDArray[np.bool_]:
        return race.cost(measure, counts) <= limit

    if not fits(race.after(race.order.total)):
        return None
    counts = race.after(least(race.order.total, lambda n: bool(fits(race.after(n)))))
    return counts if race.scope == "layer" else _put_back(race, counts, fits)


def _put_back(race: Competition, counts: Counts, fits: Fits) -> Counts:
    """Put units back, the best first, until one more of any group would no longer fit.

    The last unit of the order may have been costly and left room for others. Groups of which not one unit fits any more
    are set; the others go back along the order as far as fits, then the next group is set.
    """
    settled = counts == 0
    while not settled.all():
        free = np.flatnonzero(~settled)
        one_back = np.stack([race.allowed(counts - (np.arange(len(counts)) == group)) for group in free])
        settled[free] = ~fits(one_back)
        further = _back_along_order(race, counts, settled, fits)
        if np.array_equal(further, counts):
            break
        counts = further
        settled |= counts == 0
    return counts


def _back_along_order(race: Competition, counts: Counts, settled: NDArray[np.bool_], fits: Fits) -> Counts:
    """The state on the way back from `counts`, without touching settled groups, that removes least and fits."""

    def back(n: int) -> Counts:
        return race.allowed(np.where(settled, counts, np.minimum(counts, race.order.counts(n))))

    return back(least(race.order.total, lambda n: bool(fits(back(n)))))


def _fit_file(race: Competition, limit: float, file_bytes: FileBytes) -> Counts | None:
    """`_fit` on the file's exact bytes: found on the arrays' bytes plus what the file adds, which is then corrected."""
    counts = race.none
    tried: dict[bytes, tuple[int, Counts]] = {}
    while counts.tobytes() not in tried and len(tried) < 8:
        size = file_bytes(race.removed(counts))
        if size <= limit and not counts.any():
            return counts
        tried[counts.tobytes()] = (size, counts)
        room = limit - (size - int(race.cost("size_bytes", counts)))
        found = _fit(race, "size_bytes", room)
        counts = race.after(race.order.total) if found is None else found
    fitting = [(size, index) for index, (size, _) in enumerate(tried.values()) if size <= limit]
    return list(tried.values())[max(fitting)[1]][1] if fitting else None


_TARGETS: dict[type[Record], Callable[[Competition, Any, FileBytes | None], Counts]] = {
    RatioTarget: _ratio,
    ThresholdTarget: _threshold,
    ManualTarget: _manual,
    BudgetTarget: _budget,
}
