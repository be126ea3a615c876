"""The lattice LSTM: a tag for every character of a sentence, read with all the words that a dictionary finds in it.

The way of Su et al., AAAI 2017 (lattices.py), with an LSTM where they have a GRU: every arc runs a cell on the pooled
state of where it starts. Zhang, Yang, "Chinese NER Using Lattice LSTM", ACL 2018, feed words into the memory of the
character cell through a gate per word instead; here both kinds of arcs are alike, and pooling is a mean.
"""

from torch import Tensor, nn

from bale.models.lattices import Arc, LatticeTagger


class LSTMArc(Arc):
    """One step of an LSTM over a character or a word."""

    def __init__(self, vocabulary: int, embed: int, hidden: int) -> None:
        super().__init__(vocabulary, embed)
        self.lstm = nn.LSTMCell(embed, hidden)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Take the vector of a character or word [embed] and h, c [hidden] where it starts; return them at its end."""
        return self.lstm(x, (h, c))


class LatticeLSTM(LatticeTagger):
    """Tag the characters of one sentence, given as a lattice of characters and words.

    Args:
        characters: the number of characters.
        words: the number of words.
        tags: the number of tags.
        embed: the width of the vector of a character and of a word.
        hidden: the width of the states h and c.

    Raises ValueError for a lattice without arcs or with an arc that does not start before its end, IndexError for a
    character not in 0 .. `characters` - 1 or a word not in 0 .. `words` - 1.

    >>> from types import SimpleNamespace
    >>> lattice = SimpleNamespace(arcs=((), ((0, 7),), ((1, 3), (0, 41)), ((2, 9),)))  # word 41 from 0 to 2
    >>> LatticeLSTM(characters=10, words=50, tags=4, embed=8, hidden=16)(lattice).shape
    torch.Size([3, 4])
    """

    def __init__(self, characters: int, words: int, tags: int, embed: int, hidden: int) -> None:
        super().__init__(LSTMArc(characters, embed, hidden), LSTMArc(words, embed, hidden), tags, hidden, parts=2)
