"""What does a network's traffic do to its chip's network: loads, latencies, energy of one sample?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bale.errors import MappingError
from bale.hardware.chip import Chip
from bale.hardware.cost import OnChip
from bale.hardware.noc.analytic import NocEnergy, link_loads, traffic_ways, way_energy_pj, way_latency
from bale.hardware.noc.matrix_traffic import matrix_traffic, tile_flows
from bale.hardware.noc.packets import Packets, flow_packets
from bale.hardware.noc.placement import bit_hops, place_tiles
from bale.hardware.noc.simulator import Router
from bale.hardware.noc.topology import Mesh, mesh_of
from bale.hardware.noc.ways import Ways


@dataclass(frozen=True, eq=False)
class NocEstimate:
    """One sample's traffic on a mesh, without contention.

    `layers`: the matrices in the tiles of each router, none where nothing lies. `bits` [ways] on `ways` between
    routers, `energy_pj` and `latency` (cycles, HISIM) likewise, and `matrix`, which of `matrices` receives them;
    `loads` [nodes, 4], bits by link. `snake_bit_hops`: bits times links of the unicast flows in snake order;
    `bit_hops` as placed.
    """

    chip: Chip
    mesh: Mesh
    router: Router
    placement: str
    multicast: bool
    layers: tuple[tuple[str, ...], ...]
    tiles: int
    matrices: tuple[str, ...]
    matrix: np.ndarray
    ways: Ways
    bits: np.ndarray
    loads: np.ndarray
    energy_pj: np.ndarray
    latency: np.ndarray
    bit_hops: float
    snake_bit_hops: float

    def packets(self, load: float, seed: int = 0) -> Packets:
        """The sample's packets, for the simulator: the busiest link, source or destination has `load` flits a cycle.

        Packets have as many flits as a VC's queue, at most; the bits of a way are filled up to whole flits.
        """
        flits = np.ceil(self.bits / self.router.flit_bits)
        single, way = self.ways.unicast()
        sent, received = np.bincount(self.ways.source, flits), np.bincount(single.to, flits[way])
        busiest = max(each.max(initial=0) for each in (link_loads(self.mesh, self.ways, flits), sent, received))
        cycles = max(1, int(np.ceil(busiest / load)))
        return flow_packets(
            self.ways,
            self.bits,
            flit_bits=self.router.flit_bits,
            most_flits=self.router.depth,
            cycles=cycles,
            seed=seed,
        )


def estimate_noc(
    on_chip: OnChip,
    *,
    placement: str = "snake",
    torus: bool = False,
    multicast: bool = False,
    masks: Mapping[str, np.ndarray] | None = None,
    energy: NocEnergy | None = None,
    router: Router | None = None,
    seed: int = 0,
) -> NocEstimate:
    """Lay a network's tiles on its chip's routers, and say what one sample's traffic loads, takes and costs.

    The network is on the chip with `copy=False`. Tiles that share a router stay together. `placement` is for unicast
    flows, with multicast too. Raises `MappingError` where all lies in one tile, between whose parts nothing travels.
    """
    chip, router = on_chip.chip, router or Router()
    mesh = mesh_of(chip, torus)
    traffic = matrix_traffic(on_chip)
    flows = tile_flows(traffic, masks)
    if len(flows) == 1:
        raise MappingError(
            f"{chip.name}: the network fits into one tile, and nothing travels between tiles; "
            "take a chip of smaller tiles, such as small_tiles"
        )
    of_tile = np.arange(len(flows)) // chip.tiles_per_router
    between = np.zeros((of_tile[-1] + 1, of_tile[-1] + 1))
    np.add.at(between, np.ix_(of_tile, of_tile), flows)
    place = place_tiles(between, mesh, placement, seed=seed)
    parts = [traffic_ways({name: matrix}, masks, multicast=multicast) for name, matrix in traffic.items()]
    bits = np.concatenate([part[1] for part in parts])
    ways = Ways.joined([part[0] for part in parts]).placed(place[of_tile])
    layers: list[list[str]] = [[] for _ in range(mesh.nodes)]
    for name, matrix in traffic.items():
        for node in dict.fromkeys(place[of_tile[np.unique(matrix.tile[matrix.tile >= 0])]].tolist()):
            layers[node].append(name)
    return NocEstimate(
        chip=chip,
        mesh=mesh,
        router=router,
        placement=placement,
        multicast=multicast,
        layers=tuple(map(tuple, layers)),
        tiles=len(flows),
        matrices=tuple(traffic),
        matrix=np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts]),
        ways=ways,
        bits=bits,
        loads=link_loads(mesh, ways, bits),
        energy_pj=way_energy_pj(mesh, ways, bits, energy),
        latency=way_latency(mesh, ways, bits, router.flit_bits),
        bit_hops=bit_hops(between, mesh, place),
        snake_bit_hops=bit_hops(between, mesh, mesh.snake()[: len(between)]),
    )
