"""Random graphs with stacks and reductions, and a symbolic run of them: what fold and layout are tested against."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from bale.batching.graph import WHOLE, Graph, Mode, NodeType, Spec

ROW = Spec((2,), torch.float32, torch.device("cpu"))
RAGGED = Spec((2,), torch.float32, torch.device("cpu"), ragged=True)
LEAF, CELL, STACK, SUM, ROWS = range(5)
TYPES = (
    NodeType("leaf", (), (), (ROW,)),
    NodeType("cell", (Mode.ROW, Mode.ROW), (ROW, ROW), (ROW,)),
    NodeType("stack", (Mode.STACK,), (ROW,), (RAGGED,)),
    NodeType("sum", (Mode.SUM,), (ROW,), (ROW,)),
    NodeType("rows", (Mode.STACK, Mode.ROW), (RAGGED, ROW), (RAGGED,)),
)
GATHERS = np.array([False, False, True, True, False])


@st.composite
def gathering_graphs(draw: st.DrawFn, most: int = 12) -> Graph:
    """Leaves, cells of two operands, stacks, sums and row-wise cells over ragged values, in any order."""
    types, rows, slots = [LEAF], [1], [[]]
    for node in range(1, draw(st.integers(2, most))):
        single = [n for n in range(node) if types[n] in (LEAF, CELL, SUM)]
        ragged = [n for n in range(node) if types[n] in (STACK, ROWS)]
        kind = draw(st.sampled_from([LEAF, CELL, STACK, SUM, *([ROWS] if ragged else [])]))

        def row(single: list[int] = single, ragged: list[int] = ragged) -> tuple[int, int]:
            if ragged and draw(st.booleans()):
                source = draw(st.sampled_from(ragged))
                return source, draw(st.integers(0, rows[source] - 1))
            return draw(st.sampled_from(single)), WHOLE

        if kind == LEAF:
            slots.append([])
            rows.append(1)
        elif kind == CELL:
            slots.append([[row()], [row()]])
            rows.append(1)
        elif kind == STACK or (kind == SUM and not ragged):
            parts = [row() for _ in range(draw(st.integers(1, 4)))]
            slots.append([parts])
            rows.append(len(parts) if kind == STACK else 1)
        else:
            source = draw(st.sampled_from(ragged))
            slots.append([[(source, WHOLE)]] if kind == SUM else [[(source, WHOLE)], [row()]])
            rows.append(1 if kind == SUM else rows[source])
        types.append(kind)
    return build(types, rows, slots)


def build(types: list[int], rows: list[int], slots: list[list[list[tuple[int, int]]]]) -> Graph:
    parts = [part for node in slots for slot in node for part in slot]
    return Graph(
        types=TYPES,
        type=np.array(types, np.int32),
        rows=np.array(rows, np.int32),
        sample=np.zeros(len(types), np.int32),
        slot_start=np.cumsum([0, *map(len, slots)]).astype(np.int32),
        part_start=np.cumsum([0, *(len(slot) for node in slots for slot in node)]).astype(np.int32),
        part_value=np.array([value for value, _ in parts], np.int32),
        part_index=np.array([index for _, index in parts], np.int32),
        value_start=np.arange(len(types) + 1, dtype=np.int32),
    )


def run_symbolically(graph: Graph, names: list[Any]) -> list[Any]:
    """Per value: a nested tuple that says how it is computed; a list of rows where it is ragged. Folding keeps them.

    A sum of one sum is that sum.
    """
    values: list[Any] = []
    for node in range(len(graph)):
        node_type = graph.types[graph.type[node]]
        operands = []
        for mode, (part_values, indices) in zip(node_type.slots, graph.slots(node), strict=True):
            found: list[Any] = []
            for value, index in zip(part_values, indices, strict=True):
                whole = values[value]
                if index != WHOLE:
                    found.append(whole[index])
                else:
                    found += whole if isinstance(whole, list) else [whole]
            operands.append(found if mode is Mode.STACK else total(found) if mode is Mode.SUM else found[0])
        if node_type.name == "leaf":
            values.append(("leaf", names[node]))
        elif node_type.name == "rows":
            values.append([("rows", row, operands[1]) for row in operands[0]])
        elif node_type.name == "cell":
            values.append(("cell", *operands))
        else:
            values.append(operands[0])
    return values


def total(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 and parts[0][0] == "sum" else ("sum", *parts)
