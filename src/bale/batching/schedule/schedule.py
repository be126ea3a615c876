"""Schedule: the order in which batches run. A policy makes one from a Graph; replaying it proves it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bale.batching.graph import Graph
from bale.errors import ScheduleError


@dataclass(frozen=True, eq=False)
class Schedule:
    """A sequence of batches, each a set of nodes of one type whose operands ran in earlier batches.

    order        int32 [nodes]        nodes in execution order; inside a batch in trace order
    batch_start  int32 [batches + 1]  batch -> its range in `order`
    batch_type   int32 [batches]      the type that each batch runs
    policy       which policy made it
    """

    order: np.ndarray
    batch_start: np.ndarray
    batch_type: np.ndarray
    policy: str

    def __len__(self) -> int:
        return self.batch_type.size

    def __iter__(self) -> Iterator[np.ndarray]:
        """The nodes of each batch."""
        return (self.order[low:high] for low, high in zip(self.batch_start[:-1], self.batch_start[1:], strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return self.policy == other.policy and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("order", "batch_start", "batch_type")
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"Schedule: {self.order.size} nodes in {len(self)} batches by {self.policy}"

    def check(self, graph: Graph) -> None:
        """Replay the schedule on `graph`.

        Raises ScheduleError where a node is left over, runs twice, runs in a batch of another type, or runs no later
        than one of its operands.
        """
        raise NotImplementedError

    @classmethod
    def from_sequence(cls, graph: Graph, sequence: Sequence[int] | np.ndarray, policy: str) -> Schedule:
        """The schedule that runs, at each step, all ready nodes of the next type of `sequence`."""
        raise NotImplementedError

    @classmethod
    def from_keys(cls, graph: Graph, keys: tuple[np.ndarray, ...], policy: str) -> Schedule:
        """The schedule that runs nodes with equal `keys` (the first the most significant) together, smallest first."""
        raise NotImplementedError
