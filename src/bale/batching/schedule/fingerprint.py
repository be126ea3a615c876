"""Fingerprints: by what is a type of call known again, in another process and under other weights?"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from bale.batching.graph import NodeType, Spec


@dataclass(frozen=True)
class TypeKey:
    """A type of call: its name and how it gathers its operands for people, its fingerprint for comparison."""

    name: str
    fingerprint: str
    reads: str = ""


def labels(types: Sequence[TypeKey]) -> list[str]:
    """A name for each of some types, which says more than the type's own where several share that.

    >>> labels([TypeKey("cell", "a", "row"), TypeKey("cell", "b"), TypeKey("head", "c", "row")])
    ['cell from row', 'cell from constants', 'head']
    """
    longer = [f"{key.name} from {key.reads or 'constants'}" for key in types]
    count = Counter(key.name for key in types)
    named = [key.name if count[key.name] == 1 else long for key, long in zip(types, longer, strict=True)]
    count, met = Counter(named), Counter[str]()
    for k, name in enumerate(named):
        met[name] += 1
        named[k] = name if count[name] == 1 else f"{name} #{met[name]}"
    return named


def short_label(label: str) -> str:
    """A label without the class of the cell.

    >>> short_label("inner (LSTMCell) from row x3")
    'inner from row x3'
    """
    return re.sub(r" \([^)]*\)", "", label, count=1)


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
        keys.append(TypeKey(node_type.name, code if met[code] == 1 else f"{code}-{met[code]}", _reads(node_type)))
    return tuple(keys)


@lru_cache(maxsize=4096)
def _reads(node_type: NodeType) -> str:
    """How operands are gathered: "row + mean x2" where of three the last two are means."""
    modes = Counter(mode.value for mode in node_type.slots)
    return " + ".join(mode if count == 1 else f"{mode} x{count}" for mode, count in modes.items())


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
