"""How long are packets under way when they meet others? Cycle by cycle, router by router, in the manner of BookSim2.

An input-queued router of virtual channels: route computation, VC allocation, switch allocation, switch traversal and
link take a cycle each; a credit is of use three cycles after the flit that it stands for has left (link, credit delay).
So a packet of one flit that meets nobody, and passes H routers, is 5 H + 2 cycles under way, one of L flits L - 1 more:
BookSim counts two cycles from the source to its router. The choices behind it are BookSim's defaults:

- wormhole: an output VC belongs to a packet from its allocation until its last flit has left (not until that flit's
  credit has come back), and may be allocated while it has no credits;
- both allocators are separable, input first, of one iteration, with round-robin arbiters that move on when served;
  of the VCs of an input port that ask for the same output, the next in turn asks;
- nothing is speculative: switch allocation waits for VC allocation;
- a source has an endless queue, sends one flit in a cycle, and takes the VC of its router in turn; a destination takes
  a flit in every cycle, and its credits never run out.

On a torus the VCs are halved at a dateline. A multicast packet forks at the routers of its tree, each branch with a VC
and at a time of its own; it fits in a VC's queue, and is sent on only where there is room for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.errors import BaleError
from bale.hardware.noc import routers
from bale.hardware.noc.packets import Packets
from bale.hardware.noc.routers import PORTS, WHEEL, Fabric, Work
from bale.hardware.noc.topology import DIRECTIONS, Mesh

_AT_A_TIME = 2_000  # cycles, a fraction of a second on a busy mesh of 8 x 8


@dataclass(frozen=True)
class Router:
    """`vcs` virtual channels an input port, each a queue of `depth` flits of `flit_bits`."""

    vcs: int = 4
    depth: int = 8
    flit_bits: int = 256

    def __post_init__(self) -> None:
        for name in ("vcs", "depth", "flit_bits"):
            if getattr(self, name) < 1:
                raise BaleError(f"{name}: must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class NocRun:
    """What became of packets.

    `latency` [packets]: cycles from when a packet was there to the arrival of its last flit at its last destination,
    its time in the source's queue included; -1: not yet arrived. `arrived` [deliveries]: when, destination by
    destination, packet after packet; -1 likewise. `delivered`: flits that have left the switch to a tile, of each
    destination; the last of them may still be on the way there.
    """

    packets: Packets
    latency: np.ndarray
    arrived: np.ndarray
    link_flits: np.ndarray  # int64 [nodes, 4]
    injected: int
    delivered: int
    under_way: int  # flits in queues and on links
    cycles: int

    @property
    def router_flits(self) -> int:
        """Flits times the routers that they passed: as many came over links as from sources."""
        return int(self.link_flits.sum()) + self.injected

    @property
    def mean_latency(self) -> float:
        """Cycles, of the packets that have arrived; nan where none has."""
        arrived = self.latency[self.latency >= 0]
        return float(arrived.mean()) if len(arrived) else float("nan")

    def percentile(self, percent: float) -> float:
        """Cycles within which so many of the packets that have arrived had done so; nan where none has."""
        arrived = self.latency[self.latency >= 0]
        return float(np.percentile(arrived, percent)) if len(arrived) else float("nan")


def simulate_noc(mesh: Mesh, packets: Packets, router: Router | None = None, *, cycles: int | None = None) -> NocRun:
    """Send packets through a mesh, until all have arrived or `cycles` are over; the same packets, the same run.

    Raises `BaleError` for a multicast packet that is longer than a VC's queue, on a torus for less than 2 VCs, and for
    fewer than 0 cycles.
    """
    router = router or Router()
    _check(mesh, packets, router)
    if cycles is not None and cycles < 0:
        raise BaleError(f"cycles: must be at least 0, got {cycles}")
    most = np.iinfo(np.int64).max if cycles is None else cycles
    many = np.diff(packets.ways.start)[packets.way]
    work = _work(mesh, packets, router, np.cumsum(many) - many)
    fabric = _fabric(mesh, router, work, int(many.sum()))
    while not routers.run(fabric, work, most, _AT_A_TIME):
        pass  # Ctrl-C is heard here
    return _result(packets, fabric, many, most)


def _check(mesh: Mesh, packets: Packets, router: Router) -> None:
    if mesh.torus and router.vcs < 2:
        raise BaleError(f"vcs: a torus needs 2, one before the dateline and one behind it, got {router.vcs}")
    forked = np.diff(packets.ways.start)[packets.way] > 1
    longest = int(packets.flits[forked].max(initial=0))
    if longest > router.depth:
        raise BaleError(
            f"a multicast packet of {longest} flits: must fit in a VC's queue of {router.depth}; send shorter ones"
        )


def _work(mesh: Mesh, packets: Packets, router: Router, delivery: np.ndarray) -> Work:
    ways = packets.ways
    source = ways.source[packets.way]
    neighbour = mesh.neighbours()
    node = np.arange(mesh.nodes)
    beyond = np.empty((mesh.nodes, PORTS), np.int64)
    for direction in range(DIRECTIONS):
        entry = neighbour[:, direction] * PORTS + (direction ^ 1)  # what leaves to the east comes in from the west
        beyond[:, direction] = np.where(neighbour[:, direction] >= 0, entry * router.vcs, -1)
    beyond[:, DIRECTIONS] = (mesh.nodes * PORTS + node) * router.vcs
    return Work(
        vcs=router.vcs,
        depth=router.depth,
        torus=mesh.torus,
        place=_table(node % mesh.columns, node // mesh.columns),
        beyond=beyond.reshape(-1),
        tree=ways.trees(mesh),
        ways=_table(ways.source, ways.start[:-1], np.diff(ways.start)),
        to=np.ascontiguousarray(ways.to, np.int64),
        packets=_table(packets.cycle, packets.way, packets.flits, delivery),
        order=np.argsort(source, kind="stable"),
        last=np.cumsum(np.bincount(source, minlength=mesh.nodes)),
    )


def _table(*columns: np.ndarray) -> np.ndarray:
    """int64 [rows, columns], all that is said of one thing side by side."""
    return np.ascontiguousarray(np.stack(columns, axis=1), np.int64)


def _fabric(mesh: Mesh, router: Router, work: Work, deliveries: int) -> Fabric:
    ports = mesh.nodes * PORTS
    inputs = ports * router.vcs

    def table(rows: int, columns: int, *none: int) -> np.ndarray:
        """Zeros, but -1 in the columns `none`."""
        made = np.zeros((rows, columns), np.int32)
        made[:, none] = -1
        return made

    vcs = table(inputs, routers.VC_COLUMNS, routers.PACKET)
    index = np.arange(inputs)
    vcs[:, routers.ROUTER], vcs[:, routers.INPUT] = index // (PORTS * router.vcs), index // router.vcs
    vcs[:, routers.LANE] = index % router.vcs
    exits = table(inputs + mesh.nodes * router.vcs, routers.EXIT_COLUMNS, routers.OWNER)
    exits[:, routers.CREDITS] = router.depth
    sources = table(mesh.nodes, routers.SOURCE_COLUMNS, routers.SOURCE_LANE)
    sources[1:, routers.NEXT] = work.last[:-1]
    return Fabric(
        queue=table(inputs, router.depth),
        vcs=vcs,
        branches=table(inputs * PORTS, routers.BRANCH_COLUMNS, routers.EXIT),
        exits=exits,
        ports=table(ports, routers.PORT_COLUMNS, routers.TAKER),
        pairs=table(ports * PORTS, routers.PAIR_COLUMNS, routers.ASKER),
        lists=table(routers.LISTS, inputs * PORTS + ports),
        listed=np.zeros(routers.LISTS, np.int32),
        flits_due=np.zeros((WHEEL, ports + mesh.nodes, 2), np.int32),
        credits_due=table(WHEEL, ports),
        due=table(WHEEL, 2),
        sources=sources,
        link_flits=np.zeros(mesh.nodes * DIRECTIONS, np.int64),
        arrived=np.full(deliveries, -1, np.int64),
        totals=np.zeros(routers.COUNTERS, np.int64),
    )


def _result(packets: Packets, fabric: Fabric, many: np.ndarray, most: int) -> NocRun:
    end = min(int(fabric.totals[routers.NOW]), most)
    # What has left a switch is noted with the cycle in which it will be there; that may be after the end.
    arrived = np.where(fabric.arrived <= end, fabric.arrived, -1)
    start = np.cumsum(many) - many
    missing = np.add.reduceat(arrived < 0, start) if len(many) else np.zeros(0, np.int64)
    last = np.maximum.reduceat(arrived, start) if len(many) else np.zeros(0, np.int64)
    return NocRun(
        packets=packets,
        latency=np.where(missing > 0, -1, last - packets.cycle),
        arrived=arrived,
        link_flits=fabric.link_flits.reshape(-1, DIRECTIONS),
        injected=int(fabric.totals[routers.INJECTED]),
        delivered=int(fabric.totals[routers.DELIVERED]),
        under_way=int(fabric.totals[routers.UNDER_WAY]),
        cycles=end,
    )
