"""What is a directed acyclic graph of kinds? A circuit, a program's data flow, or any order that is no tree."""

from dataclasses import dataclass

from bale.errors import DataError


@dataclass(frozen=True, slots=True)
class Dag:
    """Nodes in an order in which each comes after its operands: `kinds[node]`, and which nodes are its `operands`.

    A node without operands is an input. A node may be an operand several times, of one node or of many.

    Raises `DataError` for no nodes, unless there are operands for each, for an operand that is no earlier node, and
    for a kind below 0.

    >>> dag = Dag(kinds=(0, 1, 3, 2), operands=((), (), (0, 1), (1,)))
    >>> dag.inputs, dag.sinks
    ((0, 1), (2, 3))
    """

    kinds: tuple[int, ...]
    operands: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.kinds or len(self.kinds) != len(self.operands):
            raise DataError(
                f"a graph has nodes, each with a kind and operands: got {len(self.kinds)} kinds and operands for"
                f" {len(self.operands)}"
            )
        for node, (kind, operands) in enumerate(zip(self.kinds, self.operands, strict=True)):
            if kind < 0:
                raise DataError(f"node {node}: a kind is a number from 0, got {kind}")
            for operand in operands:
                if not 0 <= operand < node:
                    raise DataError(f"node {node}: an operand is an earlier node, from 0, got {operand}")

    @property
    def inputs(self) -> tuple[int, ...]:
        """The nodes without operands, in order."""
        return tuple(node for node, operands in enumerate(self.operands) if not operands)

    @property
    def sinks(self) -> tuple[int, ...]:
        """The nodes that are no operand of any other, in order; there is at least one."""
        read = {operand for operands in self.operands for operand in operands}
        return tuple(node for node in range(len(self.kinds)) if node not in read)


DagSample = tuple[Dag, int]
"""One example of a data set of graphs: the graph and the index of its class."""
