"""What has a network to send between the tiles of a chip? Its traffic as tensors, for methods that lower it.

Section 6 of the accelerator's model, our reconstruction of CANNON: the hardware room says which tile needs what; the
compression room, which knows tiles by number only, says what may go.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bale.compress import CommunicationAwareConfig, Config, Traffic, WeightTraffic, all_weights, compress_
from bale.errors import MappingError
from bale.hardware import Chip, put_on_chip
from bale.hardware.noc.matrix_traffic import MatrixTraffic, matrix_traffic, tile_flows, tiles_of
from bale.hardware.noc.topology import Mesh, mesh_of

Sample = Tensor | tuple[Any, ...]
ChipSource = Chip | str | PathLike[str]


def chip_traffic(model: nn.Module, chip: ChipSource, sample: Sample, nodes: np.ndarray | None = None) -> Traffic:
    """The traffic of a model on a chip, to be attached to a config: `CommunicationAwareConfig().on(traffic)`.

    Args:
        model: its Linear and Conv2d layers of one group are named, no subclasses, which compression leaves as they
            are; the traffic of others is not theirs to lower.
        chip: itself, a preset's name, or a file.
        sample: one, as the model takes it: a tensor [1, ...], or a tuple of arguments.
        nodes: int64 [tiles], the router that each logical tile stands at; by default the tiles follow one another
            through the mesh in snake order.

    The network lies on the chip in one copy, in the order of its calls. Raises MappingError where it has no room, or
    for `nodes` that the mesh has not.

    >>> from bale.models import LeNet5
    >>> traffic = chip_traffic(LeNet5(), "small_tiles", torch.zeros(1, 1, 28, 28))
    >>> list(traffic.weights), len(traffic.hops)
    (['conv1', 'conv2', 'fc1', 'fc2', 'fc3'], 37)
    """
    laid = Laid.on(model, chip, sample)
    return laid.traffic(laid.snake() if nodes is None else nodes)


def with_traffic(configs: Sequence[Config], model: nn.Module, chip: ChipSource, sample: Sample) -> tuple[Config, ...]:
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


@dataclass(frozen=True, eq=False)
class Laid:
    """A model's matrices in the tiles of a chip, one copy of each, and the routers that tiles can stand at.

    matrices  what each matrix receives and sends, by its name in the network
    named     the same of Linear and Conv2d layers of one group, by the name that compression has for the weight
    tiles     logical ones, in the order of the mapping
    shared    tiles that a router has room for
    """

    matrices: Mapping[str, MatrixTraffic]
    named: Mapping[str, MatrixTraffic]
    mesh: Mesh
    tiles: int
    shared: int

    @classmethod
    def on(cls, model: nn.Module, chip: ChipSource, sample: Sample) -> Laid:
        """Lay a model on a chip; the arguments and errors are those of `chip_traffic`."""
        on_chip = put_on_chip(model, chip, [sample] if isinstance(sample, tuple) else sample, copy=False)
        matrices = matrix_traffic(on_chip)
        named, known = dict[str, MatrixTraffic](), all_weights(model)
        for name, layer in model.named_modules():
            matrix = matrices.get(name or type(layer).__name__)
            plain = isinstance(layer, nn.Linear | nn.Conv2d) and getattr(layer, "groups", 1) == 1
            if matrix is not None and plain and (name or "weight") in known:
                named[name or "weight"] = matrix
        return cls(matrices, named, mesh_of(on_chip.chip), tiles_of(matrices), on_chip.chip.tiles_per_router)

    def snake(self) -> np.ndarray:
        """int64 [tiles], the router of each tile where they follow one another through the mesh."""
        return self.mesh.snake()[np.arange(self.tiles) // self.shared]

    def hops(self, nodes: np.ndarray) -> np.ndarray:
        """int64 [tiles, tiles], links between tiles that stand at these routers; raises MappingError for others."""
        at = np.asarray(nodes)
        if at.shape != (self.tiles,) or (at < 0).any() or (at >= self.mesh.nodes).any():
            raise MappingError(f"nodes: expected a router, 0 to {self.mesh.nodes - 1}, for each of {self.tiles} tiles")
        most = int(np.bincount(at).max())
        if most > self.shared:
            raise MappingError(f"nodes: {most} tiles at router {np.bincount(at).argmax()}, which has {self.shared}")
        return self.mesh.hop_matrix()[np.ix_(at, at)]

    def traffic(self, nodes: np.ndarray) -> Traffic:
        """As compression takes it."""
        weights = {name: _as_tensors(matrix) for name, matrix in self.named.items()}
        return Traffic(torch.from_numpy(self.hops(nodes)), weights)

    @torch.no_grad()
    def masks(self, model: nn.Module) -> dict[str, np.ndarray]:
        """By matrix, bool [outputs, rows]: which weights of a model, which may be pruned, are not 0?"""
        weights = all_weights(model)
        return {
            matrix.name: (weights[name] != 0).flatten(1).cpu().numpy()
            for name, matrix in self.named.items()
            if name in weights
        }

    def flows(self, model: nn.Module) -> np.ndarray:
        """float64 [tiles, tiles], bits of one sample from tile to tile, of a model whose weights may be pruned."""
        return tile_flows(self.matrices, self.masks(model))


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
