"""Connections that suit the places of tiles, and places that suit the connections: in turn, until neither helps.

Our reconstruction of the last step of CANNON, "optimise the communication cost": its order is published (map, make
sparse, optimise), its way is not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from bale.codesign.communication import ChipSource, Laid, Sample
from bale.compress import CommunicationAwareConfig, Report, Traffic, all_weights, communication_cost, compress_
from bale.data import Images
from bale.errors import BaleError
from bale.hardware.noc.placement import bit_hops, place_tiles
from bale.hardware.noc.topology import Mesh
from bale.train import Retraining, compress_and_train

# (bits [tiles, tiles], mesh, seed) -> the router of each tile [tiles], where the bits have short ways
Place = Callable[[np.ndarray, Mesh, int], np.ndarray]


def annealed(bits: np.ndarray, mesh: Mesh, seed: int) -> np.ndarray:
    """By simulated annealing from the snake."""
    return place_tiles(bits, mesh, "annealed", seed=seed)


@dataclass(frozen=True)
class Round:
    """C in bit x hops for one sample, all of the network's: dense and pruned on the places of before, then on new ones.

    share   of the dense network's C that could stay
    dense   C before anything is pruned
    pruned  afterwards
    placed  with the tiles where the pruned network's traffic has them
    """

    share: float
    dense: float
    pruned: float
    placed: float


@dataclass(frozen=True, eq=False)
class PlacedNetwork:
    """A pruned network, the router [tiles] of each of its tiles, what each round did, and the report of the best."""

    model: nn.Module
    nodes: np.ndarray
    rounds: tuple[Round, ...]
    report: Report

    @property
    def cost(self) -> float:
        """C of the network as it is placed."""
        return min(each.placed for each in self.rounds)


def place_and_prune(
    model: nn.Module,
    chip: ChipSource,
    sample: Sample,
    config: CommunicationAwareConfig,
    *,
    place: Place = annealed,
    images: Images | None = None,
    how: Retraining | None = None,
    rounds: int = 3,
    seed: int = 0,
) -> PlacedNetwork:
    """Prune a network for the places of its tiles, place the tiles for what it then sends, and again for these places.

    Args:
        model: trained; it stays as it is, and every round begins with a copy of it.
        chip, sample: as of `chip_traffic`. Tiles stand in snake order at first.
        config: the share of C that may stay in the first round. Later the new places count: what the network of the
            round before has there may stay, and connections that are near now can take the place of others.
        place: finds the places; those of before stay where it finds none with less.
        images, how: what the network is trained on while it is pruned, and how long; without images it is not.
        rounds: at most; fewer where C no longer falls.
        seed: of the placement, another in each round.

    Raises what `chip_traffic`, `compress_and_train` and `place` raise.
    """
    if rounds < 1:
        raise BaleError(f"rounds must be at least 1, got {rounds}")
    laid = Laid.on(model, chip, sample)
    nodes, done = laid.snake(), list[Round]()
    best: tuple[nn.Module, np.ndarray, Report] | None = None
    for number in range(rounds):
        traffic, pruned = laid.traffic(nodes), copy.deepcopy(model)
        share = config.cost if best is None else min(config.cost, _cost(best[0], traffic) / _cost(model, traffic))
        if not share:
            break  # nothing is left to be sent
        on_places = replace(config, cost=share).on(traffic)
        if images is None:
            report = compress_(pruned, on_places)
        else:
            report = compress_and_train(pruned, images, [on_places], how)
        bits = laid.flows(pruned)
        places = (nodes, place(bits, laid.mesh, seed + number))
        at = min(places, key=lambda routers: bit_hops(bits, laid.mesh, routers))
        dense, before, after = (
            bit_hops(laid.flows(model), laid.mesh, nodes),
            bit_hops(bits, laid.mesh, nodes),
            bit_hops(bits, laid.mesh, at),
        )
        falls = not done or after < done[-1].placed
        done.append(Round(share, dense, before, after))
        if not falls:
            break
        best, nodes = (pruned, at, report), at
    assert best is not None
    return PlacedNetwork(best[0], best[1], tuple(done), best[2])


def _cost(model: nn.Module, traffic: Traffic) -> float:
    """C of the weights that can be pruned."""
    weights = all_weights(model)
    return communication_cost(traffic, {name: weights[name] for name in traffic.weights})
