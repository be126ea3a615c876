"""The TreeLSTM with two kinds of inner nodes, each with weights of its own: binary trees that are harder to batch.

Chen, Fegade, Chen, Gibbons, Mowry, "ED-Batch: Efficient Automatic Batching of Dynamic Neural Networks via Learned
Finite State Machines", ICML 2023, one of whose workloads it is. Their code draws a node's cell at random; here its kind
chooses. The cells are those of the N-ary TreeLSTM (Tai, Socher, Manning, ACL 2015, equations 9-14).
"""

import torch
from torch import Tensor, nn

from bale.models.nary_tree_lstm import Inner, Leaf
from bale.models.trees import TreeLike, from_words, pair


class TwoTypeTreeLSTM(nn.Module):
    """Classify a sentence by its binary tree, whose inner nodes are of kind 0 or 1.

    Args:
        vocabulary: the number of words.
        classes: the number of classes.
        hidden: the width of the states h and c.
        embed: the width of a word's vector; `hidden` where it is not given.
        every_node: return logits of every node rather than of the root alone, as for SST's labels of phrases.

    Raises ValueError for an inner node that has not two children or is of another kind, IndexError for a word not in
    0 .. `vocabulary` - 1.

    >>> from bale.data import Tree
    >>> model = TwoTypeTreeLSTM(vocabulary=100, classes=5, hidden=8)
    >>> model(Tree(0, (Tree(17), Tree(1, (Tree(4), Tree(99)))))).shape
    torch.Size([5])
    """

    def __init__(
        self, vocabulary: int, classes: int, hidden: int, embed: int | None = None, every_node: bool = False
    ) -> None:
        super().__init__()
        self.every_node = every_node
        self.leaf = Leaf(vocabulary, hidden if embed is None else embed, hidden)
        self.inner = nn.ModuleList(Inner(hidden, arity=2) for _ in range(2))
        self.head = nn.Linear(hidden, classes)

    def forward(self, tree: TreeLike) -> Tensor:
        """Take one tree, the kind of each leaf the number of its word, that of each inner node the number of its cell.

        Return its logits [classes], or with `every_node` those of all its nodes in post-order [nodes, classes].
        """
        cells = tuple(self.inner)
        states = from_words(
            tree, self.head.weight.device, self.leaf, lambda node, children: self.join(cells, node, children)
        )  # (h, c) of every node
        if self.every_node:
            return self.head(torch.stack([h for h, _ in states]))
        return self.head(states[-1][0])

    def join(
        self, cells: tuple[nn.Module, ...], node: TreeLike, children: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Return h and c of an inner node from its children's, by the cell of its kind."""
        (h_left, c_left), (h_right, c_right) = pair(children, "a TwoTypeTreeLSTM")
        if not 0 <= node.kind < len(cells):
            raise ValueError(f"an inner node is of kind {node.kind}, and there are cells for the kinds 0 and 1")
        return cells[node.kind](h_left, h_right, c_left, c_right)
