"""The lattice GRU: a tag for every character of a sentence, read with all the words that a dictionary finds in it.

Su et al., AAAI 2017 (lattices.py): the encoder that they call deep (DWL-GRU), with pooling. Here pooling is a mean,
characters and words have weights of their own, and the states are read by a tagger in place of a decoder.
"""

from torch import Tensor, nn

from bale.models.lattices import Arc, LatticeTagger


class GRUArc(Arc):
    """One step of a GRU over a character or a word."""

    def __init__(self, vocabulary: int, embed: int, hidden: int) -> None:
        super().__init__(vocabulary, embed)
        self.gru = nn.GRUCell(embed, hidden)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor]:
        """Take the vector of a character or word [embed] and h [hidden] where it starts; return (h,) where it ends."""
        return (self.gru(x, h),)


class LatticeGRU(LatticeTagger):
    """Tag the characters of one sentence, given as a lattice of characters and words.

    Args:
        characters: the number of characters.
        words: the number of words.
        tags: the number of tags.
        embed: the width of the vector of a character and of a word.
        hidden: the width of the state h.

    Raises ValueError for a lattice without arcs or with an arc that does not start before its end, IndexError for a
    character not in 0 .. `characters` - 1 or a word not in 0 .. `words` - 1.

    >>> from types import SimpleNamespace
    >>> lattice = SimpleNamespace(arcs=((), ((0, 7),), ((1, 3), (0, 41)), ((2, 9),)))  # word 41 from 0 to 2
    >>> LatticeGRU(characters=10, words=50, tags=4, embed=8, hidden=16)(lattice).shape
    torch.Size([3, 4])
    """

    def __init__(self, characters: int, words: int, tags: int, embed: int, hidden: int) -> None:
        super().__init__(GRUArc(characters, embed, hidden), GRUArc(words, embed, hidden), tags, hidden, parts=1)
