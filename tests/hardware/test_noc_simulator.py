"""Does every flit arrive, once, when it should, and the same under the same seed?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bale.errors import BaleError
from bale.hardware import Mesh, NocRun, Packets, Router, Ways, flow_packets, link_loads, simulate_noc, uniform_packets

meshes = st.builds(Mesh, st.integers(1, 5), st.integers(1, 5), st.booleans())


@st.composite
def traces(draw: st.DrawFn, most_flits: int = 12, most_to: int = 1) -> tuple[Mesh, Packets]:
    """Many packets in few cycles, so that they meet."""
    mesh = draw(meshes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    packets = []
    for _ in range(draw(st.integers(0, 300))):
        source, *to = rng.integers(0, mesh.nodes, 1 + rng.integers(1, most_to + 1)).tolist()
        packets.append((int(rng.integers(0, 60)), source, to, int(rng.integers(1, most_flits + 1))))
    return mesh, Packets.of(packets)


def times(packets: Packets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return packets.cycle, packets.way, packets.flits


def check_all_arrived(mesh: Mesh, run: NocRun) -> None:
    packets = run.packets
    many = np.diff(packets.ways.start)[packets.way]
    assert run.under_way == 0 and (run.arrived >= 0).all() and (run.latency >= 0).all()
    assert run.injected == packets.flits.sum() and run.delivered == (packets.flits * many).sum()
    bits = np.bincount(packets.way, packets.flits, minlength=len(packets.ways))
    assert np.array_equal(run.link_flits, link_loads(mesh, packets.ways, bits))


@pytest.mark.parametrize("flits", [1, 5, 12])
@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (0, 7), (63, 0), (20, 43)])
@pytest.mark.parametrize("torus", [False, True])
def test_a_packet_alone_takes_5_cycles_a_router_and_2(a, b, flits, torus) -> None:
    mesh = Mesh(8, 8, torus)
    run = simulate_noc(mesh, Packets.of([(7, a, b, flits)]))
    assert run.latency.tolist() == [5 * (mesh.hops(a, b) + 1) + 2 + flits - 1]
    assert run.cycles == 7 + run.latency[0]


@given(traces(), st.integers(1, 5), st.integers(1, 9))
@settings(deadline=None)
def test_everything_arrives(trace, vcs, depth) -> None:
    mesh, packets = trace
    run = simulate_noc(mesh, packets, Router(vcs + mesh.torus, depth))
    check_all_arrived(mesh, run)
    source, to = packets.ways.source[packets.way], packets.ways.to[packets.way]
    alone = 5 * (mesh.hop_matrix()[source, to] + 1) + 2 + packets.flits - 1
    assert (run.latency >= alone).all()


@given(traces(most_flits=6, most_to=6), st.integers(6, 9))
@settings(deadline=None)
def test_a_multicast_arrives_once_at_each_destination(trace, depth) -> None:
    mesh, packets = trace
    run = simulate_noc(mesh, packets, Router(2, depth))
    check_all_arrived(mesh, run)  # as many flits delivered as there are destinations, and each has its last
    many = np.diff(packets.ways.start)[packets.way]
    first = np.cumsum(many) - many
    assert run.latency.tolist() == [
        run.arrived[start : start + size].max() - cycle
        for start, size, cycle in zip(first, many, packets.cycle, strict=True)
    ]


@given(traces(most_to=3, most_flits=8), st.integers(0, 120))
@settings(deadline=None)
def test_flits_are_conserved_before_all_have_arrived(trace, cycles) -> None:
    mesh, packets = trace
    alone = Packets(Ways.pairs(packets.ways.source, packets.ways.to[packets.ways.start[:-1]]), *times(packets))
    run = simulate_noc(mesh, alone, cycles=cycles)
    assert run.injected == run.delivered + run.under_way
    run = simulate_noc(mesh, packets, cycles=cycles)
    whole = simulate_noc(mesh, packets)
    assert run.injected <= whole.injected and run.delivered <= whole.delivered
    there = run.arrived >= 0
    assert np.array_equal(run.arrived[there], whole.arrived[there])  # what came later changed nothing


def test_what_is_on_its_last_link_when_time_is_over_has_not_arrived() -> None:
    packets = Packets.of([(0, 5, 5, 1)])  # 7 cycles alone
    early, late = (simulate_noc(Mesh(3, 3), packets, cycles=cycles) for cycles in (6, 7))
    assert (early.latency.tolist(), early.arrived.tolist(), early.cycles) == ([-1], [-1], 6)
    assert (late.latency.tolist(), late.arrived.tolist(), late.cycles) == ([7], [7], 7)
    assert np.isnan(early.mean_latency) and np.isnan(early.percentile(50))
    assert np.isnan(simulate_noc(Mesh(1, 1), Packets.of([])).mean_latency)


def test_a_multicast_alone_is_as_fast_as_its_farthest_destination_and_uses_shared_links_once() -> None:
    mesh = Mesh(4, 4)
    run = simulate_noc(mesh, Packets.of([(0, 0, [3, 7, 15], 4)]))
    assert run.latency.tolist() == [5 * 7 + 2 + 3]
    assert run.link_flits.sum() == 4 * (3 + 3) and run.router_flits == 4 * 7
    apart = simulate_noc(mesh, Packets.of([(0, 0, to, 4) for to in (3, 7, 15)]))
    assert apart.link_flits.sum() == 4 * (3 + 4 + 6) and apart.latency.max() > run.latency[0]


def test_heavy_traffic_on_a_torus_does_not_deadlock() -> None:
    mesh = Mesh(5, 4, torus=True)
    rng = np.random.default_rng(0)
    packets = [
        (0, int(source), rng.choice(mesh.nodes, 4, replace=False).tolist(), 8)
        for source in np.tile(np.arange(mesh.nodes), 40)
    ]
    check_all_arrived(mesh, simulate_noc(mesh, Packets.of(packets), Router(vcs=2)))


def test_the_same_seed_is_the_same_run_and_uniform_traffic_has_its_load() -> None:
    mesh = Mesh(4, 4)
    first, again, other = (uniform_packets(mesh, 0.3, 2000, flits=2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(simulate_noc(mesh, first).arrived, simulate_noc(mesh, again).arrived)
    assert len(first) != len(other)
    assert first.flits.sum() == pytest.approx(0.3 * 2000 * 16, rel=0.02)
    source, to = first.ways.source[first.way], first.ways.to[first.way]
    assert np.bincount(source * 16 + to, minlength=256).min() > 0  # every pair, the source itself too


def test_pauses_change_nothing(monkeypatch) -> None:
    mesh = Mesh(3, 3)
    packets = uniform_packets(mesh, 0.4, 100, flits=3)
    whole = simulate_noc(mesh, packets)
    monkeypatch.setattr("bale.hardware.noc.simulator._AT_A_TIME", 7)
    paused = simulate_noc(mesh, packets)
    assert np.array_equal(paused.arrived, whole.arrived) and paused.cycles == whole.cycles


def test_a_network_that_is_idle_for_long_costs_nothing() -> None:
    run = simulate_noc(Mesh(3, 3), Packets.of([(0, 0, 8, 1), (10**12, 8, 0, 3)]))
    assert run.latency.tolist() == [27, 29] and run.cycles == 10**12 + 29
    assert run.mean_latency == 28 and run.percentile(100) == 29


def test_the_packets_of_flows_carry_their_bits_evenly() -> None:
    ways = Ways.pairs(np.array([0, 1]), np.array([2, 0]))
    packets = flow_packets(ways, np.array([1000.0, 64.0]), flit_bits=64, most_flits=5, cycles=100)
    assert np.bincount(packets.way, packets.flits).tolist() == [16, 1]
    assert np.array_equal(np.sort(packets.flits[packets.way == 0]), [1, 5, 5, 5])
    assert (np.abs(np.diff(packets.cycle[packets.way == 0]) - 25) <= 1).all() and packets.cycle.max() < 100


def test_what_cannot_be_sent() -> None:
    mesh = Mesh(2, 2, torus=True)
    with pytest.raises(BaleError, match="vcs: a torus needs 2"):
        simulate_noc(mesh, Packets.of([(0, 0, 1, 1)]), Router(vcs=1))
    with pytest.raises(BaleError, match="a multicast packet of 9 flits: must fit in a VC's queue of 8"):
        simulate_noc(mesh, Packets.of([(0, 0, [1, 2], 9)]))
    with pytest.raises(BaleError, match="routers 4 to 4: the mesh has 0 to 3"):
        simulate_noc(mesh, Packets.of([(0, 0, 4, 1)]))
    with pytest.raises(BaleError, match="packet 0: must have at least 1 flit"):
        Packets.of([(0, 0, 1, 0)])
    with pytest.raises(BaleError, match="in the order of their cycles"):
        Packets.of([(-1, 0, 1, 1)])
    with pytest.raises(BaleError, match="way 0, from 3: has no destination"):
        Ways.of([(3, [])])
    with pytest.raises(BaleError, match="load: must be above 0 and at most 1 flit"):
        uniform_packets(mesh, 1.5, 10)
    with pytest.raises(BaleError, match="expected at least 0 cycles and 1 flit a packet, got 10 and 0"):
        uniform_packets(mesh, 0.5, 10, flits=0)
    with pytest.raises(BaleError, match="packets on ways 1 to 1: there are 1 ways"):
        Packets(Ways.of([(0, [1])]), *(np.array([number]) for number in (0, 1, 1)))
    with pytest.raises(BaleError, match="cycles: must be at least 0, got -1"):
        simulate_noc(mesh, Packets.of([]), cycles=-1)
    with pytest.raises(BaleError, match="depth: must be at least 1, got 0"):
        Router(depth=0)
