"""Work on many arrays, shared by threads: NumPy lets go of the interpreter while it reads or copies a large one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_MOST = 4  # each may hold copies of the array that it works on
Item = TypeVar("Item")
Result = TypeVar("Result")


def each(work: Callable[[Item], Result], items: Sequence[Item], size: Callable[[Item], int]) -> list[Result]:
    """What `work` makes of every item, in their order. Threads take the items in turn, by `size`, their elements."""
    hands = min(os.cpu_count() or 1, _MOST)
    by_size = sorted(range(len(items)), key=lambda index: size(items[index]), reverse=True)
    done: dict[int, Result] = {}

    def some(indices: Sequence[int]) -> None:
        done.update({index: work(items[index]) for index in indices})

    with ThreadPoolExecutor(hands) as pool:
        list(pool.map(some, (by_size[hand::hands] for hand in range(hands))))
    return [done[index] for index in range(len(items))]
