"""The criteria: a score per unit, higher is kept. `GET /v1/methods` lists the members of `Criterion`.

A class' docstring names the source, its fields are the parameters, its class variables say what it needs to see and
what it can score. Its function is in `pruning.criteria`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from pruning.contract.base import Choice

Need = Literal["weights", "activations", "gradients"]


class Method(Choice):
    """What holds for every criterion unless it says otherwise: it sees the weights alone and scores units.

    `needs`: the evidence it has to see; activations need training inputs, gradients their labels too.
    `of_weights`: whether it also scores single weights.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"weights"})
    of_weights: ClassVar[bool] = False


class Comparable(Method):
    """What every criterion but `random` takes.

    `aggregation` joins what the layers of a coupled unit say of it; `normalization` makes the scores of different
    groups comparable before they compete under scope `global`. `auto` is `none` for weights, else `mean`.
    """

    aggregation: Literal["mean", "max", "none"] = "mean"
    normalization: Literal["auto", "none", "mean", "max", "standard", "sum", "lamp"] = "auto"


class L1(Comparable):
    """Sum of the absolute weights of a unit (Li et al. 2017, arXiv:1608.08710)."""

    name: Literal["l1"]
    of_weights: ClassVar[bool] = True


class L2(Comparable):
    """Euclidean norm of the weights of a unit (Han et al. 2015, arXiv:1506.02626, for single weights)."""

    name: Literal["l2"]
    of_weights: ClassVar[bool] = True


class MeanAbs(Comparable):
    """Mean of the absolute weights of a unit: L1 without the advantage of large kernels."""

    name: Literal["mean_abs"]
    of_weights: ClassVar[bool] = True


class BatchNormScale(Comparable):
    """Absolute scale (gamma) of the normalisation that follows a unit (Liu et al. 2017, arXiv:1708.06519)."""

    name: Literal["bn_scale"]


class Random(Method):
    """Uniform random scores from the job's seed: the baseline every criterion has to beat."""

    name: Literal["random"]
    of_weights: ClassVar[bool] = True


Criterion = Annotated[L1 | L2 | MeanAbs | BatchNormScale | Random, Field(discriminator="name")]


def weight_criteria() -> list[str]:
    """The names of the criteria that score single weights."""
    (members, *_) = get_args(Criterion)
    fitting = [member for member in get_args(members) if member.of_weights]
    return [get_args(member.model_fields["name"].annotation)[0] for member in fitting]
