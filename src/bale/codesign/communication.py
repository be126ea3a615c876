"""Which connections and which places of tiles make a network's traffic small? Sparsity and placement, on a chip.

Section 6 of the accelerator's model, our reconstruction of CANNON: the hardware room says which tile needs what; the
compression room, which knows tiles by number only, says what may go.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bale.compress import CommunicationAwareConfig, Config, Traffic, WeightTraffic, compress_
from bale.errors import MappingError
from bale.hardware import Chip, put_on_chip
from bale.hardware.noc.matrix_traffic import MatrixTraffic, matrix_traffic, tiles_of
from bale.hardware.noc.topology import mesh_of


def chip_traffic(
    model: nn.Module,
    chip: Chip | str | PathLike[str],
    sample: Tensor | tuple[Any, ...],
    nodes: np.ndarray | None = None,
) -> Traffic:
    """The traffic of a model on a chip, to be attached to a config: `CommunicationAwareConfig().on(traffic)`.

    Args:
        model: its Linear and Conv2d layers of one group are named; the traffic of others is not theirs to lower.
        chip: itself, a preset's name, or a file.
        sample: of one, what the model takes: a tensor [1, ...], or a tuple of arguments.
        nodes: int64 [tiles], the router that each logical tile stands at; by default the tiles follow one another
            through the mesh in snake order.

    The network lies on the chip in one copy, in the order of its calls. Raises MappingError where it has no room, or
    for `nodes` that the mesh has not.

    >>> from bale.models import LeNet5
    >>> traffic = chip_traffic(LeNet5(), "small_tiles", torch.zeros(1, 1, 28, 28))
    >>> list(traffic.weights), int(traffic.hops.max())
    (['conv1', 'conv2', 'fc1', 'fc2', 'fc3'], 12)
    """
    data = [sample] if isinstance(sample, tuple) else sample
    on_chip = put_on_chip(model, chip, data, copy=False)
    found = matrix_traffic(on_chip)
    tiles = tiles_of(found)
    mesh = mesh_of(on_chip.chip)
    router = on_chip.chip.tiles_per_router
    at = mesh.snake()[np.arange(tiles) // router] if nodes is None else np.asarray(nodes)
    if at.shape != (tiles,) or (at < 0).any() or (at >= mesh.nodes).any():
        raise MappingError(f"nodes: expected a router, 0 to {mesh.nodes - 1}, for each of {tiles} tiles")
    hops = mesh.hop_matrix()[np.ix_(at, at)]
    layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    named = {
        name or "weight": _as_tensors(found[name or type(layer).__name__])
        for name, layer in layers.items()
        if (name or type(layer).__name__) in found and getattr(layer, "groups", 1) == 1
    }
    return Traffic(torch.from_numpy(hops), named)


def with_traffic(
    configs: Sequence[Config], model: nn.Module, chip: Chip | str | PathLike[str], sample: Tensor | tuple[Any, ...]
) -> tuple[Config, ...]:
    """Methods that are to be stacked; those that look at traffic know that of the model as the ones before make it.

    The model stays as it is. Raises what `chip_traffic` raises, and `compress_` of the methods before.
    """
    trial, known = copy.deepcopy(model), list[Config]()
    for config in configs:
        if isinstance(config, CommunicationAwareConfig):
            config = config.on(chip_traffic(trial, chip, sample))
        known.append(config)
        if len(known) < len(configs):
            compress_(trial, config)
    return tuple(known)


def _as_tensors(matrix: MatrixTraffic) -> WeightTraffic:
    return WeightTraffic(
        sources=torch.from_numpy(matrix.sources),
        sent=torch.from_numpy(matrix.sent),
        tile=torch.from_numpy(matrix.tile),
        accumulator=torch.from_numpy(matrix.accumulator),
        positions=matrix.positions,
        input_bits=matrix.input_bits,
        sum_bits=matrix.sum_bits,
    )
