"""What does every router do in a cycle? The inner loops of the simulator: queues, allocators, credits (after BookSim2).

A router's input port (0 to 3: from the neighbour in that direction, 4: from its own tile) has virtual channels (VCs),
each a queue of flits. Input VC `(router * 5 + port) * vcs + lane` is also the name of the *output* VC of the router
before it, which keeps credits and an owner for it; behind all of these come the output VCs that lead to tiles. A packet
at the head of an input VC needs one output port, or several where a multicast forks: branch `input VC * 5 + port` each.

In a cycle, in this order: flits and credits arrive; output VCs are allocated to branches that were routed before;
packets that are at the head of a queue are routed; the switch is allocated to branches that had an output VC before,
and lets their flits through. So each stage takes a cycle, and what one frees, the stage before it sees a cycle later.
Only what is in a list has something to do: what is idle costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

PORTS = 5
_HERE = 4  # the port to and from the router's own tile
WHEEL = 4  # cycles ahead that something may arrive in, and one
_HOP = 3  # cycles from the switch's allocation to the next router's queue: switch traversal, link, and arrival
_INJECTION = 2  # cycles from a tile to its router's queue, and back for credits

# Columns of the tables below.
ROUTER, INPUT, LANE, HEAD, WAITING, PACKET, LEFT, OPEN, FIRST_EXIT, VC_COLUMNS = range(10)
EXIT, SENT, BRANCH_COLUMNS = range(3)
CREDITS, OWNED, FIRST_OWNER, OWNER, OWNER_RANK, EXIT_COLUMNS = range(6)
FIRST_LANE, FIRST_OUTPUT, FIRST_INPUT, TAKER, TAKER_RANK, PORT_COLUMNS = range(6)
ASKER, ASKER_RANK, PAIR_COLUMNS = range(3)
NEXT, GONE, SOURCE_LANE, SOURCE_COLUMNS = range(4)
CYCLE, WAY, FLITS, DELIVERY = range(4)
SOURCE, START, MANY = range(3)
TO_ROUTE, TO_ALLOCATE, TO_SEND, FRESH, TOUCHED, LISTS = range(6)
NOW, DELIVERED, INJECTED, UNDER_WAY, COUNTERS = range(5)


class Fabric(NamedTuple):
    """All that changes: int32 tables, a row for each thing that there is, and int64 results."""

    queue: np.ndarray  # [input VCs, depth], packets of the waiting flits, a ring
    vcs: np.ndarray  # [input VCs]: its router, input port and number within it; the ring's head; flits waiting; the
    # packet that is sent, -1: idle; how many of its flits have left; bits of ports to which it goes; the exit asked for
    branches: np.ndarray  # [input VCs * 5]: its output VC, -1: none yet; flits sent
    exits: np.ndarray  # [output VCs]: free places in the queue behind it; is it taken; who comes first; the best so far
    ports: np.ndarray  # [routers * 5]: as an input which lane and output come first; as an output which input; the best
    pairs: np.ndarray  # [routers * 5 * 5], input port and output: the best so far
    lists: np.ndarray  # [lists, branches]
    listed: np.ndarray  # [lists], their lengths
    flits_due: np.ndarray  # [wheel, .., 2], by the cycle of arrival: input VC, packet
    credits_due: np.ndarray  # [wheel, ..]
    due: np.ndarray  # [wheel, 2], how many of both
    sources: np.ndarray  # [routers]: the next packet in `Work.order`, its flits that have left, its VC's lane
    link_flits: np.ndarray  # int64 [routers * 4]
    arrived: np.ndarray  # int64 [deliveries], the cycle of the last flit; -1: not yet
    totals: np.ndarray  # int64


class Work(NamedTuple):
    """All that does not change: the mesh, the packets, and the order in which a source sends them."""

    vcs: int
    depth: int
    torus: bool
    place: np.ndarray  # int64 [routers, 2], column and row
    beyond: np.ndarray  # int64 [routers * 5], the first output VC of each output port; -1: no link
    tree: np.ndarray  # uint8 [ways, routers]
    ways: np.ndarray  # int64 [ways, 3]: source, where its destinations start, how many there are
    to: np.ndarray  # int64
    packets: np.ndarray  # int64 [packets, 4]: cycle, way, flits, where its deliveries start
    order: np.ndarray  # int64 [packets], by source
    last: np.ndarray  # int64 [routers], the end of a source's packets in `order`


@njit(cache=True)
def run(fabric: Fabric, work: Work, cycles: int, at_a_time: int) -> bool:
    """Simulate up to `cycles`, or until all packets have arrived; False: neither yet, but `at_a_time` cycles more."""
    totals = fabric.totals
    for _ in range(at_a_time):
        if totals[NOW] >= cycles:
            return True
        now = totals[NOW]
        _arrive(fabric, work, now)
        _inject(fabric, work, now)
        _allocate_vcs(fabric, work)
        _route(fabric, work)
        _allocate_switch(fabric, work, now)
        totals[NOW] += 1
        if totals[UNDER_WAY] == 0:
            soonest = _next_packet(fabric, work)
            if soonest < 0:
                totals[NOW] += _HOP - 1  # the last flit is on its way from the switch to its tile
                return True
            # Credits that are under way arrive meanwhile, as long as no cycle of the wheel is left out.
            if soonest > totals[NOW] + WHEEL and not fabric.due.any():
                totals[NOW] = min(cycles, soonest)
    return False


@njit(cache=True, forceinline=True)
def _next(place: int, size: int) -> int:
    return place + 1 if place + 1 < size else 0


@njit(cache=True, forceinline=True)
def _ahead(place: int, first: int, size: int) -> int:
    """How far a place is behind the first, all round."""
    return place - first if place >= first else place - first + size


@njit(cache=True, forceinline=True)
def _add(fabric: Fabric, which: int, what: int) -> None:
    fabric.lists[which, fabric.listed[which]] = what
    fabric.listed[which] += 1


@njit(cache=True)
def _next_packet(fabric: Fabric, work: Work) -> int:
    """When the next packet comes, of all sources; -1: there is none."""
    soonest = -1
    for router in range(work.last.size):
        if fabric.sources[router, NEXT] < work.last[router]:
            cycle = work.packets[work.order[fabric.sources[router, NEXT]], CYCLE]
            soonest = cycle if soonest < 0 else min(soonest, cycle)
    return soonest


@njit(cache=True, forceinline=True)
def _arrive(fabric: Fabric, work: Work, now: int) -> None:
    slot = now % WHEEL
    for index in range(fabric.due[slot, 0]):
        vc, packet = fabric.flits_due[slot, index, 0], fabric.flits_due[slot, index, 1]
        end = fabric.vcs[vc, HEAD] + fabric.vcs[vc, WAITING]
        fabric.queue[vc, end if end < work.depth else end - work.depth] = packet
        fabric.vcs[vc, WAITING] += 1
        if fabric.vcs[vc, PACKET] < 0:
            fabric.vcs[vc, PACKET] = packet
            _add(fabric, TO_ROUTE, vc)
    for index in range(fabric.due[slot, 1]):
        fabric.exits[fabric.credits_due[slot, index], CREDITS] += 1
    fabric.due[slot, 0] = fabric.due[slot, 1] = 0


@njit(cache=True, forceinline=True)
def _inject(fabric: Fabric, work: Work, now: int) -> None:
    """Each source sends a flit of its oldest packet, if the VC has room."""
    for router in range(work.last.size):
        source = fabric.sources[router]
        if source[NEXT] == work.last[router]:
            continue
        packet = int(work.order[source[NEXT]])
        if work.packets[packet, CYCLE] > now:
            continue
        base = (router * PORTS + _HERE) * work.vcs
        room = 1
        if source[GONE] == 0:  # the next VC in turn that has room
            room = _room(work, packet)
            for _ in range(work.vcs):
                source[SOURCE_LANE] = _next(source[SOURCE_LANE], work.vcs)
                if fabric.exits[base + source[SOURCE_LANE], CREDITS] >= room:
                    break
        vc = base + source[SOURCE_LANE]
        if fabric.exits[vc, CREDITS] < room:
            continue
        _start(fabric, vc, packet, (now + _INJECTION) % WHEEL)
        source[GONE] += 1
        fabric.totals[INJECTED] += 1
        if source[GONE] == work.packets[packet, FLITS]:
            source[GONE] = 0
            source[NEXT] += 1


@njit(cache=True, forceinline=True)
def _start(fabric: Fabric, vc: int, packet: int, slot: int) -> None:
    """Put a flit on the link to an input VC."""
    fabric.exits[vc, CREDITS] -= 1
    fabric.flits_due[slot, fabric.due[slot, 0], 0] = vc
    fabric.flits_due[slot, fabric.due[slot, 0], 1] = packet
    fabric.due[slot, 0] += 1
    fabric.totals[UNDER_WAY] += 1


@njit(cache=True, forceinline=True)
def _room(work: Work, packet: int) -> int:
    """How much room a packet needs in a queue before its first flit is sent there: all that it needs, if multicast.

    Then every branch that has begun can be sent to its end, whatever the others wait for, and forks cannot wait for
    one another in a circle.
    """
    return int(work.packets[packet, FLITS]) if work.ways[work.packets[packet, WAY], MANY] > 1 else 1


@njit(cache=True, forceinline=True)
def _allocate_vcs(fabric: Fabric, work: Work) -> None:
    """Separable, input first, one iteration: a branch asks for one free output VC of its port, each of which takes one.

    Those that have got one are then in the list `FRESH`.
    """
    around = PORTS * work.vcs
    kept = 0
    fabric.listed[TOUCHED] = 0
    for index in range(fabric.listed[TO_ALLOCATE]):
        branch = fabric.lists[TO_ALLOCATE, index]
        if fabric.branches[branch, EXIT] >= 0:  # got one a cycle ago
            continue
        fabric.lists[TO_ALLOCATE, kept] = branch
        kept += 1
        wanted = _wanted(fabric, work, branch)
        if wanted < 0:
            continue
        vc = branch // PORTS
        place = vc - fabric.vcs[vc, ROUTER] * around
        rank = _ahead(place, fabric.exits[wanted, FIRST_OWNER], around)
        if fabric.exits[wanted, OWNER] < 0:
            _add(fabric, TOUCHED, wanted)
        elif rank > fabric.exits[wanted, OWNER_RANK]:
            continue
        fabric.exits[wanted, OWNER], fabric.exits[wanted, OWNER_RANK] = branch, rank
    fabric.listed[TO_ALLOCATE] = kept
    for index in range(fabric.listed[TOUCHED]):
        wanted = fabric.lists[TOUCHED, index]
        branch = fabric.exits[wanted, OWNER]
        vc, port = branch // PORTS, branch % PORTS
        router = fabric.vcs[vc, ROUTER]
        lane = wanted - work.beyond[router * PORTS + port]
        fabric.exits[wanted, OWNER] = -1
        fabric.exits[wanted, OWNED] = 1
        fabric.exits[wanted, FIRST_OWNER] = _next(vc - router * around, around)
        fabric.vcs[vc, FIRST_EXIT] = _next(port * work.vcs + lane, around)
        fabric.branches[branch, EXIT] = wanted
        _add(fabric, FRESH, branch)


@njit(cache=True, forceinline=True)
def _wanted(fabric: Fabric, work: Work, branch: int) -> int:
    """The free output VC that a branch asks for, the next in turn; -1: there is none.

    Room is asked for by a multicast alone: else a VC may be taken that has none yet.
    """
    vc, port = branch // PORTS, branch % PORTS
    packet, output = fabric.vcs[vc, PACKET], fabric.vcs[vc, ROUTER] * PORTS + port
    low, high, room = 0, work.vcs, 0
    if port != _HERE:
        room = _room(work, packet)
        room = room if room > 1 else 0
        if work.torus:
            wrapped = _wrapped(work, output, work.ways[work.packets[packet, WAY], SOURCE])
            low, high = (high // 2, high) if wrapped else (0, high // 2)
    lane = fabric.vcs[vc, FIRST_EXIT] - port * work.vcs
    lane = lane if low <= lane < high else low
    for _ in range(high - low):
        wanted = int(work.beyond[output] + lane)
        if not fabric.exits[wanted, OWNED] and fabric.exits[wanted, CREDITS] >= room:
            return wanted
        lane = lane + 1 if lane + 1 < high else low
    return -1


@njit(cache=True, forceinline=True)
def _wrapped(work: Work, output: int, source: int) -> bool:
    """Has a packet, behind this link, gone round the rim of the torus in the link's direction?

    Before it packets take the lower half of the VCs, from there on the upper: neither waits for itself (dateline).
    """
    port = output % PORTS
    beyond = work.beyond[output] // (PORTS * work.vcs)
    ahead = work.place[beyond, port // 2] - work.place[source, port // 2]
    return ahead < 0 if port % 2 == 0 else ahead > 0


@njit(cache=True, forceinline=True)
def _route(fabric: Fabric, work: Work) -> None:
    """Find the ports of packets that have come to the head of their queue."""
    for index in range(fabric.listed[TO_ROUTE]):
        vc = fabric.lists[TO_ROUTE, index]
        ports = work.tree[work.packets[fabric.vcs[vc, PACKET], WAY], fabric.vcs[vc, ROUTER]]
        fabric.vcs[vc, OPEN], fabric.vcs[vc, LEFT] = ports, 0
        for port in range(PORTS):
            if ports >> port & 1:
                branch = vc * PORTS + port
                fabric.branches[branch, EXIT], fabric.branches[branch, SENT] = -1, 0
                _add(fabric, TO_ALLOCATE, branch)
    fabric.listed[TO_ROUTE] = 0


@njit(cache=True, forceinline=True)
def _allocate_switch(fabric: Fabric, work: Work, now: int) -> None:
    """Separable, input first, one iteration: each input port asks for one output port, each of which takes one."""
    kept = 0
    fabric.listed[TOUCHED] = 0
    for index in range(fabric.listed[TO_SEND]):
        branch = fabric.lists[TO_SEND, index]
        vc, port = branch // PORTS, branch % PORTS
        wanted = fabric.branches[branch, EXIT]
        if wanted < 0:  # all sent
            continue
        fabric.lists[TO_SEND, kept] = branch
        kept += 1
        here = fabric.vcs[vc]
        if fabric.branches[branch, SENT] - here[LEFT] >= here[WAITING]:
            continue
        if port != _HERE and fabric.exits[wanted, CREDITS] == 0:
            continue
        pair = here[INPUT] * PORTS + port
        rank = _ahead(here[LANE], fabric.ports[here[INPUT], FIRST_LANE], work.vcs)
        if fabric.pairs[pair, ASKER] < 0:
            _add(fabric, TOUCHED, pair)
        elif rank > fabric.pairs[pair, ASKER_RANK]:
            continue
        fabric.pairs[pair, ASKER], fabric.pairs[pair, ASKER_RANK] = branch, rank
    for index in range(fabric.listed[FRESH]):
        fabric.lists[TO_SEND, kept + index] = fabric.lists[FRESH, index]
    fabric.listed[TO_SEND] = kept + fabric.listed[FRESH]
    asking = fabric.listed[TOUCHED]
    fabric.listed[FRESH] = 0
    _choose_inputs(fabric)
    for index in range(asking):
        fabric.pairs[fabric.lists[TOUCHED, index], ASKER] = -1
    for index in range(asking, fabric.listed[TOUCHED]):
        output = fabric.lists[TOUCHED, index]
        branch = fabric.ports[output, TAKER]
        fabric.ports[output, TAKER] = -1
        here = fabric.vcs[branch // PORTS]
        fabric.ports[here[INPUT], FIRST_LANE] = _next(here[LANE], work.vcs)
        fabric.ports[here[INPUT], FIRST_OUTPUT] = _next(branch % PORTS, PORTS)
        fabric.ports[output, FIRST_INPUT] = _next(here[INPUT] % PORTS, PORTS)
        _send(fabric, work, branch, now)


@njit(cache=True, forceinline=True)
def _choose_inputs(fabric: Fabric) -> None:
    """Of the outputs that an input port asks for the next in turn; of the inputs that then ask for an output likewise.

    The pairs that ask are in the list `TOUCHED`; outputs that are taken come behind them.
    """
    for index in range(fabric.listed[TOUCHED]):
        pair = fabric.lists[TOUCHED, index]
        entry, port = pair // PORTS, pair % PORTS
        other = fabric.ports[entry, FIRST_OUTPUT]
        while fabric.pairs[entry * PORTS + other, ASKER] < 0:
            other = _next(other, PORTS)
        if other != port:
            continue
        output = entry // PORTS * PORTS + port
        rank = _ahead(entry % PORTS, fabric.ports[output, FIRST_INPUT], PORTS)
        if fabric.ports[output, TAKER] < 0:
            _add(fabric, TOUCHED, output)
        elif rank > fabric.ports[output, TAKER_RANK]:
            continue
        fabric.ports[output, TAKER], fabric.ports[output, TAKER_RANK] = fabric.pairs[pair, ASKER], rank


@njit(cache=True, forceinline=True)
def _send(fabric: Fabric, work: Work, branch: int, now: int) -> None:
    """Let a flit of a branch through the switch."""
    vc, port = branch // PORTS, branch % PORTS
    packet, wanted, router = fabric.vcs[vc, PACKET], fabric.branches[branch, EXIT], fabric.vcs[vc, ROUTER]
    fabric.branches[branch, SENT] += 1
    whole = fabric.branches[branch, SENT] == work.packets[packet, FLITS]
    if port == _HERE:
        fabric.totals[DELIVERED] += 1
        if whole:
            way = work.packets[packet, WAY]
            delivery = work.packets[packet, DELIVERY] - work.ways[way, START]
            for place in range(work.ways[way, START], work.ways[way, START] + work.ways[way, MANY]):
                if work.to[place] == router:
                    fabric.arrived[delivery + place] = now + _HOP
    else:
        fabric.link_flits[router * _HERE + port] += 1
        _start(fabric, wanted, packet, (now + _HOP) % WHEEL)
    if whole:
        fabric.branches[branch, EXIT] = -1
        fabric.exits[wanted, OWNED] = 0
        fabric.vcs[vc, OPEN] &= ~(1 << port)
    _make_room(fabric, work, vc, now)


@njit(cache=True, forceinline=True)
def _make_room(fabric: Fabric, work: Work, vc: int, now: int) -> None:
    """Take flits from a queue that all branches have sent, give credits back, and turn to the next packet."""
    here = fabric.vcs[vc]
    sent = work.packets[here[PACKET], FLITS]
    for port in range(PORTS):
        if here[OPEN] >> port & 1:
            sent = min(sent, fabric.branches[vc * PORTS + port, SENT])
    slot = (now + (_INJECTION if here[INPUT] % PORTS == _HERE else _HOP)) % WHEEL
    while here[LEFT] < sent:
        here[LEFT] += 1
        here[HEAD] = _next(here[HEAD], work.depth)
        here[WAITING] -= 1
        fabric.totals[UNDER_WAY] -= 1
        fabric.credits_due[slot, fabric.due[slot, 1]] = vc
        fabric.due[slot, 1] += 1
    if here[OPEN] == 0:
        here[PACKET] = -1
        if here[WAITING] > 0:
            here[PACKET] = fabric.queue[vc, here[HEAD]]
            _add(fabric, TO_ROUTE, vc)
