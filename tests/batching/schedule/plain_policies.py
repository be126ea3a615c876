"""What the policies mean, in Python without a single shortcut: every choice is made from the whole graph, in fractions.

The tests ask for the same sequences from the fast ones.
"""

import heapq
import math
from fractions import Fraction
from itertools import count

import networkx as nx

from bale.batching.schedule.beam import BASE, REACH, UNITS


def network(graph):
    net = nx.DiGraph()
    net.add_nodes_from(range(len(graph)))
    net.add_edges_from((int(operand), node) for node in range(len(graph)) for operand in graph.operands(node))
    return net


def ready_by_type(graph, done):
    """{type: its ready nodes, in trace order}, lower types first."""
    ready = [n for n in range(len(graph)) if n not in done and done.issuperset(graph.operands(n).tolist())]
    return {kind: [n for n in ready if graph.type[n] == kind] for kind in sorted({int(graph.type[n]) for n in ready})}


def sequence_of(graph, score):
    """The types that run, where each step takes the ready type of highest score, the lower of equals."""
    done, sequence = set(), []
    while ready := ready_by_type(graph, done):
        chosen = max(ready, key=lambda kind: (score(kind, ready, done), -kind))
        sequence.append(chosen)
        done.update(ready[chosen])
    return sequence


def batches_of(graph, sequence):
    """The batches that a sequence of types takes."""
    done, batches = set(), []
    for kind in sequence:
        batch = ready_by_type(graph, done).get(kind)
        if batch:
            batches.append(batch)
            done.update(batch)
    return batches


def is_valid(graph, batches):
    """Whether each batch holds nodes of one type in trace order, all once, and operands in earlier batches."""
    done = set()
    for batch in batches:
        one_type = len({int(graph.type[node]) for node in batch}) == 1
        ready = all(done.issuperset(graph.operands(node).tolist()) for node in batch)
        if not (one_type and ready and batch == sorted(set(batch)) and done.isdisjoint(batch)):
            return False
        done.update(batch)
    return len(done) == len(graph)


def depth_of(graph):
    """[node]: the edges on the longest path that leads to it."""
    net = network(graph)
    return [nx.dag_longest_path_length(net.subgraph(nx.ancestors(net, node) | {node})) for node in net]


def agenda_sequence(graph):
    depth = depth_of(graph)

    def least_average_depth(kind, ready, done):
        remaining = [depth[n] for n in range(len(graph)) if n not in done and graph.type[n] == kind]
        return -Fraction(sum(remaining), len(remaining))

    return sequence_of(graph, least_average_depth)


def sufficient_sequence(graph):
    net = network(graph)
    ancestors = [nx.ancestors(net, node) for node in net]

    def ratio(kind, ready, done):
        remaining = {n for n in range(len(graph)) if n not in done and graph.type[n] == kind}
        first_level = [n for n in remaining if remaining.isdisjoint(ancestors[n])]
        return Fraction(len(ready[kind]), len(first_level))

    return sequence_of(graph, ratio)


def height_of(graph):
    """[node][type]: the most nodes of the type on any path from the node to a sink."""
    net = network(graph)
    kinds = range(len(graph.types))
    height = {}
    for node in reversed(range(len(graph))):
        above = [max((height[user][kind] for user in net.successors(node)), default=0) for kind in kinds]
        above[graph.type[node]] += 1
        height[node] = above
    return height


def height_sequence(graph, variant):
    """`variant` is "share", "soft share" or "sure first"."""
    height = height_of(graph)

    def score(kind, ready, done):
        hard = share_of(kind, ready, height)
        soft = soft_share_of(kind, ready, height)
        return {"share": (hard,), "soft share": (soft,), "sure first": (hard == 1, soft)}[variant]

    return sequence_of(graph, score)


def share_of(kind, ready, height, weight=lambda below: int(below == 0)):
    """What the ready nodes of a type weigh of all that are ready, each by how far its height is below the top."""
    nodes = [n for batch in ready.values() for n in batch]
    top = max(height[n][kind] for n in nodes)
    mine = sum(weight(top - height[n][kind]) for n in ready[kind])
    return Fraction(mine, sum(weight(top - height[n][kind]) for n in nodes))


def soft_share_of(kind, ready, height):
    return share_of(kind, ready, height, lambda below: Fraction(1, 2**below))


def state_of(encoding, ready, height):
    """The state of a frontier of which `ready_by_type` found something ready; the encoding is named as in files."""
    by_size = sorted(ready, key=lambda kind: (-len(ready[kind]), kind))
    if encoding != "share":
        return {"base": tuple(ready), "max": (*ready, by_size[0]), "sort": tuple(by_size)}[encoding]
    shares = {kind: soft_share_of(kind, ready, height) for kind in ready}
    first = sorted(ready, key=lambda kind: (-shares[kind], kind))[:2]
    return tuple(2 * kind + (shares[kind] >= Fraction(1, 2)) for kind in first)


def sure_of(encoding, ready, height):
    """The type that runs whatever a table says, or None."""
    sure = [kind for kind in ready if share_of(kind, ready, height) == 1]
    return sure[0] if encoding == "share" and sure else None


def table_steps(graph, encoding, table):
    """[(the type that runs, the state or "sure" or "unseen")] by a table {state: type}; the unseen are height's."""
    height = height_of(graph)
    done, steps = set(), []
    while ready := ready_by_type(graph, done):
        chosen, place = sure_of(encoding, ready, height), "sure"
        if chosen is None:
            place = state_of(encoding, ready, height)
            chosen = table.get(place)
        if chosen not in ready:
            scores = {k: (share_of(k, ready, height) == 1, soft_share_of(k, ready, height), -k) for k in ready}
            chosen, place = max(ready, key=scores.__getitem__), "unseen"
        steps.append((chosen, place))
        done.update(ready[chosen])
    return steps


def longest_chain(graph, kind):
    """The most nodes of type `kind` on any path, by walking every path there is."""
    net = network(graph)

    def walk(node):
        return int(graph.type[node] == kind) + max((walk(user) for user in net.successors(node)), default=0)

    return max((walk(node) for node in net), default=0)


def fewest_batches(graph):
    """The optimum, by trying every sequence, the shortest first. Running less than all ready nodes never helps."""
    states = {frozenset()}
    for batches in count():
        if frozenset(range(len(graph))) in states:
            return batches
        states = {done.union(batch) for done in states for batch in ready_by_type(graph, done).values()}
    raise AssertionError


def beam_sequence(graph, width, best):
    """A beam of `width` lanes over sequences of fewer than `best` batches; empty where it loses them all.

    Lanes are ranked by the bound on their batches, then by the soft length of what remains, then by their parent's rank
    and their last type; of those that have run the same nodes one stays.
    """
    own = {node: height[graph.type[node]] for node, height in height_of(graph).items()}

    def heights_left(done):
        return [[own[n] for n in range(len(graph)) if n not in done and graph.type[n] == t] for t in kinds]

    def rank(lane):
        left = [row for row in heights_left(lane[1]) if row]
        soft = (math.log(sum(BASE**h for h in row if h > max(row) - REACH), BASE) for row in left)
        return sum(map(max, left)), sum(round(UNITS * length) for length in soft)

    kinds = range(len(graph.types))
    lanes = [((), frozenset())]
    for taken in range(best):
        for sequence, done in lanes:
            if len(done) == len(graph):
                return list(sequence)
        steps = [
            ((*sequence, kind), done.union(batch))
            for sequence, done in lanes
            for kind, batch in ready_by_type(graph, done).items()
        ]
        steps = sorted((lane for lane in steps if taken + 1 + rank(lane)[0] < best), key=rank)
        different = dict.fromkeys(done for _, done in steps)
        lanes = [next(lane for lane in steps if lane[1] == done) for done in different][:width]
    return []


def least_cost(graph, price):
    """The least sum of prices over batches, by Dijkstra over sets of nodes that have run; `price` by type."""
    everything = frozenset(range(len(graph)))
    known, waiting = {frozenset(): 0}, [(0, 0, frozenset())]
    while waiting:
        cost, _, done = heapq.heappop(waiting)
        if done == everything:
            return cost
        if cost > known[done]:
            continue
        for kind, batch in ready_by_type(graph, done).items():
            after = done.union(batch)
            if cost + price[kind] < known.get(after, math.inf):
                known[after] = cost + price[kind]
                heapq.heappush(waiting, (known[after], len(known), after))
    raise AssertionError
