"""Which packets are to travel when, of how many flits?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bale.errors import BaleError
from bale.hardware.noc.topology import Mesh
from bale.hardware.noc.ways import Ways


@dataclass(frozen=True, eq=False)
class Packets:
    """Packet p is there from `cycle[p]` on, takes the way `way[p]` and has `flits[p]`; in the order of cycles.

    Raises `BaleError` for packets without flits, out of order, or on ways that there are not.
    """

    ways: Ways
    cycle: np.ndarray  # int64 [packets]
    way: np.ndarray  # int64 [packets]
    flits: np.ndarray  # int64 [packets]

    def __post_init__(self) -> None:
        if len(self.flits) and self.flits.min() < 1:
            raise BaleError(f"packet {int(self.flits.argmin())}: must have at least 1 flit, got {self.flits.min()}")
        if (len(self.cycle) and self.cycle[0] < 0) or (np.diff(self.cycle) < 0).any():
            raise BaleError("packets must be in the order of their cycles, which begin with 0")
        if len(self.way) and not 0 <= self.way.min() <= self.way.max() < len(self.ways):
            raise BaleError(f"packets on ways {self.way.min()} to {self.way.max()}: there are {len(self.ways)} ways")

    def __len__(self) -> int:
        return len(self.cycle)

    @staticmethod
    def of(packets: Iterable[tuple[int, int, int | Sequence[int], int]]) -> Packets:
        """From (cycle, source, destination or destinations, flits) each, in any order of cycles."""
        packets = sorted(packets, key=lambda packet: packet[0])
        index: dict[tuple[int, tuple[int, ...]], int] = {}
        way = [
            index.setdefault((source, (to,) if isinstance(to, int) else tuple(sorted(set(to)))), len(index))
            for _, source, to, _ in packets
        ]
        cycles, flits = ([packet[place] for packet in packets] for place in (0, 3))
        return Packets(Ways.of(index), *(np.array(numbers, np.int64) for numbers in (cycles, way, flits)))


def uniform_packets(mesh: Mesh, load: float, cycles: int, *, flits: int = 1, seed: int = 0) -> Packets:
    """As BookSim's uniform traffic: in each cycle each router sends a packet with the same probability.

    `load`: flits for each router and cycle. Each router is the destination with equal probability, the source too.
    """
    if not 0 < load <= 1:
        raise BaleError(f"load: must be above 0 and at most 1 flit for each router and cycle, got {load:g}")
    if cycles < 0 or flits < 1:
        raise BaleError(f"expected at least 0 cycles and 1 flit a packet, got {cycles} and {flits}")
    rng = np.random.default_rng(seed)
    cycle, source = np.nonzero(rng.random((cycles, mesh.nodes)) < load / flits)
    to = rng.integers(0, mesh.nodes, len(cycle))
    node = np.arange(mesh.nodes)
    ways = Ways.pairs(np.repeat(node, mesh.nodes), np.tile(node, mesh.nodes))
    return Packets(ways, cycle, source * mesh.nodes + to, np.full(len(cycle), flits, np.int64))


def flow_packets(
    ways: Ways, bits: np.ndarray, *, flit_bits: int, most_flits: int, cycles: int, seed: int = 0
) -> Packets:
    """Packets that carry `bits` [ways], spread evenly over `cycles`: the packets of a way come at equal distances.

    A way's last packet is as short as what is left; where in a distance the first of a way comes is drawn, so that
    not all begin together.
    """
    total = np.ceil(bits / flit_bits).astype(np.int64)
    many = -(-total // most_flits)
    way = np.repeat(np.arange(len(ways)), many)
    turn = np.arange(len(way)) - np.repeat(np.cumsum(many) - many, many)
    flits = np.minimum(most_flits, total[way] - turn * most_flits)
    first = np.random.default_rng(seed).random(len(ways))
    cycle = ((turn + first[way]) * cycles / many[way]).astype(np.int64)
    order = np.argsort(cycle, kind="stable")
    return Packets(ways, cycle[order], way[order], flits[order])
