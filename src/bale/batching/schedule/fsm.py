"""Policy: a learned finite-state machine that schedules graphs of one network (ED-Batch, ICML 2023, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.encoding import Encoding, codes
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.schedule.follow import follow
from bale.batching.schedule.frontier import dataflow, renumbered, reversed_dataflow
from bale.batching.schedule.policy_file import FORM, fields_of, to_text
from bale.batching.schedule.schedule import Schedule
from bale.batching.schedule.states import NEW, States
from bale.errors import PolicyError


@dataclass(frozen=True)
class Policy:
    """A table from states of the frontier to the type that runs next, learned on mini-batches of one network.

    types     the types that states and choices number
    encoding  what a state is made of
    backward  does it plan the reversed graph, from the last batch to the first?
    states    each state's integers, see `Encoding`
    choices   the type to run in each state
    learned   how it came about and how good it was then, as JSON can hold it; for people

    Called with a Graph it returns a Schedule, whose `unseen` counts the steps at which the table does not hold the
    state, and height (its variant "sure first") chooses. `bale.learn_policy` makes one. Raises PolicyError where its
    fields do not fit together.
    """

    types: tuple[TypeKey, ...]
    encoding: Encoding
    backward: bool
    states: tuple[tuple[int, ...], ...]
    choices: tuple[int, ...]
    learned: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if (k := _repeated([key.fingerprint for key in self.types])) is not None:
            raise PolicyError(f"types[{k}] ({self.types[k].name}) has the fingerprint of an earlier one")
        if len(self.choices) != len(self.states):
            raise PolicyError(f"there are {len(self.states)} states, but {len(self.choices)} choices")
        if (k := _repeated(self.states)) is not None:
            raise PolicyError(f"states[{k}] is an earlier one once more: {list(self.states[k])}")
        beyond = codes(self.encoding, len(self.types))
        for k, (state, choice) in enumerate(zip(self.states, self.choices, strict=True)):
            if not state or not all(0 <= code < beyond for code in state):
                raise PolicyError(f"states[{k}] is {list(state)}; expected some of the integers 0 to {beyond - 1}")
            if not 0 <= choice < len(self.types):
                raise PolicyError(f"states[{k}] runs type {choice}, but there are types 0 to {len(self.types) - 1}")

    def __str__(self) -> str:
        return f"Policy {self.name}: {len(self.states)} states over {len(self.types)} types"

    @property
    def name(self) -> str:
        return f"fsm-{self.encoding}{' (reversed)' if self.backward else ''}"

    def __call__(self, graph: Graph) -> Schedule:
        """Schedule `graph`. O(nodes + operands), times types where height is asked.

        Raises PolicyError where more than half of the nodes are of types that this policy was not learned on.
        """
        number, sequence, visited = self._follow(graph)
        local = np.empty(number.max(initial=-1) + 1, np.int32)  # the graph's type of each; of some it has none
        local[number] = np.arange(number.size)
        types = local[sequence[::-1] if self.backward else sequence]
        return Schedule.from_sequence(graph, types, self.name, int((visited == NEW).sum()))

    def steps(self, graph: Graph) -> tuple[np.ndarray, np.ndarray]:
        """The steps of planning `graph`, in its order: two int32 [steps].

        The number that this policy has for the type that runs; and which of `states` the step is in: NEW where height
        chooses, SURE where the table is not asked (see `Encoding.SHARE`). Raises PolicyError as a call does.
        """
        return self._follow(graph)[1:]

    def _follow(self, graph: Graph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """This policy's numbers for the types of `graph`; the numbers that run; the state of each step."""
        number = self._numbers(graph)
        flow = reversed_dataflow(graph) if self.backward else dataflow(graph)
        flow = renumbered(flow, number, len(self.types))
        return number, *follow(flow, np.zeros((0, flow.types), np.int32), int(self.encoding), *self._table)

    def _numbers(self, graph: Graph) -> np.ndarray:
        """int32 [types]: the number that this policy has for each type of `graph`; new ones come after the known."""
        keys = type_keys(graph.types)
        known = {key.fingerprint: number for number, key in enumerate(self.types)}
        number = np.array([known.get(key.fingerprint, -1) for key in keys], np.int32)
        strange = np.flatnonzero(number < 0)
        nodes = int(np.bincount(graph.type, minlength=len(keys))[strange].sum())
        if 2 * nodes > len(graph):
            raise PolicyError(
                f"this policy was learned on another network: {nodes} of {len(graph)} nodes are of types that it does "
                f"not know ({', '.join(keys[k].name for k in strange)}); it knows "
                f"{', '.join(key.name for key in self.types)}. Learn one for this network (bale.learn_policy), or use "
                "policy='auto'"
            )
        number[strange] = len(self.types) + np.arange(strange.size)
        return number

    @cached_property
    def _table(self) -> tuple[States, np.ndarray]:
        return States.of(self.states), np.array(self.choices, np.int32)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the policy as JSON, with a line for each state that says in words what it means.

        Raises PolicyError where it cannot be written.
        """
        try:
            Path(path).write_text(to_text(self), encoding="utf-8")
        except OSError as error:
            raise PolicyError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Policy:
        """Read what `save` wrote. Raises PolicyError, naming the file and what is wrong in it, for anything else."""
        return FORM.read(path, lambda text: cls(**fields_of(text)))


def _repeated(values: Sequence[Any]) -> int | None:
    """The place of the first value that came before."""
    met: set[Any] = set()
    for k, value in enumerate(values):
        if value in met:
            return k
        met.add(value)
    return None
