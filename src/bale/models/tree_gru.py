"""The TreeGRU over the constituency tree of a sentence: the N-ary TreeLSTM's place taken by a gated recurrent unit.

After Kokkinos, Potamianos, "Structural Attention Neural Networks for improved sentiment analysis", EACL 2017, and
Tsakalos, Henriques, "Sentiment Classification using N-ary Tree-Structured Gated Recurrent Unit Networks", IC3K 2018:
the unit of Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine
Translation", EMNLP 2014, equations 5-8, reads the states of all children where it read the state before. What is kept
of the children is their mean here, so that a state stays within -1 .. 1 at any depth. Words stand at the leaves only.
"""

import torch
from torch import Tensor, nn

from bale.models.trees import TreeLike, from_words


class Leaf(nn.Module):
    """The state of a word: u = tanh(W x + b), z = sigmoid(W_z x + b_z), h = (1 - z) u."""

    def __init__(self, vocabulary: int, embed: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embed)
        self.gates = nn.Linear(embed, 2 * hidden)

    def forward(self, word: Tensor) -> Tensor:
        """Take the number of a word []; return h [hidden]."""
        z, u = self.gates(self.embed(word)).chunk(2, -1)
        return (1 - z.sigmoid()) * u.tanh()


class Inner(nn.Module):
    """The state of a node from its children's h_1, ..., h_n, each with weights of its own.

    r = sigmoid(U_r [h_1; ...; h_n] + b_r), z likewise, u = tanh(U [r h_1; ...; r h_n] + b),
    h = z (h_1 + ... + h_n) / n + (1 - z) u.
    """

    def __init__(self, hidden: int, arity: int) -> None:
        super().__init__()
        self.gates = nn.Linear(arity * hidden, 2 * hidden)
        self.candidate = nn.Linear(arity * hidden, hidden)

    def forward(self, *children: Tensor) -> Tensor:
        """Take h_1, ..., h_n, each [hidden]; return h [hidden]."""
        r, z = self.gates(torch.cat(children, -1)).sigmoid().chunk(2, -1)
        u = self.candidate(torch.cat([r * h for h in children], -1)).tanh()
        kept = sum(children[1:], children[0]) / len(children)
        return z * kept + (1 - z) * u


class TreeGRU(nn.Module):
    """Classify a sentence by its tree, of at most `arity` children a node (binary: SST's trees).

    Args:
        vocabulary: the number of words.
        classes: the number of classes.
        hidden: the width of the state h.
        embed: the width of a word's vector; `hidden` where it is not given.
        arity: the number of children for which there are weights. A node with fewer, such as one of a unary chain,
            has zero states in the place of the last ones.
        every_node: return logits of every node rather than of the root alone, as for SST's labels of phrases.

    Raises ValueError for a node of more than `arity` children, IndexError for a word not in 0 .. `vocabulary` - 1.

    >>> from bale.data import Tree
    >>> model = TreeGRU(vocabulary=100, classes=5, hidden=8)
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
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # the state of a missing child

    def forward(self, tree: TreeLike) -> Tensor:
        """Take one tree, the kind of each leaf the number of its word.

        Return its logits [classes], or with `every_node` those of all its nodes in post-order [nodes, classes].
        """
        states = from_words(
            tree, self.zero.device, self.leaf, lambda _, children: self.inner(*self.operands(children))
        )  # h of every node
        if self.every_node:
            return self.head(torch.stack(states))
        return self.head(states[-1])

    def operands(self, children: list[Tensor]) -> list[Tensor]:
        """Return h_1, ..., h_arity, zero where a child is missing."""
        missing = self.arity - len(children)
        if missing < 0:
            raise ValueError(
                f"a node has {len(children)} children and this TreeGRU weights for {self.arity}:"
                f" binarise the tree, or build the model with arity={len(children)}"
            )
        return children + [self.zero] * missing if missing else children
