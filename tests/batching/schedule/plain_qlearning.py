"""What Q-learning means, in Python without a single shortcut: states are tuples, tables are dictionaries.

The tests ask for the same tables from the fast one. Random numbers are drawn from an equal generator in equal order.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import networkx as nx
from plain_policies import batches_of, height_of, network, ready_by_type, state_of, sure_of, table_steps
from test_frontier import reversed_graph

from bale.batching.schedule import lower_bound


@dataclass
class PlainTable:
    """The value of each (state, type), and in which states which types were tried."""

    value: dict = field(default_factory=lambda: defaultdict(float))
    tried: dict = field(default_factory=lambda: defaultdict(set))

    def greedy(self):
        """{state: type}: the best that was tried, the lowest of equals."""
        return {
            state: max(kinds, key=lambda kind: (self.value[state, kind], -kind)) for state, kinds in self.tried.items()
        }


def run_plain_episode(graph, encoding, table, rng, epsilon):
    """[(state, type, reward)] of one run; the state is None where the table is not asked."""
    height, net = height_of(graph), network(graph)
    ancestors = [nx.ancestors(net, node) for node in net]
    done, path = set(), []
    while ready := ready_by_type(graph, done):
        state, chosen = None, sure_of(encoding, ready, height)
        if chosen is None:
            state = state_of(encoding, ready, height)
            if rng.random() < epsilon:
                chosen = sorted(ready)[rng.integers(0, len(ready))]
            else:
                chosen = max(ready, key=lambda kind: (table.value[state, kind], -kind))
        remaining = {n for n in range(len(graph)) if n not in done and graph.type[n] == chosen}
        first_level = [n for n in remaining if remaining.isdisjoint(ancestors[n])]
        path.append((state, chosen, len(ready[chosen]) / len(first_level) - 1))
        done.update(ready[chosen])
    return path


def learn_from_plain_episode(path, table, learning):
    """Move the values along the path, the first step first, so that later ones find the earlier already moved."""
    for step, (state, kind, _) in enumerate(path):
        if state is None:
            continue
        target = 0.0
        for _, _, reward in path[step : step + learning.horizon]:
            target += reward
        if learning.bootstrap and step + learning.horizon < len(path):
            after = path[step + learning.horizon][0]
            if after in table.tried:
                target += max(table.value[after, other] for other in table.tried[after])
        table.value[state, kind] += learning.rate * (target - table.value[state, kind])
        table.tried[state].add(kind)


def plain_batches(graph, encoding, backward, choices):
    """How many batches a table makes of a graph; a reversed sequence may have steps to spare."""
    steps = table_steps(reversed_graph(graph) if backward else graph, encoding, choices)
    sequence = [kind for kind, _ in steps]
    return len(batches_of(graph, sequence[::-1])) if backward else len(sequence)


def learn_plainly(graphs, encoding, backward, learning, rng, on_episode):
    """({state: type}, batches, episodes): the best table of all greedy runs, its batches, and when it was found."""
    table, epsilon, best = PlainTable(), learning.epsilon, None
    planned = [reversed_graph(graph) if backward else graph for graph in graphs]
    bound = sum(lower_bound(graph) for graph in graphs)
    for episode in range(1, learning.episodes + 1):
        path = run_plain_episode(planned[episode % len(graphs)], encoding, table, rng, epsilon)
        learn_from_plain_episode(path, table, learning)
        epsilon = max(learning.least_epsilon, learning.decay * epsilon)
        enough = False
        if episode % learning.every == 0 or episode == learning.episodes:
            choices = table.greedy()
            batches = sum(plain_batches(graph, encoding, backward, choices) for graph in graphs)
            if best is None or batches < best[1]:
                best = choices, batches, episode
            enough = best[1] < 1.01 * bound or episode - best[2] >= learning.patience
        on_episode(episode, None if best is None else best[1])
        if enough:
            break
    return best
