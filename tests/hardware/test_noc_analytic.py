"""Are loads, latencies, energies and placements what brute force finds?"""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bale.errors import BaleError, MappingError
from bale.hardware import (
    Event,
    Mesh,
    NocEnergy,
    Router,
    Ways,
    bit_hops,
    cost,
    estimate_noc,
    link_loads,
    matrix_traffic,
    place_tiles,
    put_on_chip,
    simulate_noc,
    small_tiles,
    tile_flows,
    traffic_ways,
    way_energy_pj,
    way_latency,
)
from bale.models import VGG8, LeNet5


@st.composite
def placed_ways(draw: st.DrawFn) -> tuple[Mesh, Ways, np.ndarray]:
    mesh = Mesh(draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.booleans()))
    node = st.integers(0, mesh.nodes - 1)
    ways = draw(st.lists(st.tuples(node, st.lists(node, min_size=1, max_size=5)), min_size=1, max_size=20))
    bits = draw(st.lists(st.integers(1, 1000), min_size=len(ways), max_size=len(ways)))
    return mesh, Ways.of(ways), np.array(bits, np.float64)


@given(placed_ways())
def test_loads_energies_and_latencies_are_those_of_the_trees(drawn) -> None:
    mesh, ways, bits = drawn
    loads = np.zeros((mesh.nodes, 4))
    energy, latency = [], []
    for way, (source, many) in enumerate(zip(ways.source.tolist(), bits, strict=True)):
        to = ways.to[ways.start[way] : ways.start[way + 1]].tolist()
        tree = mesh.tree(source, to)
        for link in tree:
            loads[link // 4, link % 4] += many
        energy.append(many * (len(tree) * 0.5 + (len(tree) + 1) * 0.25))
        latency.append(5 * (max(mesh.hops(source, b) for b in to) + 1) + 2 * many / 64)
    assert np.allclose(link_loads(mesh, ways, bits), loads)
    assert np.allclose(way_energy_pj(mesh, ways, bits, NocEnergy(router_pj=0.25, link_pj=0.5)), energy)
    assert np.allclose(way_latency(mesh, ways, bits, 64), latency)


@pytest.fixture(scope="module")
def lenet5():
    torch.manual_seed(0)
    return put_on_chip(LeNet5(), small_tiles(), torch.rand(2, 1, 28, 28), copy=False)


def test_multicast_sends_what_unicast_sends_over_fewer_links(lenet5) -> None:
    traffic = matrix_traffic(lenet5)
    ways, bits = traffic_ways(traffic, multicast=True)
    single, way = ways.unicast()
    flows = np.zeros((37, 37))
    np.add.at(flows, (single.source, single.to), bits[way])
    assert np.allclose(flows, tile_flows(traffic))
    one, many = estimate_noc(lenet5), estimate_noc(lenet5, multicast=True)
    assert many.energy_pj.sum() < one.energy_pj.sum() and many.loads.sum() < one.loads.sum()
    assert one.loads.sum() == pytest.approx(one.bit_hops) == pytest.approx(one.snake_bit_hops)


def test_energy_is_the_routers_of_counted_events_where_both_count_the_same() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 256), torch.nn.Linear(256, 8))
    # Row blocks of the last are in one tile, those of the others are one: each tile needs all channels.
    data = torch.rand(2, 64)
    estimate = estimate_noc(put_on_chip(model, small_tiles(), data, copy=False))
    counted = cost(model, small_tiles(), data, copy=False)
    assert counted.tiles == estimate.tiles > 2
    routed = counted.ledger.total(Event.ROUTER) * 20.74
    assert estimate.energy_pj.sum() == pytest.approx(routed)


@pytest.mark.parametrize("multicast", [False, True])
@pytest.mark.parametrize("torus", [False, True])
def test_loads_are_the_flits_that_the_simulator_counts(lenet5, multicast, torus) -> None:
    estimate = estimate_noc(lenet5, placement="annealed", multicast=multicast, torus=torus, router=Router(flit_bits=32))
    packets = estimate.packets(load=0.5, seed=3)
    run = simulate_noc(estimate.mesh, packets, estimate.router)
    assert run.under_way == 0
    assert np.array_equal(run.link_flits, link_loads(estimate.mesh, estimate.ways, np.ceil(estimate.bits / 32)))
    assert run.link_flits.max() <= 0.5 * run.cycles
    assert sorted({name for names in estimate.layers for name in names}) == ["conv1", "conv2", "fc1", "fc2", "fc3"]


@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.data())
def test_annealing_is_between_the_snake_and_the_best(columns, rows, torus, data) -> None:
    mesh = Mesh(columns, rows, torus)
    tiles = data.draw(st.integers(1, min(mesh.nodes, 6)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    flows = rng.integers(0, 100, (tiles, tiles)) * (rng.random((tiles, tiles)) < 0.5)
    costs = {}
    for method in ("snake", "annealed", "exact"):
        placed = place_tiles(flows, mesh, method, steps=2000)
        assert len(set(placed.tolist())) == tiles and 0 <= placed.min() <= placed.max() < mesh.nodes
        costs[method] = bit_hops(flows, mesh, placed)
    assert costs["exact"] <= costs["annealed"] <= costs["snake"]


def test_annealing_finds_the_best_placement_of_a_ring_and_repeats_itself() -> None:
    order = np.random.default_rng(0).permutation(9)
    ring = nx.to_numpy_array(nx.cycle_graph(9))[np.ix_(order, order)]
    mesh = Mesh(3, 3)
    placed = place_tiles(ring, mesh, "annealed", seed=1)
    assert bit_hops(ring, mesh, placed) == bit_hops(ring, mesh, place_tiles(ring, mesh, "exact")) == 20
    assert np.array_equal(placed, place_tiles(ring, mesh, "annealed", seed=1))


def test_annealing_a_network_shortens_its_ways() -> None:
    torch.manual_seed(0)
    on_chip = put_on_chip(VGG8(width=16), small_tiles(), torch.rand(1, 1, 28, 28), copy=False)
    estimate = estimate_noc(on_chip, placement="annealed")
    assert estimate.bit_hops < 0.6 * estimate.snake_bit_hops


def test_masks_take_traffic_away(lenet5) -> None:
    masks = {name: np.zeros_like(matrix.tile, bool) for name, matrix in matrix_traffic(lenet5).items()}
    assert estimate_noc(lenet5, masks=masks).bits.sum() == 0
    del masks["conv2"]
    kept = estimate_noc(lenet5, masks=masks)
    assert 0 < kept.bits.sum() < estimate_noc(lenet5).bits.sum()


def test_what_cannot_be_placed(lenet5) -> None:
    flows = np.ones((10, 10))
    with pytest.raises(BaleError, match="10 tiles: the mesh has 9 routers"):
        place_tiles(flows, Mesh(3, 3))
    with pytest.raises(BaleError, match="placement: expected snake, annealed, exact, got 'best'"):
        place_tiles(flows, Mesh(4, 4), "best")
    with pytest.raises(BaleError, match="placement exact: 29,059,430,400 placements to try"):
        place_tiles(flows, Mesh(4, 4), "exact")
    with pytest.raises(MappingError, match="isaac_ce: the network fits into one tile"):
        estimate_noc(put_on_chip(LeNet5(), "isaac_ce", torch.rand(1, 1, 28, 28), copy=False))
    with pytest.raises(BaleError, match="router energy: expected isaac or conservative, got 'free'"):
        NocEnergy.of("free")
    with pytest.raises(BaleError, match="link_pj: must be at least 0, got -1"):
        NocEnergy(0.1, -1)
