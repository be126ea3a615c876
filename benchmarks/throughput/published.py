"""What has ED-Batch's public code been measured at, beside DyNet, in one run on one machine?

Chen, Fegade, Chen, Gibbons, Mowry, "ED-Batch: Efficient Automatic Batching of Dynamic Neural Networks via Learned
Finite State Machines", ICML 2023 (arXiv 2302.03851), whose code was run beside the DyNet that it is built on: inference
on a machine of two cores, one thread, samples a second with building, scheduling and execution. The input is as wide as
the state; two BiLSTM layers; a loss of five classes on every node of a tree, of a tag on every word and position.
ED-Batch has the best of its modes. BiLSTM and LatticeLSTM were measured after their wrong operands had been mended, so
that the work is the same. Such numbers count in pairs only: another machine has others, and what is compared is how far
one is ahead of the other.
"""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """Samples a second."""

    dynet: float
    ed_batch: float


def _row(batches: tuple[int, ...], dynet: tuple[float, ...], ed_batch: tuple[float, ...]) -> dict[int, Pair]:
    return {batch: Pair(*rates) for batch, *rates in zip(batches, dynet, ed_batch, strict=True)}


_ALL, _ONE = (8, 64, 256), (64,)

INFERENCE: dict[tuple[str, int], dict[int, Pair]] = {
    ("tree-lstm", 64): _row(_ALL, (4606, 4871, 4278), (8231, 8298, 8186)),
    ("tree-lstm", 256): _row(_ALL, (1277, 1644, 1560), (1144, 1752, 1899)),
    ("tree-lstm", 512): _row(_ALL, (387, 539, 548), (275, 498, 583)),
    ("tree-gru", 64): _row(_ALL, (4043, 3623, 3475), (9976, 10082, 10438)),
    ("tree-gru", 256): _row(_ALL, (1287, 1537, 1501), (1559, 2092, 1995)),
    ("bilstm", 64): _row(_ONE, (1132,), (2765,)),
    ("bilstm", 256): _row(_ONE, (373,), (516,)),
    ("bilstm", 512): _row(_ONE, (107,), (125,)),
    ("lattice-lstm", 64): _row(_ONE, (1560,), (4063,)),
    ("lattice-lstm", 256): _row(_ONE, (504,), (791,)),
    ("lattice-lstm", 512): _row(_ONE, (114,), (188,)),
    ("lattice-gru", 64): _row(_ALL, (1472, 1760, 1747), (3406, 4290, 4840)),
    ("lattice-gru", 256): _row(_ALL, (485, 673, 733), (437, 869, 950)),
}
"""By workload and hidden width, then by the size of the mini-batch."""


def published(workload: str, hidden: int, batch: int) -> Pair | None:
    return INFERENCE.get((workload, hidden), {}).get(batch)
