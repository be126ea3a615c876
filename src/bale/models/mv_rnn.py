"""The MV-RNN: every word and phrase has a vector, what it means, and a matrix, how it changes its neighbour's meaning.

Socher, Huval, Manning, Ng, "Semantic Compositionality through Recursive Matrix-Vector Spaces", EMNLP 2012, section 2.
Where the paper writes a word's matrix as one of low rank plus a diagonal, to save parameters, here it is a full one.
"""

import torch
from torch import Tensor, nn

from bale.models.trees import TreeLike, from_words, pair

NOISE = 0.01  # the deviation of a word's matrix from the identity, before training


class Word(nn.Module):
    """The vector and the matrix of a word."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.vectors = nn.Embedding(vocabulary, hidden)
        self.matrices = nn.Embedding(vocabulary, hidden * hidden)
        # Section 2.1: the identity and a little noise, so that at first a phrase is the sum of its words.
        with torch.no_grad():
            self.matrices.weight.mul_(NOISE).add_(torch.eye(hidden).flatten())

    def forward(self, word: Tensor) -> tuple[Tensor, Tensor]:
        """Take the number of a word []; return its vector [hidden] and its matrix [hidden, hidden]."""
        return self.vectors(word), self.matrices(word).unflatten(-1, (self.hidden, self.hidden))


class Phrase(nn.Module):
    """The vector p = tanh(W [B a; A b] + bias) and the matrix P = W_M [A; B] of two neighbours (a, A) and (b, B)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.vector = nn.Linear(2 * hidden, hidden)  # W and its bias
        self.matrix = nn.Linear(2 * hidden, hidden, bias=False)  # W_M

    def forward(self, a: Tensor, a_matrix: Tensor, b: Tensor, b_matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Take a [hidden], A [hidden, hidden], b, B; return p [hidden], P [hidden, hidden]."""
        p = self.vector(torch.cat([b_matrix @ a, a_matrix @ b], -1)).tanh()
        return p, self.matrix.weight @ torch.cat([a_matrix, b_matrix], -2)


class MVRNN(nn.Module):
    """Classify a sentence by its binary tree.

    Args:
        vocabulary: the number of words.
        classes: the number of classes.
        hidden: the width of a vector; a matrix has its square.
        every_node: return logits of every node rather than of the root alone, as for SST's labels of phrases.

    Raises ValueError for an inner node that has not two children, IndexError for a word not in 0 .. `vocabulary` - 1.

    >>> from bale.data import Tree
    >>> model = MVRNN(vocabulary=100, classes=5, hidden=8)
    >>> model(Tree(0, (Tree(17), Tree(0, (Tree(4), Tree(99)))))).shape
    torch.Size([5])
    """

    def __init__(self, vocabulary: int, classes: int, hidden: int, every_node: bool = False) -> None:
        super().__init__()
        self.every_node = every_node
        self.word = Word(vocabulary, hidden)
        self.phrase = Phrase(hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, tree: TreeLike) -> Tensor:
        """Take one tree, the kind of each leaf the number of its word.

        Return its logits [classes], or with `every_node` those of all its nodes in post-order [nodes, classes].
        """
        values = from_words(tree, self.head.weight.device, self.word, self.join)  # (p, P) of every node
        if self.every_node:
            return self.head(torch.stack([p for p, _ in values]))
        return self.head(values[-1][0])

    def join(self, _: TreeLike, children: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the vector and the matrix of a node from its children's."""
        left, right = pair(children, "an MVRNN")
        return self.phrase(*left, *right)
