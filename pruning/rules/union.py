"""The union of unit ids: which of them are one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def unite(labels: npt.NDArray[np.int64], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> None:
    """Make labels[first[i]] == labels[second[i]], in place: the smallest id of a class is its label.

    Roots are hooked to smaller roots, then paths are halved until all are flat; each round joins at least half of the
    classes that still have to meet.
    """
    while True:
        a, b = labels[first], labels[second]
        apart = a != b
        if not apart.any():
            return
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(labels, up := labels[labels]):
            labels[:] = up
