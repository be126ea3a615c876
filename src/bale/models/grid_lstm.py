"""The two-dimensional grid LSTM: a classifier of two sentences that reads each word of one with each of the other.

Kalchbrenner, Danihelka, Graves, "Grid Long Short-Term Memory", ICLR 2016 (arXiv 1507.01526), section 3: a block of the
grid has an LSTM in each dimension, and both read the hidden vectors that come in from both. Here each block reads a
pair of words besides, and h = o tanh(c), as in other LSTMs, where they write tanh(o c).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """One step to the right and one down: two LSTMs with weights of their own that read the same vectors."""

    def __init__(self, embed: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(2 * embed + 2 * hidden, 8 * hidden)

    def forward(
        self, a: Tensor, b: Tensor, h_left: Tensor, c_left: Tensor, h_above: Tensor, c_above: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Take the vectors of two words [embed] and the states from the left and from above [hidden].

        Return h, c to the right and h, c down [hidden].
        """
        gates = self.gates(torch.cat([a, b, h_left, h_above], -1)).chunk(8, -1)
        i, f, o, u = gates[:4]
        c_right = f.sigmoid() * c_left + i.sigmoid() * u.tanh()
        h_right = o.sigmoid() * c_right.tanh()
        i, f, o, u = gates[4:]
        c_down = f.sigmoid() * c_above + i.sigmoid() * u.tanh()
        h_down = o.sigmoid() * c_down.tanh()
        return h_right, c_right, h_down, c_down


class GridLSTM(nn.Module):
    """Classify a pair of sentences, their words the rows and the columns of a grid, from its last corner.

    Args:
        vocabulary: the number of words, common to both sentences.
        classes: the number of classes.
        embed: the width of a word's vector.
        hidden: the width of the states h and c in each dimension.

    Raises ValueError for a sentence without words, IndexError for a word not in 0 .. `vocabulary` - 1.

    >>> model = GridLSTM(vocabulary=100, classes=3, embed=8, hidden=16)
    >>> model(((5, 17, 3), (99, 4))).shape
    torch.Size([3])
    """

    zero: Tensor

    def __init__(self, vocabulary: int, classes: int, embed: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embed)
        self.block = Block(embed, hidden)
        self.head = nn.Linear(2 * hidden, classes)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # h and c at the left and upper edges

    def forward(self, sample: tuple[Sequence[int] | Tensor, Sequence[int] | Tensor]) -> Tensor:
        """Take the numbers of two sentences' words [rows], [columns]; return the logits of the pair [classes]."""
        rows, columns = (self.vectors(words) for words in sample)
        above = [(self.zero, self.zero)] * len(columns)  # (h, c) that come down each column
        left = (self.zero, self.zero)
        edge, block = left, self.block
        for a in rows:
            left = edge
            for column, b in enumerate(columns):
                h_right, c_right, h_down, c_down = block(a, b, *left, *above[column])
                left, above[column] = (h_right, c_right), (h_down, c_down)
        return self.head(torch.cat([left[0], above[-1][0]], -1))

    def vectors(self, words: Sequence[int] | Tensor) -> Sequence[Tensor]:
        """Return the vectors [embed] of a sentence's words."""
        if len(words) == 0:
            raise ValueError("a sentence has at least one word, got none")
        numbers = torch.as_tensor(words, device=self.zero.device)  # [length]
        return self.embed(numbers).unbind()
