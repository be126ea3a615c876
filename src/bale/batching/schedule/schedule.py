"""Schedule: the order in which batches run. A policy makes one from a Graph; replaying it proves it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.frontier import dataflow, group, replay
from bale.errors import ScheduleError


@dataclass(frozen=True, eq=False)
class Schedule:
    """A sequence of batches, each a set of nodes of one type whose operands ran in earlier batches.

    order        int32 [nodes]        nodes in execution order; a policy leaves a batch in trace order
    batch_start  int32 [batches + 1]  batch -> its range in `order`
    batch_type   int32 [batches]      the type that each batch runs
    policy       which policy made it
    unseen       how many of its choices a learned policy had to leave to height, not having met the state before
    """

    order: np.ndarray
    batch_start: np.ndarray
    batch_type: np.ndarray
    policy: str
    unseen: int = 0

    def __len__(self) -> int:
        return self.batch_type.size

    def __iter__(self) -> Iterator[np.ndarray]:
        """The nodes of each batch."""
        return (self.order[low:high] for low, high in zip(self.batch_start[:-1], self.batch_start[1:], strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return all(np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    __hash__ = None  # type: ignore[assignment]  # arrays inside: comparable, not hashable

    def __str__(self) -> str:
        unseen = f", {self.unseen} choices left to height" if self.unseen else ""
        return f"Schedule: {self.order.size} nodes in {len(self)} batches by {self.policy}{unseen}"

    def check(self, graph: Graph) -> None:
        """Replay the schedule on `graph`. O(nodes + operands).

        Raises ScheduleError where a node is left over, runs twice, runs in a batch of another type, runs no later than
        one of its operands, or runs out of trace order inside its batch; and where a batch is empty.
        """
        self._check_batches()
        batch_at = np.repeat(np.arange(len(self)), np.diff(self.batch_start))  # [nodes], along `order`
        batch_of = self._check_each_runs_once(graph, batch_at)
        self._check_types(graph, batch_at)
        _check_operands(graph, batch_of)
        self._check_trace_order(graph, batch_at)

    def _check_batches(self) -> None:
        start = self.batch_start
        if start.size != len(self) + 1 or start[0] != 0 or start[-1] != self.order.size:
            raise ScheduleError(
                f"batch_start must lead from 0 to the {self.order.size} nodes of order in {len(self)} steps, one per "
                f"batch_type; it has {start.size} entries: {start}"
            )
        if (batch := _first(np.diff(start) < 1)) is not None:
            raise ScheduleError(f"batch {batch} is empty: it runs order[{start[batch]}:{start[batch + 1]}]")

    def _check_each_runs_once(self, graph: Graph, batch_at: np.ndarray) -> np.ndarray:
        """The batch of every node."""
        if (place := _first((self.order < 0) | (self.order >= len(graph)))) is not None:
            raise ScheduleError(
                f"batch {batch_at[place]} runs node {self.order[place]}, but the graph has {len(graph)} nodes"
            )
        runs = np.bincount(self.order, minlength=len(graph))
        if (node := _first(runs == 0)) is not None:
            raise ScheduleError(f"{_name(graph, node)} is left over: none of the {len(self)} batches runs it")
        if (node := _first(runs > 1)) is not None:
            batches = ", ".join(map(str, batch_at[self.order == node]))
            raise ScheduleError(f"{_name(graph, node)} runs {runs[node]} times, in batches {batches}; expected once")
        batch_of = np.empty(len(graph), np.int32)
        batch_of[self.order] = batch_at
        return batch_of

    def _check_types(self, graph: Graph, batch_at: np.ndarray) -> None:
        if (place := _first(graph.type[self.order] != self.batch_type[batch_at])) is not None:
            batch = batch_at[place]
            raise ScheduleError(
                f"{_name(graph, int(self.order[place]))} runs in batch {batch}, "
                f"which runs type {_type_name(graph, int(self.batch_type[batch]))}"
            )

    def _check_trace_order(self, graph: Graph, batch_at: np.ndarray) -> None:
        falls = (np.diff(self.order) < 0) & (np.diff(batch_at) == 0)
        if (place := _first(falls)) is not None:
            raise ScheduleError(
                f"{_name(graph, int(self.order[place + 1]))} runs after node {self.order[place]} inside batch "
                f"{batch_at[place]}; a batch holds its nodes in trace order"
            )

    @classmethod
    def from_sequence(
        cls, graph: Graph, sequence: Sequence[int] | np.ndarray, policy: str, unseen: int = 0
    ) -> Schedule:
        """The schedule that runs, at each step, all ready nodes of the next type of `sequence`.

        A type of which no node is ready is skipped. Raises ScheduleError where `sequence` names a type that the graph
        does not have, or ends while nodes are left over. O(nodes + operands + steps).
        """
        types = np.asarray(sequence, np.int32)
        if (step := _first((types < 0) | (types >= len(graph.types)))) is not None:
            raise ScheduleError(
                f"policy {policy}: step {step} of the sequence runs type {types[step]}, "
                f"but the graph has types 0 to {len(graph.types) - 1}"
            )
        batch_of, batch_type = replay(dataflow(graph), types)
        left_over = graph.type[batch_of < 0]
        if left_over.size:
            counts = Counter(left_over.tolist())
            which = ", ".join(f"{counts[kind]} of type {_type_name(graph, kind)}" for kind in sorted(counts))
            raise ScheduleError(
                f"policy {policy}: {left_over.size} of {len(graph)} nodes are left over after the {types.size} steps "
                f"of its sequence: {which}"
            )
        batch_start, order = group(batch_of, batch_type.size)
        return cls(order, batch_start, batch_type, policy, unseen)

    @classmethod
    def from_keys(cls, graph: Graph, keys: tuple[np.ndarray, ...], policy: str) -> Schedule:
        """The schedule that runs nodes with equal `keys` (the first the most significant) together, smallest first.

        Each key is an array [nodes]; one of them must tell types apart, and they must put every node after its
        operands, or the result fails its `check`.
        """
        order = np.lexsort(keys[::-1]).astype(np.int32)  # stable: equal nodes stay in trace order
        begins = np.ones(order.size, bool)
        begins[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
        start = np.flatnonzero(begins)
        return cls(
            order=order,
            batch_start=np.append(start, order.size).astype(np.int32),
            batch_type=graph.type[order[start]],
            policy=policy,
        )


def _check_operands(graph: Graph, batch_of: np.ndarray) -> None:
    user = np.repeat(np.arange(len(graph)), np.diff(graph.operand_start))  # [operands]
    early = _first(batch_of[user] <= batch_of[graph.operand_node])
    if early is not None:
        node, operand = int(user[early]), int(graph.operand_node[early])
        raise ScheduleError(
            f"{_name(graph, node)} runs in batch {batch_of[node]}, but its operand, {_name(graph, operand)}, runs in "
            f"batch {batch_of[operand]}; operands must run in earlier batches"
        )


def _first(wrong: np.ndarray) -> int | None:
    """The first place where `wrong` holds."""
    return int(wrong.argmax()) if wrong.any() else None


def _name(graph: Graph, node: int) -> str:
    return f"node {node} (type {_type_name(graph, int(graph.type[node]))}, sample {graph.sample[node]})"


def _type_name(graph: Graph, kind: int) -> str:
    return f"{kind} '{graph.types[kind]}'" if 0 <= kind < len(graph.types) else f"{kind}, which the graph lacks"
