"""Launch: one batch of a cell by its rung, compared with its rows where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bale.batching.cells.celltype import CellType
from bale.batching.cells.whole import ByLength
from bale.batching.execute.constants import Columns
from bale.batching.graph import Graph

CHECKS = ("new", "always", "off")
Tensors = Sequence[torch.Tensor]
Watch = Callable[[CellType, np.ndarray, Tensors, Tensors, Tensors], None]  # cell, nodes, operands, numbers, outputs


@dataclass(frozen=True, eq=False)
class Program:
    """All that runs: the graph, its cells (one per type of the graph), and the constants of its nodes."""

    graph: Graph
    cells: tuple[CellType, ...]
    columns: Columns


def launch(cell: CellType, given: list[torch.Tensor], counts: Sequence[np.ndarray | None], numbers: Tensors, nodes: int,
           rows: int, check: str) -> list[torch.Tensor]:  # fmt: skip
    """The outputs [rows, *shape] of one batch: `given` are operands and constants in the order of the arguments.

    `counts` are, per operand that is ragged or stacked, the rows of each node.
    """
    if cell.rung_name == "gather":
        grad = cell.node_type.outputs[0].requires_grad
        return [given[0] if grad or not given[0].requires_grad else given[0].detach()]
    if isinstance(cell.rung, ByLength):
        return _launch_by_length(cell, cell.rung, given, counts, nodes, check)
    if cell.segments:
        assert counts[0] is not None
        segment = torch.from_numpy(np.repeat(np.arange(nodes), counts[0])).to(given[0].device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and cell.node_type.outputs[0].requires_grad):
            return list(cell.rung(given[0], segment, nodes))
    outputs = cell.run(given, rows, numbers)
    if is_compared(cell, check):
        difference = cell.verify(given, numbers, outputs)
        while difference:
            cell.demote(difference)
            outputs = cell.run(given, rows, numbers)
            difference = cell.verify(given, numbers, outputs)
    return outputs


def _launch_by_length(cell: CellType, rung: ByLength, given: list[torch.Tensor], counts: Sequence[np.ndarray | None],
                      nodes: int, check: str) -> list[torch.Tensor]:  # fmt: skip
    with rung.program.state():
        outputs = rung(given, counts)
    if is_compared(cell, check):
        while difference := rung.verify(given, counts, nodes, outputs):
            cell.demote(difference)
            with rung.program.state():
                outputs = rung(given, counts)
    return outputs


def is_compared(cell: CellType, check: str) -> bool:
    """Is this batch of the type compared with its rows? Counts it."""
    cell.batches_run += 1
    return cell.pure and (check == "always" or (check == "new" and _is_power_of_two(cell.batches_run)))


def _is_power_of_two(count: int) -> bool:
    return count & (count - 1) == 0


def blame(program: Program, cell: CellType, nodes: np.ndarray) -> str:
    """Which samples a failing batch belongs to, as a note for the user's own exception."""
    samples = np.unique(program.graph.sample[nodes])
    listed = ", ".join(map(str, samples[:5])) + (", ..." if samples.size > 5 else "")
    return (
        f"bale: while running a batch of {cell.name} ({len(nodes)} calls) of sample{'s'[: samples.size > 1]} {listed}"
    )
