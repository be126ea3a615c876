"""Communication-aware sparsity: connections whose data travel far go first.

CANNON, IEEE TETC 2023. Published: map layers to tiles, replace linear and convolution layers by communication-aware
sparse connections, then optimise the communication cost. Our reconstruction is all else: the groups (input channel x
tile, and output x tile for partial sums), C, cost over saliency, rewiring, and the start by distance.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from bale.compress.code import Code, UnsuitableError
from bale.compress.config import WeightConfig
from bale.compress.connections import Connections
from bale.compress.layout import Dense, Pieces
from bale.compress.rewiring import by_distance, connect_by_distance, drop_to, total_cost
from bale.compress.traffic import Traffic
from bale.compress.weights import Weight
from bale.errors import CompressionError

if TYPE_CHECKING:
    from bale.compress.communication_training import CommunicationCompressor

_UPDATES = 30  # of the connections in a training
_EVERY = 200  # steps from one to the next, where a training's length is not known
_PASSES = 20  # in which connections go at once: each sees what the others have left
_ROUNDING = 1e-12  # of C, a sum of some thousands of numbers


@dataclass(frozen=True)
class CommunicationAwareConfig(WeightConfig):
    """Drop the connections that cost the network on chip most for what they matter, until its traffic is a share.

    Groups of weights go together: those by which an input channel is sent to a tile, and those by which a tile sends a
    partial sum of an output. C is their numbers x bits x hops, unicast, for one sample. Linear and Conv2d of one
    group; every output keeps a connection, so no layer becomes empty.

    The chip is not part of the config: `config.on(traffic)` is the same config that knows it.
    `bale.codesign.chip_traffic(model, chip, sample)` makes the traffic.

    cost     the share of the dense network's C that may stay
    start    "trained": all weights, as they are; "distance": connections drawn by P ~ exp(-distance / length), of
             each weight `density` of its numbers
    length   hops, for draws by distance
    density  of the start by distance
    rewire   at each update in a training, the share of the dropped groups in whose place cheaper ones come back: those
             of the largest remembered weights, or, after a start by distance, drawn by it
    bits     of a kept weight, 2 to 8, with a scale for each output; None: as they are
    seed     of draws

    In a training, connections go in steps, the largest C share / sum |w dL/dw| first (`CommunicationCompressor`); at
    once, w^2 over the sum of the layer's stands for the saliency (scales of layers mean little, after a batch norm
    nothing). A network of many layers loses nearly all of its accuracy so: train it.
    """

    cost: float = 0.5
    start: Literal["trained", "distance"] = "trained"
    length: float = 2.0
    density: float = 0.5
    rewire: float = 0.1
    bits: int | None = 8
    seed: int = 0
    traffic: Traffic | None = field(default=None, compare=False, repr=False)
    method: ClassVar[str] = "communication-aware"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(0 < self.cost <= 1, "cost", f"must be above 0 and at most 1, got {self.cost}")
        self.check(self.length > 0, "length", f"must be above 0, got {self.length}")
        self.check(0 < self.density <= 1, "density", f"must be above 0 and at most 1, got {self.density}")
        self.check(0 <= self.rewire < 1, "rewire", f"must be at least 0 and below 1, got {self.rewire}")
        self.check(self.bits is None or 2 <= self.bits <= 8, "bits", f"must be from 2 to 8, or None, got {self.bits}")
        self.check(self.seed >= 0, "seed", f"must be at least 0, got {self.seed}")

    @classmethod
    def ladder(cls) -> tuple[Self, ...]:
        return tuple(cls(cost) for cost in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.07, 0.05))

    def on(self, traffic: Traffic) -> Self:
        """The same config, which knows the traffic of the network on its chip."""
        return replace(self, traffic=traffic)

    def on_chip(self) -> Traffic:
        """The traffic; raises CompressionError where there is none."""
        if self.traffic is None:
            raise CompressionError(
                f"{self.method}: knows no chip; take config.on(traffic), with traffic = "
                "bale.codesign.chip_traffic(model, chip, sample)"
            )
        return self.traffic

    def unsuitable(self, weight: Weight) -> str | None:
        """Why a weight is left as it is; None: it is not. Raises CompressionError for traffic of other shapes."""
        code, named = weight.code, self.on_chip().weights
        if weight.shape.parts != 1 or len(weight.shape.weight) not in (2, 4):
            return "is no weight of a Linear, or of a Conv2d of one group"
        if isinstance(code.layout, Pieces):
            return "is decomposed by smartdeal already; no other method stacks on that"
        if not isinstance(code.layout, Dense):
            return "is block-circulant; connections are dropped of weights that are mapped as they are"
        if code.quantizer is not None:
            return f"is quantised to {code.quantizer.bits} bits already; quantisation comes last"
        if weight.name not in named:
            return "is not in the traffic: nothing of it is sent on the chip"
        named[weight.name].check(weight.name, len(self.on_chip().hops), weight.shape.weight)
        return None

    def connections(self, weights: Sequence[Weight]) -> Network:
        """The groups of all suitable weights as the method starts, and C of the dense network.

        Raises CompressionError where a dense network sends nothing.
        """
        traffic = self.on_chip()
        found: dict[str, Connections] = {}
        dense = 0.0
        for weight in weights:
            if self.unsuitable(weight) is None:
                mask = weight.code.mask
                allowed = np.ones(weight.code.values.numel(), bool) if mask is None else mask.cpu().numpy()
                found[weight.name] = Connections(traffic.weights[weight.name], traffic.hops, allowed)
                dense += _dense_cost(found[weight.name])
        if found and not dense:
            raise CompressionError(
                f"{self.method}: the network sends nothing from tile to tile; take a chip of smaller tiles"
            )
        if self.start == "distance":
            for name, each in found.items():
                connect_by_distance(each, self.density, self.drawn(name, each, 0))
        return Network(found, dense)

    def drawn(self, name: str, connections: Connections, update: int) -> np.ndarray:
        """Scores of groups in an order drawn by distance, for a weight and an update."""
        generator = np.random.default_rng([self.seed, update, zlib.crc32(name.encode())])
        return by_distance(connections, self.length, generator)

    def encode(self, weight: Weight) -> None:
        self.encoder([weight])(weight)

    def encoder(self, weights: Sequence[Weight]) -> Callable[[Weight], None]:
        network = self.connections(weights)
        squares = {
            weight.name: share_of_squares(weight.code.values) for weight in weights if weight.name in network.weights
        }
        begin = total_cost(network.weights)
        for number in range(1, _PASSES + 1):
            drop_to(network.weights, begin + (self.cost * network.dense - begin) * number / _PASSES, squares)
        self.check_reached(network)

        def encode(weight: Weight) -> None:
            reason = self.unsuitable(weight)
            if reason is not None:
                raise UnsuitableError(reason)
            weight.code.keep_only(mask_of(network.weights[weight.name], weight.code))
            if self.bits is not None:
                weight.code.quantize(self.bits)

        return encode

    def check_reached(self, network: Network) -> None:
        """Raise CompressionError where more of C is left than may be."""
        left = total_cost(network.weights)
        if left > self.cost * network.dense * (1 + _ROUNDING):
            share = left / network.dense
            raise CompressionError(
                f"{self.method}.cost: {self.cost} is out of reach: {share:.3f} is left where every output keeps a "
                "connection; ask for more"
            )

    def facts_of(self, name: str, code: Code) -> dict[str, float]:
        """Of the weights that are not 0: the share of C that is left, and of the groups, where C counts any."""
        traffic = None if self.traffic is None else self.traffic.weights.get(name)
        if self.traffic is None or traffic is None or traffic.tile.numel() != code.values.numel():
            return {}
        with torch.no_grad():
            kept = Connections(traffic, self.traffic.hops, (code() != 0).cpu().numpy())
        dense, costly = _dense_cost(kept), kept.own > 0
        return {"groups": int((kept.counts[costly] > 0).sum())} | ({"cost": kept.cost / dense} if dense else {})

    @property
    def acts_in_training(self) -> bool:
        return True

    def compressor(self, steps: int | None = None, epochs: int | None = None) -> CommunicationCompressor:
        """Its updates are spread over the steps."""
        from bale.compress.communication_training import CommunicationCompressor  # it compresses by this config

        every = _EVERY if steps is None else max(1, steps // _UPDATES)
        return CommunicationCompressor(self, every=every, updates=_UPDATES if steps is None else min(_UPDATES, steps))


@dataclass(frozen=True, eq=False)
class Network:
    """The groups of all weights that are pruned, by name, and C with all of their numbers."""

    weights: Mapping[str, Connections]
    dense: float


def communication_cost(traffic: Traffic, weights: Mapping[str, Tensor]) -> float:
    """C of a network, in bit x hops for one sample: unicast, of the weights that are not 0.

    Args:
        traffic: of the network on its chip.
        weights: by name, of the shapes that the traffic has; `bale.compress.all_weights(model)`.

    Raises CompressionError where the traffic names a weight that is not there or is of another shape.
    """
    cost = 0.0
    for name, each in traffic.weights.items():
        if name not in weights:
            raise CompressionError(f"traffic of {name}: there is no such weight; known are {', '.join(weights)}")
        each.check(name, len(traffic.hops), tuple(weights[name].shape))
        cost += Connections(each, traffic.hops, (weights[name] != 0).cpu().numpy()).cost
    return cost


def mask_of(connections: Connections, code: Code) -> Tensor:
    """Where numbers are kept, as a code has it."""
    return torch.from_numpy(connections.kept.copy()).view(code.values.shape).to(code.values.device)


def share_of_squares(values: Tensor) -> np.ndarray:
    """What numbers matter where no gradients are known: w^2, over the sum of all of a layer's."""
    squares = values.detach().double().square().cpu()
    return (squares / squares.sum().clamp_min(1e-30)).numpy()


def _dense_cost(connections: Connections) -> float:
    """C with all numbers kept: every group has some."""
    return float(connections.own[connections.total(np.ones_like(connections.allowed)) > 0].sum())
