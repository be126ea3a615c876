"""Lessons: what is a policy learned on? The dataflow of a few mini-batches, under one numbering of their types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.bounds import lower_bound
from bale.batching.schedule.encoding import Encoding
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.schedule.follow import follow
from bale.batching.schedule.frontier import Dataflow, dataflow, renumbered, replay, reversed_dataflow
from bale.batching.schedule.height import heights
from bale.batching.schedule.states import States, with_room


@dataclass(frozen=True, eq=False)
class Lessons:
    """The mini-batches that are learned on, forward or reversed.

    types     what the numbers of types mean
    flows     the dataflow of each mini-batch, the way that it is planned
    height    int32 [nodes, types] of each
    bound     the sum of their lower bounds
    backward  are the flows reversed?
    forwards  the dataflow of each as it runs
    """

    types: tuple[TypeKey, ...]
    flows: tuple[Dataflow, ...]
    height: tuple[np.ndarray, ...]
    bound: int
    backward: bool
    forwards: tuple[Dataflow, ...]

    @classmethod
    def of(cls, graphs: Sequence[Graph], backward: bool) -> Lessons:
        """Number the types of all graphs in the order in which they first occur."""
        keys = [type_keys(graph.types) for graph in graphs]
        types = tuple({key.fingerprint: key for of_one in keys for key in of_one}.values())
        number = {key.fingerprint: k for k, key in enumerate(types)}
        numbers = [np.array([number[key.fingerprint] for key in of_one], np.int32) for of_one in keys]

        def flows(of: Callable[[Graph], Dataflow]) -> tuple[Dataflow, ...]:
            pairs = zip(graphs, numbers, strict=True)
            return tuple(renumbered(of(graph), theirs, len(types)) for graph, theirs in pairs)

        forwards = flows(dataflow)
        planned = flows(reversed_dataflow) if backward else forwards
        bound = sum(lower_bound(graph) for graph in graphs)
        return cls(types, planned, tuple(heights(flow) for flow in planned), bound, backward, forwards)

    def room(self, states: States) -> States:
        """The same states, with room for all that one run over a mini-batch can meet."""
        most = max(flow.type.size for flow in self.flows)
        return with_room(states, most, most * (len(self.types) + 1))

    def batches(self, encoding: Encoding, states: States, choices: np.ndarray) -> int:
        """How many batches the table makes of all mini-batches."""
        return sum(
            self._batches(follow(flow, height, int(encoding), states, choices)[0], forward)
            for flow, height, forward in zip(self.flows, self.height, self.forwards, strict=True)
        )

    def _batches(self, sequence: np.ndarray, forward: Dataflow) -> int:
        # Run forward, all that is ready runs, so a step of a reversed sequence may find that its nodes have run before.
        return replay(forward, sequence[::-1])[1].size if self.backward else sequence.size


@dataclass(frozen=True, eq=False)
class Table:
    """What was learned: a choice for each state, and how many batches it makes of the lessons."""

    states: States
    choices: np.ndarray  # int32 [states]
    batches: int
    episodes: int
