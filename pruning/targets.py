"""How far to go: each target finds the state of a competition at which it is met, by bisection along the order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pruning.competition import Competition, Floats, least
from pruning.contract.base import Record
from pruning.contract.errors import InfeasibleTarget, NothingToPrune
from pruning.contract.plan import Plan
from pruning.contract.spec import BudgetTarget, ManualTarget, Measure, Quantile, RatioTarget, Target, ThresholdTarget
from pruning.scopes import Counts, share, shares

Fits: TypeAlias = Callable[[Counts], NDArray[np.bool_]]
# What a unit changes in a file beside its arrays: digits of widths in the config.
_AROUND_BYTES = 64


class Infeasible(InfeasibleTarget):
    """The target is out of reach; `plan` comes nearest to it and reaches `floor`, in the target's own terms."""

    def __init__(self, detail: str, plan: Plan, floor: float) -> None:
        super().__init__(detail, floor=floor)
        self.plan = plan
        self.floor = floor


def meet(target: Target, race: Competition) -> Plan:
    """The plan that meets a target. Raises `Infeasible`; `NothingToPrune` if a target asks and no unit may go."""
    return race.plan(_TARGETS[type(target)](target, race))


def _refuse_idle(race: Competition) -> None:
    """Refuse where no unit may go, whatever the target; what `layers` decided is something to prune."""
    if race.decided:
        return
    if not len(race.sizes) or not race.allowed(race.sizes).any():
        raise NothingToPrune(race.nothing())


def _ratio(target: RatioTarget, race: Competition) -> Counts:
    """This share of all units, and under scope `layer` of each bucket. Never more; by `round_to` a little less."""
    _refuse_idle(race)
    if race.scope == "layer":
        counts = race.allowed(shares(target.value, race.sizes))
        reachable = bool((shares(target.value, race.sizes, "floor") <= race.limits.removable).all())
    else:
        counts = race.within(min(share(target.value, race.order.total), race.most))
        reachable = share(target.value, race.order.total, "floor") <= race.most
    if not reachable:
        floor = float(counts.sum() / race.sizes.sum())
        raise Infeasible(race.beyond(floor, target.value), race.plan(counts), floor)
    return counts


def _threshold(target: ThresholdTarget, race: Competition) -> Counts:
    """What scores below the number or the quantile, which is that of the scores of a bucket's class."""
    _refuse_idle(race)
    if not race.scores:
        return race.none
    if isinstance(target.value, float):
        cuts = [target.value] * len(race.scores)
    else:
        q = target.value.quantile if isinstance(target.value, Quantile) else 0.5
        pools: list[list[Floats]] = [[] for _ in range(int(race.classes.max()) + 1)]
        for number, scores in zip(race.classes, race.scores, strict=True):
            pools[number].append(scores)
        of_class = [float(np.quantile(np.concatenate(pool), q)) for pool in pools]
        cuts = [of_class[number] for number in race.classes]
    below = [int(scores.searchsorted(cut)) for scores, cut in zip(race.scores, cuts, strict=True)]
    return race.allowed(np.array(below, dtype=np.int64))


def _manual(_: ManualTarget, race: Competition) -> Counts:
    """Nothing but what `layers` decided."""
    return race.none


def _budget(target: BudgetTarget, race: Competition) -> Counts:
    """The least removal that fits; nothing where the model as it came fits."""
    limit: float = target.at_most or 0.0
    if target.at_most_ratio is not None:
        limit = share(target.at_most_ratio, race.original(target.measure), "floor")
    by_file = target.measure == "size_bytes" and race.file_bytes(race.none) is not None
    counts = _fit_file(race, limit) if by_file else _fit(race, target.measure, limit)
    if counts is None:
        _refuse_idle(race)
        most = race.after(race.order.total)
        floor = race.file_bytes(most) if by_file else int(race.cost(target.measure, most))
        detail = f"{target.measure} cannot fall below {floor} under these constraints; at most {limit:.12g} was asked"
        raise Infeasible(detail, race.plan(most), float(floor or 0))
    return counts


def _fit(race: Competition, measure: Measure, limit: float) -> Counts | None:
    """The state with the least removed that costs at most `limit`; None if there is none."""

    def fits(counts: Counts) -> NDArray[np.bool_]:
        return race.cost(measure, counts) <= limit

    total = race.order.total
    if not fits(race.after(total)):
        return None
    counts = race.after(least(total, lambda n: bool(fits(race.after(n)))))
    return _put_back(race, counts, fits) if race.scope == "global" else counts


def _put_back(race: Competition, counts: Counts, fits: Fits) -> Counts:
    """Put units back, the best first, until one more of any bucket would no longer fit.

    The last unit of the order may have been costly and left room for others. Buckets of which not one more fits are
    settled; the others go back along the order as far as fits, which settles the next.
    """
    settled = counts == 0
    while not settled.all():
        free = np.flatnonzero(~settled)
        one_back = np.stack([race.allowed(counts - (np.arange(len(counts)) == bucket)) for bucket in free])
        settled[free] = ~fits(one_back)
        further = _back_along_order(race, counts, settled, fits)
        if np.array_equal(further, counts):
            break
        counts = further
        settled |= counts == 0
    return counts


def _back_along_order(race: Competition, counts: Counts, settled: NDArray[np.bool_], fits: Fits) -> Counts:
    """The state on the way back from `counts` that removes least and fits; settled buckets do not move."""

    def back(n: int) -> Counts:
        return race.allowed(np.where(settled, counts, np.minimum(counts, race.order.counts(n))))

    return back(least(race.order.total, lambda n: bool(fits(back(n)))))


def _fit_file(race: Competition, limit: float) -> Counts | None:
    """`_fit` on the file's exact bytes: found on the arrays' bytes plus what the file adds, which is then corrected."""
    counts = race.none
    tried: dict[bytes, tuple[int, Counts]] = {}
    while counts.tobytes() not in tried and len(tried) < 8:
        size = race.file_bytes(counts) or 0
        if size <= limit and not counts.any():
            return counts
        tried[counts.tobytes()] = (size, counts)
        found = _fit(race, "size_bytes", limit - (size - int(race.cost("size_bytes", counts))))
        counts = race.after(race.order.total) if found is None else found
    fitting = [state for state in tried.values() if state[0] <= limit]
    return _fill_file(race, max(fitting, key=lambda state: state[0])[1], limit) if fitting else None


def _fill_file(race: Competition, counts: Counts, limit: float) -> Counts:
    """Put units back while the file's exact bytes fit, the best first; only those whose arrays nearly fit are tried."""
    while True:
        room = limit - (race.file_bytes(counts) or 0) + int(race.cost("size_bytes", counts)) + _AROUND_BYTES
        near = [state for state in _one_back(race, counts) if race.cost("size_bytes", state) <= room]
        fitting = (state for state in near if (race.file_bytes(state) or 0) <= limit)
        if (further := next(fitting, None)) is None:
            return counts
        counts = further


def _one_back(race: Competition, counts: Counts) -> list[Counts]:
    """The states with one step less removed: the best unit of a bucket back, or the last where scope is not global."""
    if race.scope != "global":
        n = least(race.order.total, lambda n: bool((race.after(n) >= counts).all()))
        states = [race.after(n - 1)] if n else []
    else:
        best_first = np.argsort(-race.order.last(counts), kind="stable")
        states = [race.allowed(counts - (np.arange(len(counts)) == bucket)) for bucket in best_first if counts[bucket]]
    return [state for state in states if state.sum() < counts.sum()]


_TARGETS: dict[type[Record], Callable[[Any, Any], Counts]] = {
    RatioTarget: _ratio,
    ThresholdTarget: _threshold,
    ManualTarget: _manual,
    BudgetTarget: _budget,
}
