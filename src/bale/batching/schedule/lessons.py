"""Lessons: what is a policy learned on? The dataflow of a few mini-batches, under one numbering of their types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.bounds import lower_bound
from bale.batching.schedule.encoding import Encoding
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.schedule.follow import follow
from bale.batching.schedule.frontier import Dataflow, dataflow, renumbered, reversed_dataflow
from bale.batching.schedule.height import heights
from bale.batching.schedule.states import States, with_room


@dataclass(frozen=True, eq=False)
class Lessons:
    """The mini-batches that are learned on, forward or reversed.

    types   what the numbers of types mean
    flows   the dataflow of each mini-batch
    height  int32 [nodes, types] of each
    bound   the sum of their lower bounds
    """

    types: tuple[TypeKey, ...]
    flows: tuple[Dataflow, ...]
    height: tuple[np.ndarray, ...]
    bound: int
    backward: bool

    @classmethod
    def of(cls, graphs: Sequence[Graph], backward: bool) -> Lessons:
        """Number the types of all graphs in the order in which they first occur."""
        keys = [type_keys(graph.types) for graph in graphs]
        types = tuple({key.fingerprint: key for of_one in keys for key in of_one}.values())
        number = {key.fingerprint: k for k, key in enumerate(types)}
        flows = tuple(
            renumbered(
                reversed_dataflow(graph) if backward else dataflow(graph),
                np.array([number[key.fingerprint] for key in of_one], np.int32),
                len(types),
            )
            for graph, of_one in zip(graphs, keys, strict=True)
        )
        bound = sum(lower_bound(graph) for graph in graphs)
        return cls(types, flows, tuple(heights(flow) for flow in flows), bound, backward)

    def room(self, states: States) -> States:
        """The same states, with room for all that one run over a mini-batch can meet."""
        most = max(flow.type.size for flow in self.flows)
        return with_room(states, most, most * (len(self.types) + 1))

    def batches(self, encoding: Encoding, states: States, choices: np.ndarray) -> int:
        """How many batches the table makes of all mini-batches."""
        return sum(
            follow(flow, height, int(encoding), states, choices)[0].size
            for flow, height in zip(self.flows, self.height, strict=True)
        )


@dataclass(frozen=True, eq=False)
class Table:
    """What was learned: a choice for each state, and how many batches it makes of the lessons."""

    states: States
    choices: np.ndarray  # int32 [states]
    batches: int
    episodes: int
