"""One line of the table: a time of ours over a time of something known, measured interleaved in one run."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """`ours` and `reference`: samples in `unit`, of what `name` and `over` say; `goal`: the ratio not to exceed."""

    name: str
    over: str
    ours: tuple[float, ...]
    reference: tuple[float, ...]
    goal: float | None = None
    unit: str = "s"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over median; None where there is no reference."""
        return median(self.ours) / median(self.reference) if self.reference else None

    @property
    def met(self) -> bool:
        """Whether the ratio is at most the goal, where there is one."""
        return self.goal is None or (self.ratio is not None and self.ratio <= self.goal)
