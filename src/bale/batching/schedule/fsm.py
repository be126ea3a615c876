"""Policy: a learned finite-state machine that schedules graphs of one network (ED-Batch, ICML 2023, section 2.3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.encoding import Encoding, describe
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.schedule.follow import follow
from bale.batching.schedule.frontier import dataflow, renumbered, reversed_dataflow
from bale.batching.schedule.schedule import Schedule
from bale.batching.schedule.states import States
from bale.errors import PolicyError

FORMAT, VERSION = "bale policy", 1


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
    state, and height (its variant "sure first") chooses. `bale.learn_policy` makes one.
    """

    types: tuple[TypeKey, ...]
    encoding: Encoding
    backward: bool
    states: tuple[tuple[int, ...], ...]
    choices: tuple[int, ...]
    learned: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"Policy {self.name}: {len(self.states)} states over {len(self.types)} types"

    @property
    def name(self) -> str:
        return f"fsm-{self.encoding}{' (reversed)' if self.backward else ''}"

    def __call__(self, graph: Graph) -> Schedule:
        """Schedule `graph`. O(nodes + operands), times types where height is asked.

        Raises PolicyError where more than half of the nodes are of types that this policy was not learned on.
        """
        number = self._numbers(graph)
        flow = reversed_dataflow(graph) if self.backward else dataflow(graph)
        flow = renumbered(flow, number, len(self.types))
        sequence, unseen = follow(flow, np.zeros((0, flow.types), np.int32), int(self.encoding), *self._table)
        local = np.empty(flow.types, np.int32)  # the graph's type of every number; those it lacks are never chosen
        local[number] = np.arange(number.size)
        types = local[sequence[::-1] if self.backward else sequence]
        return Schedule.from_sequence(graph, types, self.name, unseen)

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
        """Write the policy as JSON, with a line for each state that says in words what it means."""
        names = [key.name for key in self.types]
        facts = {
            "format": FORMAT,
            "version": VERSION,
            "encoding": str(self.encoding),
            "backward": self.backward,
            "learned": dict(self.learned),
        }
        states = [
            {
                "state": state,
                "run": choice,
                "means": f"{', '.join(describe(self.encoding, state, names))}: {names[choice]}",
            }
            for state, choice in zip(self.states, self.choices, strict=True)
        ]
        fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
        fields += [json_list("types", [asdict(key) for key in self.types]), json_list("states", states)]
        Path(path).write_text("{\n  " + ",\n  ".join(fields) + "\n}\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Policy:
        """Read what `save` wrote. Raises PolicyError, naming the file and what is wrong in it, for anything else."""
        try:
            return cls._from_facts(json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise PolicyError(f"{path}: cannot be read: {error.strerror}") from error
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}") from error
        except ValueError as error:
            raise PolicyError(f"{path}: is not the JSON of a policy: {error}") from error

    @classmethod
    def _from_facts(cls, facts: Any) -> Policy:
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise PolicyError(f'is no policy: expected an object whose "format" is "{FORMAT}"')
        if facts.get("version") != VERSION:
            raise PolicyError(
                f"is of version {facts.get('version')!r}; this bale reads version {VERSION}: learn it again"
            )
        encodings = {str(encoding): encoding for encoding in Encoding}
        if facts.get("encoding") not in encodings:
            raise PolicyError(f"encoding {facts.get('encoding')!r} is unknown; known are {', '.join(encodings)}")
        try:
            types = tuple(TypeKey(str(key["name"]), str(key["fingerprint"])) for key in facts["types"])
            states = tuple(tuple(int(part) for part in row["state"]) for row in facts["states"])
            choices = tuple(int(row["run"]) for row in facts["states"])
            policy = cls(
                types, encodings[facts["encoding"]], bool(facts["backward"]), states, choices, dict(facts["learned"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PolicyError(f"a field is missing or of the wrong kind: {error!r}") from error
        if len(set(states)) != len(states):
            raise PolicyError("a state occurs twice")
        for k, choice in enumerate(choices):
            if not 0 <= choice < len(types):
                raise PolicyError(f"states[{k}] runs type {choice}, but there are types 0 to {len(types) - 1}")
        return policy


def json_list(name: str, rows: list[dict[str, Any]]) -> str:
    """A field of JSON that holds a list, a line for each entry."""
    lines = ",\n    ".join(json.dumps(row) for row in rows)
    return f"{json.dumps(name)}: [\n    {lines}\n  ]" if rows else f"{json.dumps(name)}: []"
