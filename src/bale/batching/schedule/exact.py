"""Exact: how few batches can run a graph at all? For small graphs, to tell a policy's waste from the bound's.

A state is the set of nodes that have run, and a step runs all ready nodes of one type. To run fewer is never better:
the same types in the same order, each run in full, have at every step run at least as much, so what was ready then is
ready or has run, and no batch is added. So a sequence of types is all that a schedule can choose.

A* over these states. What remains takes at least the sum over types of the longest remaining chain, and a step shortens
one chain at most, by one. So an estimate, steps taken plus that sum, grows by 0 or 1 with a step, and a state is
expanded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit

from bale.batching.graph import Graph
from bale.batching.schedule.bounds import lower_bound_by_type
from bale.batching.schedule.frontier import dataflow
from bale.batching.schedule.height import heights
from bale.batching.schedule.portfolio import by_beam
from bale.batching.schedule.schedule import Schedule
from bale.errors import ScheduleError

WORD = 64  # nodes in a word of a set
# A search begins anew with 16 times the room where this is too little: a small hash table stays in the cache.
FIRST_ROOM = 1 << 13


@dataclass(frozen=True)
class Optimum:
    """What a search for the fewest batches found.

    schedule  the shortest schedule known
    bound     no schedule has fewer batches
    states    the sets of executed nodes that the search came to know
    """

    schedule: Schedule
    bound: int
    states: int

    @property
    def proved(self) -> bool:
        """Whether no schedule can be shorter."""
        return len(self.schedule) == self.bound

    def __str__(self) -> str:
        found = "optimal" if self.proved else f"at least {self.bound} needed"
        return f"Optimum: {len(self.schedule)} batches, {found}, {self.states} states"


def optimum(graph: Graph, *, limit: int = 1 << 21) -> Optimum:
    """Search a schedule of `graph` with the fewest batches, beginning from the beam's.

    It ends at once where that is as short as the lower bound, as on most trees, chains and lattices. Random graphs of
    five types and 60 nodes take hundreds to thousands of states and milliseconds, with 100 nodes sometimes a million.
    Where `limit` states are not enough the answer is not `proved`: the beam's schedule, with the bound reached so far.
    A state takes 40 bytes, with more than 64 nodes 8 more for every 64, and time by nodes x words of 64. The same graph
    and limit give the same answer. Raises ScheduleError where `limit` is not between 1 and 2^30.

    >>> print(optimum(Graph.of([0, 1, 1, 0], [[], [0], [], [2]])))
    Optimum: 3 batches, optimal, 1 states
    """
    if not 1 <= limit <= 1 << 30:
        raise ScheduleError(f"limit is {limit}; expected how many states may be known, from 1 to 2^30")
    known, bound = by_beam(graph), int(lower_bound_by_type(graph).sum())
    if len(known) == bound:
        return Optimum(known, bound, states=0)
    problem, room = _problem(graph), min(limit, FIRST_ROOM)
    states = _states(graph, room)
    last, proved, count = _search(problem, states, bound, len(known))
    while last < 0 and proved < len(known) and room < limit:
        room = min(limit, 16 * room)
        states = _states(graph, room)
        last, proved, count = _search(problem, states, bound, len(known))
    if last >= 0:
        known = Schedule.from_sequence(graph, _sequence(states, last), policy="optimum")
    return Optimum(known, proved, states=count)


class Problem(NamedTuple):
    """What a step asks of the nodes. A set of nodes is a row of words, a bit per node.

    type       int32 [nodes]
    types      int
    operands   uint64 [nodes, words]  the nodes that each waits for
    kin        uint64 [nodes, words]  the nodes of its own type that lead to it
    height     int32 [nodes]          the most nodes of its own type on any path from it to a sink
    """

    type: np.ndarray
    types: int
    operands: np.ndarray
    kin: np.ndarray
    height: np.ndarray


class States(NamedTuple):
    """The states known so far, in the order in which they were found; room for `limit` of them, and one too many.

    executed  uint64 [room, words]   the nodes that have run
    parent    int32 [room]           the state from which it was reached, -1 at the first
    kind      int32 [room]           the type that ran last
    steps     int32 [room]           the batches so far; -1 where the same set was reached again in fewer
    below     int32 [room]           the next state on the stack of its estimate, -1 at the last
    table     int32 [power of two]   the hash table: 0, or 1 + the state whose set hashes there
    """

    executed: np.ndarray
    parent: np.ndarray
    kind: np.ndarray
    steps: np.ndarray
    below: np.ndarray
    table: np.ndarray


def _problem(graph: Graph) -> Problem:
    flow, words = dataflow(graph), -(-len(graph) // WORD)
    height = heights(flow)[np.arange(len(graph)), graph.type]
    operands, kin = _ancestry(graph.type, graph.operand_start, graph.operand_node, words, flow.types)
    return Problem(graph.type, flow.types, operands, kin, height)


def _states(graph: Graph, limit: int) -> States:
    words = -(-len(graph) // WORD)
    room = limit + 1
    executed = np.zeros((room, words), np.uint64)
    parent, kind, steps, below = (np.zeros(room, np.int32) for _ in range(4))
    return States(executed, parent, kind, steps, below, np.zeros(1 << (2 * room - 1).bit_length(), np.int32))


@njit(cache=True)
def _ancestry(
    kind: np.ndarray, operand_start: np.ndarray, operand_node: np.ndarray, words: int, types: int
) -> tuple[np.ndarray, np.ndarray]:
    nodes = kind.size
    of_type = np.zeros((types, words), np.uint64)
    operands = np.zeros((nodes, words), np.uint64)
    ancestors = np.zeros((nodes, words), np.uint64)
    for node in range(nodes):
        _put(of_type[kind[node]], node)
        for operand in operand_node[operand_start[node] : operand_start[node + 1]]:
            _put(operands[node], operand)
            ancestors[node] |= ancestors[operand]
        ancestors[node] |= operands[node]
    return operands, ancestors & of_type[kind]


@njit(cache=True)
def _put(nodes: np.ndarray, node: int) -> None:
    nodes[node // WORD] |= np.uint64(1) << np.uint64(node % WORD)


@njit(cache=True)
def _has(nodes: np.ndarray, node: int) -> bool:
    return (nodes[node // WORD] >> np.uint64(node % WORD)) & np.uint64(1) != 0


@njit(cache=True)
def _within(nodes: np.ndarray, others: np.ndarray) -> bool:
    for word in range(nodes.size):  # noqa: SIM110  (a generator in numba is slower)
        if nodes[word] & ~others[word]:
            return False
    return True


@njit(cache=True)
def _search(problem: Problem, states: States, bound: int, best: int) -> tuple[int, int, int]:
    """A state in which all has run in fewer than `best` batches, the fewest possible, or -1; the bound; the states.

    A stack per estimate, the lowest first: the last found runs first, so that the search goes deep before it goes wide.
    """
    words = states.executed.shape[1]
    stacks = np.full(best + 1, -1, np.int32)  # estimate -> its stack's top
    everything = np.zeros(words, np.uint64)
    for node in range(problem.type.size):
        _put(everything, node)
    batches = np.empty((problem.types, words), np.uint64)  # the ready nodes of each type
    longer = np.empty(problem.types, np.int32)  # by how much its step lets the estimate grow; -1: not to be taken
    states.parent[0] = states.kind[0] = -1
    states.below[0] = -1
    states.table[_slot(states, states.executed[0])] = 1
    stacks[bound] = 0
    count = 1
    for estimate in range(bound, best):
        while stacks[estimate] >= 0:
            state = stacks[estimate]
            stacks[estimate] = states.below[state]
            if states.steps[state] < 0:
                continue
            if np.array_equal(states.executed[state], everything):
                return state, estimate, count
            _steps(problem, states.executed[state], batches, longer)
            for kind in range(problem.types - 1, -1, -1):
                if longer[kind] < 0 or estimate + longer[kind] >= best:
                    continue
                if _reach(states, count, state, kind, batches[kind]):
                    if count == states.steps.size - 1:
                        return -1, estimate, count
                    states.below[count] = stacks[estimate + longer[kind]]
                    stacks[estimate + longer[kind]] = count
                    count += 1
    return -1, best, count


@njit(cache=True)
def _steps(problem: Problem, executed: np.ndarray, batches: np.ndarray, longer: np.ndarray) -> None:
    """Find what can run after `executed`, and for which types it wastes a step.

    Where all nodes of a type are ready to which no other of the type, yet to run, leads, its step alone is taken. Any
    schedule's next batch of the type holds some of these nodes, so with that batch moved to the front and all of them
    in it, no batch is added (the sufficient condition of ED-Batch, ICML 2023).
    """
    batches[:] = 0
    longer[:] = -1
    top = np.zeros(problem.types, np.int32)  # the longest remaining chain
    reaches = np.zeros(problem.types, np.bool_)  # whether all nodes that begin such a chain are ready
    covers = np.ones(problem.types, np.bool_)  # whether all nodes to which none of their type leads are ready
    for node in range(problem.type.size):
        if _has(executed, node):
            continue
        kind, height = problem.type[node], problem.height[node]
        ready = _within(problem.operands[node], executed)
        if ready:
            _put(batches[kind], node)
            longer[kind] = 1
        elif covers[kind] and _within(problem.kin[node], executed):
            covers[kind] = False
        if height > top[kind]:
            top[kind], reaches[kind] = height, ready
        elif height == top[kind] and not ready:
            reaches[kind] = False
    for kind in range(problem.types):
        if longer[kind] == 1 and covers[kind]:
            longer[:] = -1
            longer[kind] = 0
            return
        if longer[kind] == 1 and reaches[kind]:
            longer[kind] = 0


@njit(cache=True)
def _reach(states: States, new: int, parent: int, kind: int, batch: np.ndarray) -> bool:
    """Write the state after `batch` as number `new`; False where its set is known with no more batches."""
    executed, steps = states.executed[new], states.steps[parent] + 1
    executed[:] = states.executed[parent] | batch
    slot = _slot(states, executed)
    known = states.table[slot] - 1
    if known >= 0:
        if states.steps[known] <= steps:
            return False
        states.steps[known] = -1  # never one that was expanded: its estimate was the lowest, so its batches were
    states.parent[new], states.kind[new], states.steps[new] = parent, kind, steps
    states.table[slot] = new + 1
    return True


@njit(cache=True)
def _slot(states: States, executed: np.ndarray) -> int:
    """Where the table has this set, or would have it."""
    mixed = np.uint64(0)
    for word in executed:  # the finaliser of splitmix64
        mixed ^= word
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    mask = states.table.size - 1
    slot = np.int64(mixed & np.uint64(mask))
    while states.table[slot] != 0 and not np.array_equal(states.executed[states.table[slot] - 1], executed):
        slot = (slot + 1) & mask
    return int(slot)


def _sequence(states: States, last: int) -> np.ndarray:
    """The types that lead to a state, the first first."""
    kinds = []
    while states.parent[last] >= 0:
        kinds.append(states.kind[last])
        last = states.parent[last]
    return np.array(kinds[::-1], np.int32)
