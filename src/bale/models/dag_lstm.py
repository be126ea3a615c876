"""The LSTM on a directed acyclic graph: a classifier of graphs whose every kind of node has weights of its own.

After Zhu, Sobhani, Guo, "DAG-Structured Long Short-Term Memory for Semantic Compositionality", NAACL 2016, where a
node of a graph reads the states of those before it as a node of a tree does those of its children. Here a node reads
their sum, as in the Child-Sum TreeLSTM (Tai, Socher, Manning, ACL 2015, equations 2-8) but with one forget gate for the
sum of the memories, and has no input: its kind chooses the weights.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from bale.models.nary_tree_lstm import Leaf


class DagLike(Protocol):
    """Nodes in an order in which operands come first; `bale.data.Dag` is one, and any class with these attributes is.

    `kinds` [nodes] are numbers, `operands` [nodes] the places of the earlier nodes that each node reads.
    """

    @property
    def kinds(self) -> Sequence[int]: ...

    @property
    def operands(self) -> Sequence[Sequence[int]]: ...


class Node(nn.Module):
    """The state of a node of one kind from the sums over its operands."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(hidden, 4 * hidden)

    def forward(self, h_sum: Tensor, c_sum: Tensor) -> tuple[Tensor, Tensor]:
        """Take the sums of h and of c over the operands [hidden]; return h, c [hidden]."""
        i, o, u, f = self.gates(h_sum).chunk(4, -1)
        c = i.sigmoid() * u.tanh() + f.sigmoid() * c_sum
        return o.sigmoid() * c.tanh(), c


class DagLSTM(nn.Module):
    """Classify a directed acyclic graph from the sum of the states of its sinks, the nodes that no other reads.

    Args:
        kinds: the number of kinds of nodes.
        classes: the number of classes.
        hidden: the width of the states h and c, and of the vector of a node without operands.

    Raises ValueError for a graph without nodes and for an operand that is no earlier node, IndexError for a kind that
    is not in 0 .. `kinds` - 1.

    >>> from types import SimpleNamespace
    >>> dag = SimpleNamespace(kinds=(3, 4, 0, 1), operands=((), (), (0, 1), (0, 2)))
    >>> DagLSTM(kinds=5, classes=2, hidden=8)(dag).shape
    torch.Size([2])
    """

    def __init__(self, kinds: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.source = Leaf(kinds, hidden, hidden)
        self.nodes = nn.ModuleList(Node(hidden) for _ in range(kinds))
        self.head = nn.Linear(hidden, classes)

    def forward(self, dag: DagLike) -> Tensor:
        """Take one graph; return its logits [classes]."""
        if len(dag.kinds) == 0:
            raise ValueError("a graph has at least one node, got none")
        numbers = torch.tensor(dag.kinds, device=self.head.weight.device).unbind()  # of the kinds
        states: list[tuple[Tensor, Tensor]] = []  # (h, c) of every node
        is_read = [False] * len(numbers)
        for node, (kind, number, operands) in enumerate(zip(dag.kinds, numbers, dag.operands, strict=True)):
            for operand in operands:
                if not 0 <= operand < node:
                    raise ValueError(f"node {node} reads node {operand}, which is not before it")
                is_read[operand] = True
            if operands:
                h_sum, c_sum = (torch.stack(part).sum(0) for part in zip(*(states[k] for k in operands), strict=True))
                states.append(self.of_kind(kind)(h_sum, c_sum))
            else:
                states.append(self.source(number))
        sinks = [h for (h, _), read in zip(states, is_read, strict=True) if not read]
        return self.head(torch.stack(sinks).sum(0))

    def of_kind(self, kind: int) -> nn.Module:
        """Return the cell of a kind of nodes."""
        if not 0 <= kind < len(self.nodes):
            raise IndexError(f"a node is of kind {kind}, and there are cells for the kinds 0 to {len(self.nodes) - 1}")
        return self.nodes[kind]
