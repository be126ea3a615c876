"""Costs: what does one more batch of each type cost? Measured once, kept in a file, then as fixed as anything else."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.schedule.json_file import At, Form, json_list
from bale.batching.schedule.schedule import Schedule
from bale.errors import PolicyError

FORM = Form("bale costs", 1, "costs", "are no costs", "measure again")
DEAREST = 4096  # the whole number that stands for the highest cost of a graph; others are rounded to parts of it


class TypeCost(NamedTuple):
    """A batch of this type with r rows takes about per_batch + per_row * r microseconds."""

    type: TypeKey
    per_batch: float
    per_row: float


@dataclass(frozen=True)
class Costs:
    """What batches cost, type by type. `bale.measure_costs` makes one, `bale.Portfolio(costs=...)` schedules by it.

    types     each type that was met, with its costs
    measured  where and how they were measured, as JSON can hold it; for people

    All rows have to run in any case, so what a schedule decides is the sum of per_batch over its batches. Raises
    PolicyError where there is no type, a type occurs twice, or a cost is negative or not finite.
    """

    types: tuple[TypeCost, ...]
    measured: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not self.types:
            raise PolicyError("types is empty; expected the costs of at least one type")
        seen: dict[str, int] = {}
        for k, cost in enumerate(self.types):
            for name, value in (("per_batch", cost.per_batch), ("per_row", cost.per_row)):
                if not (math.isfinite(value) and value >= 0):
                    raise PolicyError(f"types[{k}].{name} is {value}; expected microseconds, finite and at least 0")
            first = seen.setdefault(cost.type.fingerprint, k)
            if first != k:
                raise PolicyError(f"types[{k}].fingerprint is that of types[{first}]: {cost.type.fingerprint}")

    def __str__(self) -> str:
        costs = ", ".join(f"{cost.type.name} {cost.per_batch:.1f} + {cost.per_row:.3f} a row" for cost in self.types)
        return f"Costs in microseconds a batch: {costs}"

    def of(self, graph: Graph) -> np.ndarray:
        """float64 [types]: the per_batch of each type of `graph`; of a type that is not known, the median of all."""
        keys = type_keys(graph.types)
        return np.array([self._per_batch.get(key.fingerprint, self._median) for key in keys], np.float64)

    def schedule(self, graph: Graph, schedule: Schedule) -> float:
        """The microseconds that the number of batches of each type costs."""
        return cost_of(np.bincount(schedule.batch_type, minlength=len(graph.types)), self.of(graph))

    @cached_property
    def _per_batch(self) -> dict[str, float]:
        return {cost.type.fingerprint: cost.per_batch for cost in self.types}

    @cached_property
    def _median(self) -> float:
        return float(np.median([cost.per_batch for cost in self.types]))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the costs as JSON, with a line for each type. Raises PolicyError where it cannot be written."""
        facts = {"format": FORM.format, "version": FORM.version, "measured": dict(self.measured)}
        rows = [
            {
                "name": cost.type.name,
                "fingerprint": cost.type.fingerprint,
                "per_batch": cost.per_batch,
                "per_row": cost.per_row,
            }
            for cost in self.types
        ]
        fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
        text = "{\n  " + ",\n  ".join([*fields, json_list("types", rows)]) + "\n}\n"
        try:
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise PolicyError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Costs:
        """Read what `save` wrote. Raises PolicyError, naming the file and what is wrong in it, for anything else."""
        return FORM.read(path, cls._of)

    @classmethod
    def _of(cls, text: str) -> Costs:
        file = FORM.open(text)
        types = tuple(
            TypeCost(
                TypeKey(row["name"].of(str), row["fingerprint"].of(str)),
                _number(row["per_batch"]),
                _number(row["per_row"]),
            )
            for row in file["types"].entries()
        )
        return cls(types, file["measured"].of(dict))


def cost_of(batches: np.ndarray, per_batch: np.ndarray) -> float:
    """The sum over types of how many batches [types] times what each costs [types], rounded once, alike everywhere."""
    return math.fsum((batches * per_batch).tolist())


def whole_prices(per_batch: np.ndarray) -> np.ndarray:
    """int64 [types]: costs [types] as whole numbers from 1 to `DEAREST`, so that sums are exact and a tie is a tie."""
    dearest = per_batch.max(initial=0.0)
    if dearest == 0.0:
        return np.ones(per_batch.size, np.int64)
    return np.maximum(np.rint(DEAREST * (per_batch / dearest)).astype(np.int64), 1)


def _number(at: At) -> float:
    return float(at.value) if type(at.value) is int else at.of(float)
