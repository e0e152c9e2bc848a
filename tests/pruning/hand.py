"""Units of small networks, made by hand: what `units.find` would say of them, with nothing read from a file."""

from __future__ import annotations

from math import prod

import numpy as np

from pruning.units import Axis, Barrier, Cost, Group, LayerEntry, Units

OUTPUT = Barrier("head", "model_output", "an output of the model")


class Network:
    """Layers are added with the ids that enter and leave them; ids in `pinned` have a barrier."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.count = 0
        self.axes: list[Axis] = []
        self.costs: list[Cost] = []
        self.layers: list[LayerEntry] = []
        self.widths: dict[str, np.ndarray] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.scales: set[str] = set()
        self.pinned: set[int] = set()

    def new(self, count: int) -> np.ndarray:
        self.count += count
        return np.arange(self.count - count, self.count)

    def conv(self, name, entering, leaving, positions=1, window=1) -> np.ndarray:
        """kernel (window, in, out) and bias; `entering`: ids or a plain size; `leaving`: ids or how many new ones."""
        leaving = self.new(leaving) if isinstance(leaving, int) else leaving
        kernel, bias = f"{name}/0", f"{name}/1"
        size = entering if isinstance(entering, int) else len(entering)
        self.arrays[kernel] = self.rng.normal(size=(window, size, len(leaving))).astype(np.float32)
        self.arrays[bias] = self.rng.normal(size=len(leaving)).astype(np.float32)
        if not isinstance(entering, int):
            self.axes.append(Axis(kernel, 1, entering, "consumer", name))
        self.axes += [Axis(kernel, 2, leaving, "producer", name), Axis(bias, 0, leaving, "follower", name)]
        ids = (leaving,) if isinstance(entering, int) else (entering, leaving)
        plain = size if isinstance(entering, int) else 1
        self.costs.append(Cost(name, positions * window * plain, ids, kernel, positions))
        self.widths[name] = leaving
        self.layers.append(LayerEntry(name, "Conv1D", (kernel, bias)))
        return leaving

    def norm(self, name, ids) -> np.ndarray:
        """gamma and beta; no MACs."""
        paths = tuple(f"{name}/{index}" for index in range(2))
        for path in paths:
            self.arrays[path] = self.rng.normal(size=len(ids)).astype(np.float32)
            self.axes.append(Axis(path, 0, ids, "follower", name))
        self.scales.add(paths[0])
        self.layers.append(LayerEntry(name, "BatchNormalization", paths))
        return ids

    def head(self, entering, outputs=3) -> Network:
        """A last layer whose units are pinned."""
        self.pinned |= set(self.conv("head", entering, outputs).tolist())
        return self

    def units(self) -> Units:
        makers: dict[int, tuple[str, ...]] = {}
        for axis in self.axes:
            if axis.role == "producer":
                for unit in np.unique(axis.ids[axis.ids >= 0]).tolist():
                    makers[unit] = (*makers.get(unit, ()), axis.layer)
        members: dict[tuple[tuple[str, ...], bool], list[int]] = {}
        for axis in self.axes:
            for unit in axis.ids[axis.ids >= 0].tolist() if axis.role == "producer" else []:
                of_group = members.setdefault((makers[unit], unit in self.pinned), [])
                if unit not in of_group:
                    of_group.append(unit)
        groups, used = [], dict[str, int]()
        for (producers, pinned), ids in members.items():
            used[producers[0]] = used.get(producers[0], 0) + 1
            number = used[producers[0]]
            touched = [axis.layer for axis in self.axes if np.isin(axis.ids, ids).any()]
            groups.append(
                Group(
                    id=producers[0] if number == 1 else f"{producers[0]}#{number}",
                    units=np.array(ids, dtype=np.int64),
                    producers=producers,
                    layers=tuple(dict.fromkeys(touched)),
                    coupled_because=None,
                    barrier=OUTPUT if pinned else None,
                )
            )
        return Units(
            count=self.count,
            axes=tuple(self.axes),
            costs=tuple(self.costs),
            groups=tuple(groups),
            barriers=(OUTPUT,) if self.pinned else (),
            widths=self.widths,
            sizes={path: array.shape for path, array in self.arrays.items()},
            dtypes={path: array.dtype for path, array in self.arrays.items()},
            layers=tuple(self.layers),
            resizes=(),
            constants=(),
            scales=frozenset(self.scales),
            tensors=(),
            vocabularies={},
        )


def chain(*widths: int, positions: int = 1, seed: int = 0) -> Network:
    """conv0, conv1, ... of these widths in a row on an input of 3 channels, then a pinned head."""
    network = Network(seed)
    ids = 3
    for index, width in enumerate(widths):
        ids = network.conv(f"conv{index}", ids, width, positions=positions)
    return network.head(ids)


def removed_of(units: Units, plan) -> np.ndarray:
    """The unit ids that a plan removes, in order of id."""
    groups = {group.id: group for group in units.groups}
    gone = [np.delete(groups[part.id].units, part.keep) for part in plan.groups]
    return np.sort(np.concatenate([np.empty(0, np.int64), *gone]))


def counted(units: Units, gone) -> tuple[int, int]:
    """(MACs, parameters) without these units, counted the slow way."""

    def kept(ids):
        return int((~np.isin(ids, gone)).sum())

    macs = sum(cost.multiplier * prod(kept(ids) for ids in cost.axes) for cost in units.costs)
    parameters = 0
    for path, shape in units.sizes.items():
        ids = {axis.axis: axis.ids for axis in units.axes if axis.weight == path}
        parameters += prod(kept(ids[axis]) if axis in ids else size for axis, size in enumerate(shape))
    return macs, parameters
