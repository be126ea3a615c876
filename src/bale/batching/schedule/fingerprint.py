"""Fingerprints: by what is a type of call known again, in another process and under other weights?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from bale.batching.graph import NodeType, Spec


@dataclass(frozen=True)
class TypeKey:
    """A type of call: its name for people, its fingerprint for comparison."""

    name: str
    fingerprint: str


def type_keys(types: Sequence[NodeType]) -> tuple[TypeKey, ...]:
    """The keys of the types of a graph, in their order.

    They are made of the cell's place in the model and its class, how operands are gathered, and the shapes of operands
    and results. Numbers do not count, nor dtypes, devices and whether gradients are wanted, since a schedule does not
    depend on them. Types that agree in all that are told apart by the order in which they first came.
    """
    keys: list[TypeKey] = []
    met: Counter[str] = Counter()
    for node_type in types:
        code = _fingerprint(node_type)
        met[code] += 1
        keys.append(TypeKey(node_type.name, code if met[code] == 1 else f"{code}-{met[code]}"))
    return tuple(keys)


@lru_cache(maxsize=4096)
def _fingerprint(node_type: NodeType) -> str:
    operands = zip(node_type.slots, node_type.slot_specs, strict=False)  # graphs made for tests have no specs
    parts = [
        node_type.name,
        *(mode.value for mode in node_type.slots),
        *(f"{mode.value} {_shape(spec)}" for mode, spec in operands),
        *(f"-> {_shape(spec)}" for spec in node_type.outputs),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _shape(spec: Spec) -> str:
    return f"{'*' if spec.ragged else ''}{list(spec.shape)}"
