"""Every criterion under every scope on a real model: what is left at half the MACs, and after a little recovery.

`python -m benchmarks criteria [name ...]` writes the table into docs/criteria.md. It reads ResNet8 and CIFAR-10 from
`../shared/data` and does, for each seed, what a job does: evidence, plan, then `batch_norm` and `fine_tune`. The units
are masked instead of cut, which computes the same and is compiled once for all.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, get_args

from benchmarks.public import DATA
from pruning.contract.criteria import Criterion
from pruning.contract.spec import Scope

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "criteria.md"
BEGIN, END = "<!-- table: python -m benchmarks criteria -->", "<!-- end of table -->"
SCOPES: tuple[Scope, ...] = get_args(Scope)
SEEDS = (0, 1)
# The first images of each split; the costly fine-tuning is done under one scope alone.
TRAIN, VALIDATION, TEST = 2000, 500, 1000
TRAINED: Scope = "global"
STATISTICS: dict[str, Any] = {"stage": "batch_norm", "samples": 512}
TRAINING: dict[str, Any] = {"stage": "fine_tune", "epochs": 2, "distill": 0.0}
# (after surgery, after `batch_norm`, after `fine_tune` where that was done), accuracies on test
Accuracies = tuple[float, ...]
Key = tuple[str, Scope]
Prune = Callable[[Any, Scope, int, bool], Accuracies]


def main(names: Sequence[str]) -> int:
    """Measure the named criteria, or all, and write the table as it grows: scopes by one seed, then training."""
    members = [member for member in get_args(get_args(Criterion)[0]) if member.of_units]
    every = {get_args(member.model_fields["name"].annotation)[0]: member for member in members}
    if unknown := set(names) - set(every):
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(every)}\n")
        return 2
    chosen = {name: every[name](name=name) for name in names or every}
    found: dict[Key, list[Accuracies]] = {}
    with tempfile.TemporaryDirectory() as folder:
        prune = _bench(Path(folder))
        for name, criterion in chosen.items():
            for scope in SCOPES:
                _add(found, (name, scope), [prune(criterion, scope, SEEDS[0], False)])
        for name, criterion in chosen.items():
            _add(found, (name, TRAINED), [prune(criterion, TRAINED, seed, True) for seed in SEEDS])
    return 0


def _add(found: dict[Key, list[Accuracies]], key: Key, seeds: list[Accuracies]) -> None:
    found[key] = seeds
    sys.stderr.write(f"{' '.join(key)}: {seeds}\n")
    _write(found)


def _write(found: Mapping[Key, list[Accuracies]]) -> None:
    """The table on the page, in place of the one that is there: a scope after the other, the best of each first."""
    lines = [
        "| criterion | scope | after surgery | after `batch_norm` | after `fine_tune` |",
        "|---|---|---|---|---|",
    ]
    means = {key: [mean(values) for values in zip(*seeds, strict=True)] for key, seeds in found.items()}
    for (name, scope), values in sorted(means.items(), key=lambda item: (SCOPES.index(item[0][1]), -item[1][-1])):
        cells = [f"{value:.1%}" for value in values] + ["–"] * (3 - len(values))
        lines.append(f"| `{name}` | {scope} | {' | '.join(cells)} |")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", encoding="utf-8")


def _bench(folder: Path) -> Prune:
    """A function of criterion, scope and seed that prunes ResNet8 to half its MACs and says the test accuracies.

    Its last argument: whether to fine-tune.
    """
    import numpy as np

    from pruning import planning, surgery
    from pruning.contract.spec import BatchNormStage, FineTuneStage, Pruning, Spec, resolve
    from pruning.criteria import Evidence
    from pruning.keras import collect, data, live, pipeline, recover
    from pruning.keras import load as loading
    from pruning.keras.evaluate import evaluator
    from pruning.keras.objective import Loss, Metric, Objective
    from pruning.keras.recover import batch_norm

    path = folder / "resnet8.keras"
    pipeline.normalize(loading.load(DATA / "resnet8_cifar10.h5"), path)
    case = planning.study(planning.read(path))
    original = live.build(case.archive.config, case.archive.arrays)
    with data.opened(DATA / "cifar10_small.npz", original) as dataset:
        found = dataset.splits()
    sizes = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    splits = {name: _first(samples, sizes[name]) for name, samples in found.items()}
    loss = Loss("sparse_categorical_crossentropy")
    objective = Objective((loss,), (1.0,), (Metric("accuracy", "sparse_categorical_accuracy", 0),), "request")
    statistics = BatchNormStage.model_validate(STATISTICS)
    training = FineTuneStage.model_validate(TRAINING)
    estimate = batch_norm.estimator(original, splits["train"])
    score = evaluator(original, objective, splits["test"])
    ones = {path: np.ones_like(array) for path, array in case.archive.arrays.items()}
    seen: dict[tuple[str, int], Evidence] = {}

    def prune(criterion: Any, scope: Scope, seed: int, train: bool) -> Accuracies:
        target = {"type": "budget", "measure": "macs", "at_most_ratio": 0.5}
        given = Pruning.model_validate({"criterion": criterion.model_dump(), "scope": scope, "target": target})
        spec = resolve(Spec(pruning=given, recovery=[], seed=seed), (), has_labels=True)
        key = criterion.name, seed
        if key not in seen:
            seen[key] = collect.evidence(case, spec.pruning.criterion, splits["train"], objective, seed)
        chosen = planning.decide(case, planning.score(case, spec, seen[key]), spec.pruning)
        live.assign(original, surgery.mask(case.archive.arrays, case.units, chosen.removed))
        masks = {path: mask for path, mask in surgery.mask(ones, case.units, chosen.removed).items() if not mask.all()}
        context = recover.Context(
            original,
            splits["train"],
            lambda: score(splits["validation"], 250),
            objective,
            lambda *_: None,
            masks=masks,
            seed=seed,
        )
        accuracies = [score(splits["test"], 250).metrics["accuracy"]]
        estimate(statistics, context)
        accuracies.append(score(splits["test"], 250).metrics["accuracy"])
        if train:
            recover.run(training, context)
            accuracies.append(score(splits["test"], 250).metrics["accuracy"])
        return tuple(accuracies)

    return prune


def _first(samples: Any, count: int) -> Any:
    """The first samples of a split."""
    labels = tuple(replace(each, values=each.values[:count]) for each in samples.labels)
    return replace(samples, inputs=tuple(array[:count] for array in samples.inputs), labels=labels)
