"""The N-ary TreeLSTM over the constituency tree of a sentence: a classifier that tells a left child from a right one.

Tai, Socher, Manning, "Improved Semantic Representations From Tree-Structured Long Short-Term Memory Networks",
ACL 2015, section 3.2, equations 9-14. As in their Constituency TreeLSTM, words stand at the leaves only: a leaf has
an input and no children, an inner node children and no input.
"""

import torch
from torch import Tensor, nn

from bale.models.trees import TreeLike, from_words


class Leaf(nn.Module):
    """The state of a word (equations 9 and 11-14 without children)."""

    def __init__(self, vocabulary: int, embed: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embed)
        self.gates = nn.Linear(embed, 3 * hidden)

    def forward(self, word: Tensor) -> tuple[Tensor, Tensor]:
        """Take the number of a word []; return h, c [hidden]."""
        i, o, u = self.gates(self.embed(word)).chunk(3, -1)
        c = i.sigmoid() * u.tanh()
        return o.sigmoid() * c.tanh(), c


class Inner(nn.Module):
    """The state of a node from its children's, each with weights of its own (equations 9-14 without an input)."""

    def __init__(self, hidden: int, arity: int) -> None:
        super().__init__()
        self.arity = arity
        self.gates = nn.Linear(arity * hidden, (3 + arity) * hidden)  # every U_k, and every U_kl of the forget gates

    def forward(self, *states: Tensor) -> tuple[Tensor, Tensor]:
        """Take h_1, ..., h_arity, c_1, ..., c_arity, each [hidden]; return h, c [hidden]."""
        h_children, c_children = states[: self.arity], states[self.arity :]
        i, o, u, *forget = self.gates(torch.cat(h_children, -1)).chunk(3 + self.arity, -1)
        c = i.sigmoid() * u.tanh()
        for f, c_child in zip(forget, c_children, strict=True):
            c = c + f.sigmoid() * c_child
        return o.sigmoid() * c.tanh(), c


class NaryTreeLSTM(nn.Module):
    """Classify a sentence by its tree, of at most `arity` children a node (binary: SST's trees).

    Args:
        vocabulary: the number of words.
        classes: the number of classes.
        hidden: the width of the states h and c.
        embed: the width of a word's vector; `hidden` where it is not given.
        arity: the number of children for which there are weights. A node with fewer, such as one of a unary chain,
            has zero states in the place of the last ones.
        every_node: return logits of every node rather than of the root alone, as for SST's labels of phrases.

    Raises ValueError for a node of more than `arity` children, IndexError for a word not in 0 .. `vocabulary` - 1.

    >>> from bale.data import Tree
    >>> model = NaryTreeLSTM(vocabulary=100, classes=5, hidden=8)
    >>> model(Tree(0, (Tree(17), Tree(0, (Tree(4), Tree(99)))))).shape
    torch.Size([5])
    """

    zero: Tensor

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        hidden: int,
        embed: int | None = None,
        arity: int = 2,
        every_node: bool = False,
    ) -> None:
        super().__init__()
        self.arity, self.every_node = arity, every_node
        self.leaf = Leaf(vocabulary, hidden if embed is None else embed, hidden)
        self.inner = Inner(hidden, arity)
        self.head = nn.Linear(hidden, classes)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # h and c of a missing child

    def forward(self, tree: TreeLike) -> Tensor:
        """Take one tree, the kind of each leaf the number of its word.

        Return its logits [classes], or with `every_node` those of all its nodes in post-order [nodes, classes].
        """
        states = from_words(
            tree, self.zero.device, self.leaf, lambda _, children: self.inner(*self.operands(children))
        )  # (h, c) of every node
        if self.every_node:
            return self.head(torch.stack([h for h, _ in states]))
        return self.head(states[-1][0])

    def operands(self, children: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Return h_1, ..., h_arity, c_1, ..., c_arity, zero where a child is missing."""
        missing = self.arity - len(children)
        if missing < 0:
            raise ValueError(
                f"a node has {len(children)} children and this NaryTreeLSTM weights for {self.arity}:"
                f" binarise the tree, or build the model with arity={len(children)}"
            )
        if missing:
            children = children + [(self.zero, self.zero)] * missing
        return [h for h, _ in children] + [c for _, c in children]
