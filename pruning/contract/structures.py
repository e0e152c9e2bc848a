"""What a structure takes: which criteria score it, and which rules and constraints say something of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pruning.contract.criteria import criteria

if TYPE_CHECKING:
    from pruning.contract.spec import Pruning

Scored = Literal["of_units", "of_weights", "of_blocks"]
_SCORED: dict[str, Scored] = {"weight": "of_weights", "layer": "of_blocks"}
_THINGS: dict[Scored, str] = {"of_units": "channels", "of_weights": "single weights", "of_blocks": "whole blocks"}


def misfit(pruning: Pruning) -> str | None:
    """What of a spec goes with another structure only, as a sentence; None where all goes together."""
    scored = _SCORED.get(pruning.structure, "of_units")
    criterion = pruning.criterion
    if not getattr(criterion, scored):
        other: Scored = "of_units" if criterion.of_units else "of_blocks"
        return (
            f"criterion {criterion.name} scores {_THINGS[other]}, not {_THINGS[scored]}: take one of "
            f"{', '.join(criteria(scored))}, or structure {'channel' if criterion.of_units else 'layer'}"
        )
    for key, rule in pruning.layers.items():
        if pruning.structure != "layer" and rule.remove is True:
            return f"layers: {key!r} takes whole blocks (remove: true), which is structure layer"
        if pruning.structure == "weight" and (rule.indices or rule.keep):
            return f"layers: {key!r} names unit indices, which structure weight does not have: give skip or ratio"
    return _misfit_of_blocks(pruning) if pruning.structure == "layer" else None


def _misfit_of_blocks(pruning: Pruning) -> str | None:
    for key, rule in pruning.layers.items():
        if rule.ratio is not None or rule.keep is not None or isinstance(rule.remove, list):
            return f"layers: {key!r} counts units, structure layer takes whole blocks: skip or remove: true"
    if pruning.scope != "global":
        return f"scope {pruning.scope} shares out the units of layers; blocks compete under scope global"
    if pruning.constraints.round_to > 1 or pruning.constraints.min_units > 1:
        return "round_to and min_units count units of a width; for structure layer give max_ratio alone"
    return None
