"""What an uploaded model turns out to be, from its graph and units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pruning import archive as archives
from pruning import avoided, block_selection, measures, rewiring, surgery
from pruning import units as unit_finder
from pruning.blocks import Block
from pruning.case import Case
from pruning.contract.inspection import BarrierInfo, BlockInfo, GroupInfo, Inspection, LayerInfo, Tensor
from pruning.contract.result import Warning
from pruning.keras.data import Port
from pruning.rules.trace import Structure


def inspection(case: Case, inputs: list[Port], outputs: list[Port], warnings: list[Warning]) -> Inspection:
    """Layers, groups, barriers, costs and the floors that pruning can reach. `case`: with normalised axes kept."""
    normalized = unit_finder.find(case.graph, case.archive.arrays, "prune", case.archive.bfloat16)
    elements = measures.elements(case.units)
    macs = measures.macs(case.units)
    kept, single = measures.staying(case.units), measures.single(case.units).values()
    return Inspection(
        keras_version=str(case.archive.metadata.get("keras_version", "unknown")),
        inputs=[_tensor(port) for port in inputs],
        outputs=[_tensor(port) for port in outputs],
        parameters=sum(elements.values()),
        macs=sum(macs.values()),
        layers=[
            LayerInfo(
                name=layer.name,
                class_name=layer.class_name,
                width=len(case.units.widths[layer.name]) if layer.name in case.units.widths else None,
                parameters=sum(elements[path] for path in layer.weights),
                macs=macs.get(layer.name, 0),
                output_shape=list(layer.output_shape) if layer.output_shape is not None else None,
                heads=len(case.units.heads[layer.name]) if layer.name in case.units.heads else None,
            )
            for layer in case.units.layers
        ],
        groups=[
            GroupInfo(
                id=group.id,
                width=len(group.units),
                layers=list(group.layers),
                prunable=group.id not in kept,
                coupled_because=group.coupled_because,
                kept_because=kept.get(group.id),
                structure=group.structure,
            )
            for group in case.units.groups
        ],
        barriers=[BarrierInfo(layer=b.layer, code=b.code, detail=b.detail) for b in (*case.units.barriers, *single)],
        compiled=compiled(case.archive.config),
        unknown_dimensions=list(case.graph.unknown_dimensions),
        floor=floor(case, "channel"),
        head_floor=floor(case, "head"),
        normalized_floor=floor(replace(case, units=normalized), "channel"),
        blocks=[_block(case, block, elements) for block in case.blocks.found],
        kept_blocks=[BarrierInfo(layer=b.layer, code=b.code, detail=b.detail) for b in case.blocks.barriers],
        layer_floor=layer_floor(case),
        warnings=warnings,
    )


def floor(case: Case, structure: Structure) -> dict[str, float]:
    """The least that channels or heads reach without constraints: one unit left in each prunable group.

    Two where a bias asks for it (`avoided`). Where the config holds a number for each unit it is the one that takes
    most room, so that jobs reach the bytes with any criterion.
    """
    units = unit_finder.only(case.units, structure)
    room = _room_in_config(case)
    gone = [np.delete(g.units, np.argmax(room[g.units])) for g in units.groups if g.barrier is None]
    removed = avoided.spared(units, np.concatenate(gone) if gone else measures.NONE)
    left = surgery.sketch(case.archive, case.graph, units, removed) if len(removed) else case.archive
    return {
        "macs": float(sum(measures.macs(units, removed).values())),
        "parameters": float(measures.parameters(units, removed)),
        "size_bytes": float(archives.size_bytes(left)),
    }


def _room_in_config(case: Case) -> NDArray[np.int64]:
    """Characters that the numbers of each unit take in the config."""
    room = np.zeros(case.units.count, np.int64)
    for constant in case.units.constants:
        numbers = np.moveaxis(np.asarray(surgery.at(case.archive.config, constant.location)), constant.axis, 0)
        for unit, own in zip(constant.ids.tolist(), numbers, strict=True):
            if unit >= 0:
                room[unit] += len(json.dumps(own.tolist()))
    return room


def layer_floor(case: Case) -> dict[str, float]:
    """The least that structure layer without constraints reaches: every block gone that can go with the others."""
    gone = block_selection.most(case.blocks)
    lost, elements = case.blocks.lost(gone), measures.elements(case.units)
    left = rewiring.apply(case.archive, case.blocks, gone) if gone else case.archive
    return {
        "macs": float(sum(case.blocks.macs(case.units, gone).values())),
        "parameters": float(
            sum(elements[path] for entry in case.units.layers if entry.name not in lost for path in entry.weights)
        ),
        "size_bytes": float(archives.size_bytes(left)),
    }


def _block(case: Case, block: Block, elements: Mapping[str, int]) -> BlockInfo:
    weights = {entry.name: entry.weights for entry in case.units.layers}
    return BlockInfo(
        id=block.id,
        kind=block.kind,
        layers=list(block.layers),
        parameters=sum(elements[path] for name in block.layers for path in weights.get(name, ())),
        macs=sum(measures.macs(case.units).values()) - sum(case.blocks.macs(case.units, [block]).values()),
        inside=block.inside,
    )


def compiled(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Loss and metrics of the compile config, functions by their names; None for a model that was not compiled."""
    found = config.get("compile_config")
    if not found or not found.get("loss"):
        return None
    return {"loss": _named(found["loss"]), "metrics": _named(found.get("metrics"))}


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.get("class_name") == "function":
            return value["config"]
        return {key: _named(item) for key, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list) else value


def _tensor(port: Port) -> Tensor:
    return Tensor(name=port.name, shape=[None, *port.shape], dtype=port.dtype)
