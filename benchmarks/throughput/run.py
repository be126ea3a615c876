"""How is a cell measured? Contestants show that they compute the same, then take turns over changing mini-batches."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.race.entrants import enter, leave
from benchmarks.race.local import per_sample
from benchmarks.race.peer import PeerError
from benchmarks.race.turns import compare, race
from benchmarks.throughput.cell import Cell
from benchmarks.throughput.results import Line, lines_of
from benchmarks.throughput.task import Task
from benchmarks.throughput.workloads import make

CONTESTANTS = ("bale", "by-hand", "floor", "dynet")
LEAST_ROUNDS = 5
LARGEST = 1 << 30  # bytes of a mini-batch's values, where a workload says how many they are; a step has several copies


class TooLarge(Exception):
    """A mini-batch that no machine of the usual size could hold."""


@dataclass(frozen=True)
class Race:
    """How cells are measured.

    names     of the contestants
    rounds    at most so many count
    seconds   after so long no further round of a cell begins, unless there were fewer than LEAST_ROUNDS
    say       tells the user a line
    progress  is told after each round how many there were in this cell
    """

    names: Sequence[str]
    rounds: int
    seconds: float
    say: Callable[[str], None]
    progress: Callable[[int], None] = lambda done: None

    def run(self, cell: Cell) -> list[Line]:
        """Measure a cell; a peer that fails, which may be for want of memory, is named and left out.

        Raises Mismatch where a contestant computes something else, TooLarge where nobody is to try.
        """
        task = make(cell.workload, cell.hidden, cell.seed)
        if task.bytes_per_sample * cell.batch > LARGEST:
            raise TooLarge(f"its values take {task.bytes_per_sample * cell.batch / 2**30:.1f} GiB")
        names = list(self.names)
        while True:
            try:
                return self._run(cell, task, names)
            except PeerError as error:
                self.say(f"{cell}: left out: {error}")
                names.remove(error.impl)

    def _run(self, cell: Cell, task: Task, names: Sequence[str]) -> list[Line]:
        mini_batches = task.mini_batches(cell.batch, cell.seed)
        first = next(mini_batches)
        with tempfile.TemporaryDirectory() as folder:
            contestants = enter(
                first, names, Path(folder), cell.threads, self._say(cell), module_of, training=cell.training
            )
            try:
                for contestant in contestants:
                    contestant.turn_to(first)
                compare(contestants, per_sample(first, training=cell.training))
                steps = race(
                    contestants,
                    self.rounds,
                    self.seconds,
                    self.progress,
                    least=min(LEAST_ROUNDS, self.rounds),
                    mini_batches=mini_batches,
                )
            finally:
                leave(contestants)
        return lines_of(cell, task.pool.data, contestants, steps)

    def _say(self, cell: Cell) -> Callable[[str], None]:
        return lambda text: self.say(f"{cell}: {text}")


def module_of(workload: str, peer: str) -> str:
    return f"benchmarks.throughput.{peer}.{workload.replace('-', '_')}"
