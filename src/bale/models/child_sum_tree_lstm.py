"""The Child-Sum TreeLSTM: a classifier of trees of any arity, in which the order of children does not count.

Tai, Socher, Manning, "Improved Semantic Representations From Tree-Structured Long Short-Term Memory Networks",
ACL 2015, section 3.1, equations 2-8.
"""

import torch
from torch import Tensor, nn

from bale.models.trees import TreeLike, pop_last, post_order


class Forget(nn.Module):
    """What a node keeps of one child's memory: f * c (equation 4 and its term of equation 7)."""

    def __init__(self, embed: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(embed + hidden, hidden)  # W^(f), U^(f) and b^(f), side by side

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        """Take the node's input x [embed] and the child's h, c [hidden]; return [hidden]."""
        return self.gate(torch.cat([x, h], -1)).sigmoid() * c


class Node(nn.Module):
    """A node's state from its input and the sums over its children (equations 3 and 5-8)."""

    def __init__(self, embed: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(embed + hidden, 3 * hidden)

    def forward(self, x: Tensor, h_sum: Tensor, fc_sum: Tensor) -> tuple[Tensor, Tensor]:
        """Take x [embed], the sums of h and of f * c over the children [hidden]; return h, c [hidden]."""
        i, o, u = self.gates(torch.cat([x, h_sum], -1)).chunk(3, -1)
        c = i.sigmoid() * u.tanh() + fc_sum
        return o.sigmoid() * c.tanh(), c


class ChildSumTreeLSTM(nn.Module):
    """Classify a tree whose every node has a kind and any number of children.

    Args:
        kinds: the number of kinds (`len(bale.data.KINDS)` for Python functions).
        classes: the number of classes.
        hidden: the width of the states h and c.
        embed: the width of a kind's vector; `hidden` where it is not given.

    Raises IndexError for a kind that is not in 0 .. `kinds` - 1.

    >>> from bale.data import Tree
    >>> model = ChildSumTreeLSTM(kinds=10, classes=3, hidden=8)
    >>> model(Tree(4, (Tree(1), Tree(2, (Tree(7),)), Tree(1)))).shape
    torch.Size([3])
    """

    zero: Tensor

    def __init__(self, kinds: int, classes: int, hidden: int, embed: int | None = None) -> None:
        super().__init__()
        embed = hidden if embed is None else embed
        self.embed = nn.Embedding(kinds, embed)
        self.forget = Forget(embed, hidden)
        self.node = Node(embed, hidden)
        self.head = nn.Linear(hidden, classes)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # the sums of a node without children

    def forward(self, tree: TreeLike) -> Tensor:
        """Take one tree; return its logits [classes]."""
        nodes = post_order(tree)
        kinds = torch.tensor([node.kind for node in nodes], device=self.zero.device)  # [nodes]
        states: list[tuple[Tensor, Tensor]] = []  # (h, c) of the nodes whose parent is still to come
        for node, kind in zip(nodes, kinds.unbind(), strict=True):
            x = self.embed(kind)
            h_sum, fc_sum = self.child_sums(x, pop_last(states, len(node.children)))
            states.append(self.node(x, h_sum, fc_sum))
        ((h, _),) = states
        return self.head(h)

    def child_sums(self, x: Tensor, children: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Sum h, and the f * c that a node of input x keeps, over its children."""
        if not children:
            return self.zero, self.zero
        h_sum = torch.stack([h for h, _ in children]).sum(0)
        fc_sum = torch.stack([self.forget(x, h, c) for h, c in children]).sum(0)
        return h_sum, fc_sum
