"""What do bits on their ways load, how long are they under way, and what do they cost, without simulating them?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bale.errors import BaleError
from bale.hardware.constants import value
from bale.hardware.noc.matrix_traffic import MatrixTraffic, tile_flows, tiles_of
from bale.hardware.noc.topology import DIRECTIONS, Mesh
from bale.hardware.noc.ways import Ways

ROUTER_ENERGIES = ("isaac", "conservative")
STAGES = ("route", "vc", "switch", "traversal", "link")


@dataclass(frozen=True)
class NocEnergy:
    """pJ that a bit costs on a link, and in a router that it passes.

    ISAAC's figure for its router is all that is published of its network: its links are taken to be part of it, and
    `link_pj` is 0 (our inference). Who knows a wire's energy gives it.
    """

    router_pj: float
    link_pj: float

    def __post_init__(self) -> None:
        for name in ("router_pj", "link_pj"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise BaleError(f"{name}: must be at least 0, got {getattr(self, name):g}")

    @staticmethod
    def of(name: str = "isaac") -> NocEnergy:
        """`isaac`: what an access of its router costs (published); `conservative`: by power and an assumed clock."""
        if name not in ROUTER_ENERGIES:
            raise BaleError(f"router energy: expected {' or '.join(ROUTER_ENERGIES)}, got {name!r}")
        return NocEnergy(value(f"noc_router_bit_{name}"), value("noc_link_bit"))


def traffic_ways(
    traffic: Mapping[str, MatrixTraffic], masks: Mapping[str, np.ndarray] | None = None, *, multicast: bool = False
) -> tuple[Ways, np.ndarray]:
    """The ways between logical tiles that something takes, and float64 [ways], the bits of one sample on each.

    Unicast: `tile_flows`. Multicast: an activation goes once, to all tiles that need it; partial sums have one
    destination.
    """
    if not multicast:
        flows = tile_flows(traffic, masks)
        source, to = np.nonzero(flows)
        return Ways.pairs(source, to), flows[source, to]
    tiles = tiles_of(traffic)
    bits: dict[tuple[int, tuple[int, ...]], float] = {}
    for name, matrix in traffic.items():
        mask = None if masks is None else masks.get(name)
        needed = matrix.needed(tiles, mask)
        for sources, sent in zip(matrix.sources, matrix.sent, strict=True):
            for source, row in zip(sources.tolist(), needed, strict=True):
                if source >= 0:
                    _count(bits, source, row, float(sent) * matrix.input_bits)
        for accumulator, row in zip(matrix.accumulator.tolist(), matrix.summed(tiles, mask), strict=True):
            for tile in np.flatnonzero(row).tolist():
                _count(bits, tile, np.arange(tiles) == accumulator, matrix.positions * matrix.sum_bits)
    return Ways.of(bits), np.array(list(bits.values()))


def _count(bits: dict[tuple[int, tuple[int, ...]], float], source: int, to: np.ndarray, many: float) -> None:
    others = tuple(tile for tile in np.flatnonzero(to).tolist() if tile != source)
    if others:
        bits[source, others] = bits.get((source, others), 0.0) + many


def link_loads(mesh: Mesh, ways: Ways, bits: np.ndarray) -> np.ndarray:
    """float64 [nodes, 4]: bits that pass each link."""
    trees = ways.trees(mesh)
    # One direction at a time: all of them as floats are gigabytes where a mesh is large.
    return np.stack([bits @ (trees >> direction & 1) for direction in range(DIRECTIONS)], axis=1)


def way_energy_pj(mesh: Mesh, ways: Ways, bits: np.ndarray, energy: NocEnergy | None = None) -> np.ndarray:
    """float64 [ways], pJ: bits (links E_link + (links + 1) E_router), a tree's shared links and routers once."""
    energy = energy or NocEnergy.of()
    links = ways.link_counts(mesh)
    return bits * (links * energy.link_pj + (links + 1) * energy.router_pj)


def way_latency(mesh: Mesh, ways: Ways, bits: np.ndarray, flit_bits: int) -> np.ndarray:
    """float64 [ways], cycles until all bits of a way are there, if nothing else is under way (HISIM).

    routers x (route computation + VC allocation + switch allocation + switch traversal + link) + enqueuing x Q / W, of
    Q bits in flits of W; a multicast's routers are those to its farthest destination. Divide by the clock for seconds.
    """
    single, way = ways.unicast()
    hops = mesh.hop_matrix()[single.source, single.to]
    farthest = np.zeros(len(ways), np.int64)
    np.maximum.at(farthest, way, hops)
    stages = sum(value(f"noc_{stage}_cycles") for stage in STAGES)
    return (farthest + 1) * stages + value("noc_enqueue_cycles") * bits / flit_bits
