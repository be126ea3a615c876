"""CANNON (IEEE TETC 2023): what does a network's communication cost, pruned one way or another, on the same tiles?

Published: layers are mapped to tiles, get communication-aware sparse connections, and the communication cost is
optimised; up to 3.0x less communication energy, 3.1x less latency and 6.8x less EDP than pruning. Our reconstruction
is all else (docs/cannon.md). Every contestant has the layout of the dense network: the same tiles at the same routers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from bale.codesign.communication import Laid
from bale.codesign.figure import Figure
from bale.codesign.placing import annealed
from bale.compress import CommunicationAwareConfig, Traffic, all_weights, communication_cost, compress_
from bale.errors import CompressionError, MappingError
from bale.hardware.noc.analytic import NocEnergy, traffic_ways, way_energy_pj
from bale.hardware.noc.matrix_traffic import MatrixTraffic
from bale.hardware.noc.packets import Packets, flow_packets
from bale.hardware.noc.simulator import Router, simulate_noc
from bale.hardware.noc.topology import Mesh
from bale.hardware.noc.ways import Ways

CLAIMS = {"energy": 3.0, "latency": 3.1, "EDP": 6.8}  # the paper's, up to, against pruning
_HALVINGS = 12  # of a share of C, until saliencies agree to a thousandth or so


@dataclass(frozen=True)
class Communication:
    """What is sent between tiles for one image, and what that costs.

    bits             sent
    bit_hops         times the links of their ways: the cost C
    energy_pj        bits x (links E_link + (links + 1) E_router), by ISAAC's router
    conservative_pj  the same by the dearer estimate of it
    cycles           from the first flit's start to the last one's arrival, layer by layer (`communication`)
    distance_cycles  of these, what the farthest ways would take with one flit each: no sparsity of bits lowers it
    interval         cycles in which all layers' traffic is through when it starts together: of a full pipeline
    """

    bits: float
    bit_hops: float
    energy_pj: float
    conservative_pj: float
    cycles: int
    distance_cycles: int
    interval: int

    @property
    def edp(self) -> float:
        """Energy x delay, pJ x cycles."""
        return self.energy_pj * self.cycles

    def facts(self) -> dict[str, float]:
        """As conditions of a figure have it."""
        return asdict(self) | {"edp_pj_cycles": self.edp}


def communication(
    laid: Laid,
    model: nn.Module,
    nodes: np.ndarray | None = None,
    *,
    multicast: bool = False,
    router: Router | None = None,
) -> Communication:
    """What a model sends on a chip, of which `laid` is the dense network's layout.

    Args:
        laid: of a network of the same shapes.
        model: weights that are 0 send nothing, nor need anything.
        nodes: int64 [tiles], the router of each tile; by default snake order.
        multicast: an activation goes once, along a tree, to all tiles that need it.
        router: of the cycle-level simulation, of flits of 256 bits by default.

    Latency: a layer waits until its inputs are there, and sends partial sums when it has them. So each layer has two
    rounds, inputs and partial sums, and none overlaps another: `cycles` adds up how long each of them takes on an
    otherwise empty mesh, all of its packets being there when it begins. What crossbars compute meanwhile is not in it:
    it is the same for all contestants, and hides more or less of this time.

    Raises MappingError for `nodes` that the mesh has not.
    """
    router, nodes = router or Router(), laid.snake() if nodes is None else nodes
    laid.hops(nodes)
    masks, rounds = laid.masks(model), list[tuple[Ways, np.ndarray]]()
    for name, matrix in laid.matrices.items():
        for part in _rounds(matrix):
            ways, bits = traffic_ways({name: part}, masks, multicast=multicast)
            rounds.append((ways.placed(nodes), bits))
    ways, bits = Ways.joined([each[0] for each in rounds]), np.concatenate([each[1] for each in rounds])
    energies = [way_energy_pj(laid.mesh, ways, bits, NocEnergy.of(name)) for name in ("isaac", "conservative")]
    return Communication(
        bits=float(bits.sum()),
        bit_hops=float(bits @ ways.link_counts(laid.mesh)),
        energy_pj=float(energies[0].sum()),
        conservative_pj=float(energies[1].sum()),
        cycles=sum(cycles_of(laid.mesh, *each, router) for each in rounds),
        distance_cycles=sum(_farthest(laid.mesh, *each, router) for each in rounds),
        interval=cycles_of(laid.mesh, ways, bits, router),
    )


def _rounds(matrix: MatrixTraffic) -> tuple[MatrixTraffic, MatrixTraffic]:
    """The inputs alone, and the partial sums alone."""
    return replace(matrix, positions=0), replace(matrix, sources=matrix.sources[:0], sent=matrix.sent[:0])


def cycles_of(mesh: Mesh, ways: Ways, bits: np.ndarray, router: Router) -> int:
    """Cycles until all bits of all ways are there, that begin together on an empty mesh; 0 where there are none.

    A source sends to its destinations in turn, a packet each; the bits of a way are filled up to whole flits, those of
    a packet are at most as many as a queue holds.
    """
    flits = int(np.ceil(bits / router.flit_bits).sum())
    # Spread out, the packets of ways come in turn; all of them are there from the beginning.
    spread = flow_packets(ways, bits, flit_bits=router.flit_bits, most_flits=router.depth, cycles=max(1, flits))
    packets = Packets(ways, np.zeros_like(spread.cycle), spread.way, spread.flits)
    return int(simulate_noc(mesh, packets, router).arrived.max(initial=0)) if len(packets) else 0


def _farthest(mesh: Mesh, ways: Ways, bits: np.ndarray, router: Router) -> int:
    """Cycles of one flit on the longest way that has bits."""
    single, way = ways.unicast()
    hops = np.where(bits[way] > 0, mesh.distances(single.source, single.to), -1)
    if hops.max(initial=-1) < 0:
        return 0
    longest = [int(hops.argmax())]
    return cycles_of(mesh, Ways.pairs(single.source[longest], single.to[longest]), np.ones(1), router)


def compared(
    how: str,
    baseline: str,
    ours: Communication,
    theirs: Communication,
    *,
    claims: Mapping[str, float] | None = None,
    conditions: Mapping[str, Any] | None = None,
) -> list[Figure]:
    """Energy, latency and EDP of a baseline over ours: three figures, whose conditions have both sides' numbers.

    `how`: what was made equal, such as "equal density". Raises MappingError where one of them sends nothing.
    """
    if not ours.energy_pj or not theirs.energy_pj:
        raise MappingError("nothing is sent from tile to tile; take a chip of smaller tiles, such as small_tiles")
    ratios = {
        "energy": theirs.energy_pj / ours.energy_pj,
        "latency": theirs.cycles / ours.cycles,
        "EDP": theirs.edp / ours.edp,
    }
    told = {"ours": ours.facts(), "baseline": theirs.facts()} | dict(conditions or {})
    return [
        Figure(f"communication {what}, {how}", baseline, ratio, claim=(claims or {}).get(what), conditions=told)
        for what, ratio in ratios.items()
    ]


def mechanisms(laid: Laid, dense: nn.Module, pruned: nn.Module, seed: int = 0) -> Iterator[Figure]:
    """What connections, places and multicast trees save of the dense network's energy, alone and together.

    Parts that were independent would multiply to the whole: the last figure says how far they do. Places are found by
    annealing from `seed`, for the traffic of the network that is placed.
    """
    before = communication(laid, dense)
    sides = {"dense": before.facts()}

    alone = {
        "connections alone": communication(laid, pruned),
        "places alone": communication(laid, dense, placed(laid, dense, seed)),
        "multicast trees alone": communication(laid, dense, multicast=True),
    }
    together = communication(laid, pruned, placed(laid, pruned, seed), multicast=True)
    for name, by in (*alone.items(), ("connections, places and trees together", together)):
        saved = before.energy_pj / by.energy_pj
        yield Figure(f"energy, {name}", "dense network", saved, conditions=sides | {"ours": by.facts()})
    product = prod(before.energy_pj / by.energy_pj for by in alone.values())
    whole = before.energy_pj / together.energy_pj / product
    yield Figure("energy, all three together", "product of each alone", whole, conditions={"product": product})


def placed(laid: Laid, model: nn.Module, seed: int = 0) -> np.ndarray:
    """int64 [tiles], the routers that annealing finds for what a model sends."""
    return annealed(laid.flows(model), laid.mesh, seed)


@torch.no_grad()
def at_equal_saliency(laid: Laid, dense: nn.Module, cost: float = 0.33) -> list[Figure]:
    """How much more of C is left where distances, or groups, are not looked at, for as much of what matters?

    The dense network is pruned at once to `cost` of C; that leaves so much of the saliency, w^2 over the sum of its
    layer. Of the others more is pruned until they have as little: groups by the bits that they send, as if all tiles
    were neighbours; single weights of the smallest saliency. C is then counted with the distances.
    """
    traffic, weights = laid.traffic(laid.snake()), all_weights(dense)
    weights = {name: weights[name] for name in traffic.weights}
    ours = _pruned(dense, traffic, cost)
    aim, left = _saliency(weights, ours), communication_cost(traffic, ours)
    by_bits = Traffic(traffic.hops.clamp(max=1), traffic.weights)
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        share = (low + high) / 2
        trial = _pruned(dense, by_bits, share)
        low, high = (low, share) if trial and _saliency(weights, trial) >= aim else (share, high)
    others = {
        "groups by bits, not hops": _pruned(dense, by_bits, high),
        "single weights": _smallest_gone(weights, aim),
    }
    whole = communication_cost(traffic, weights)
    told = {"saliency": aim, "cost_share": left / whole}
    return [
        Figure(
            "C at equal saliency, pruned at once",
            name,
            communication_cost(traffic, other) / left,
            conditions=told
            | {
                "baseline_saliency": _saliency(weights, other),
                "baseline_cost_share": communication_cost(traffic, other) / whole,
            },
        )
        for name, other in others.items()
    ]


Weights = dict[str, torch.Tensor]


def _pruned(dense: nn.Module, traffic: Traffic, cost: float) -> Weights:
    """Weights pruned at once to a share of C, by the hops that a traffic has; none where that is out of reach."""
    model = copy.deepcopy(dense)
    try:
        compress_(model, CommunicationAwareConfig(cost, bits=None).on(traffic))
    except CompressionError:
        return {}
    weights = all_weights(model)
    return {name: weights[name] for name in traffic.weights}


def _saliency(dense: Weights, left: Weights) -> float:
    """The mean over layers of how much of their squares is left."""
    shares = [left[name].double().square().sum() / weight.double().square().sum() for name, weight in dense.items()]
    return float(sum(shares) / len(shares))


def _smallest_gone(weights: Weights, aim: float) -> Weights:
    """Weights without as many of the smallest saliency as may go."""
    saliency = [weight.double().square() / weight.double().square().sum() for weight in weights.values()]
    least = torch.cat([each.flatten() for each in saliency]).sort().values
    gone = int((least.cumsum(0) <= (1 - aim) * len(weights)).sum())
    bound = least[gone] if gone < len(least) else torch.inf
    return {name: weight * (each >= bound) for (name, weight), each in zip(weights.items(), saliency, strict=True)}
