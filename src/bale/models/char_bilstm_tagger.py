"""The bidirectional LSTM tagger that spells: the vector of a rare word is read off its characters.

Neubig et al., "DyNet: The Dynamic Neural Network Toolkit", 2017 (arXiv 1701.03980), the tagger with characters of its
benchmarks: a known word has a vector of its own; for a rare word the last states of two LSTMs, one that reads its
characters from the left and one from the right, stand side by side in the place of that vector. The idea is that of
Ling et al., "Finding Function in Form: Compositional Character Models for Open Vocabulary Word Representation", EMNLP
2015, who combine the two states by a matrix and spell every word.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bale.models.chains import run, run_both_ways


class CharBiLSTMTagger(nn.Module):
    """Tag the words of one sentence, some known by a number and the others by their characters.

    Args:
        vocabulary: the number of known words.
        characters: the number of characters.
        tags: the number of tags.
        embed: the width of a word's vector, an even number: half of it is read from each end of a rare word.
        hidden: the width of the state in each direction.
        layers: how many bidirectional layers lie one on the other.
        char_embed: the width of a character's vector; `embed` where it is not given.

    Raises ValueError for an odd `embed`, for a sentence without words and for a word without characters, IndexError for
    a word not in 0 .. `vocabulary` - 1 or a character not in 0 .. `characters` - 1.

    >>> model = CharBiLSTMTagger(vocabulary=100, characters=30, tags=9, embed=8, hidden=16)
    >>> model((5, 17, (19, 0, 11), 99)).shape  # the third word is rare
    torch.Size([4, 9])
    """

    zero: Tensor
    char_zero: Tensor

    def __init__(
        self,
        vocabulary: int,
        characters: int,
        tags: int,
        embed: int,
        hidden: int,
        layers: int = 1,
        char_embed: int | None = None,
    ) -> None:
        super().__init__()
        if embed % 2:
            raise ValueError(f"embed={embed} is odd, and a rare word's vector has half of it from each end")
        char_embed = embed if char_embed is None else char_embed
        widths = [embed] + [2 * hidden] * (layers - 1)
        self.embed = nn.Embedding(vocabulary, embed)
        self.char_embed = nn.Embedding(characters, char_embed)
        self.char_forward = nn.LSTMCell(char_embed, embed // 2)
        self.char_backward = nn.LSTMCell(char_embed, embed // 2)
        self.forwards = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.backwards = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.head = nn.Linear(2 * hidden, tags)
        # h and c before the first word, and before the first character
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)
        self.register_buffer("char_zero", torch.zeros(embed // 2), persistent=False)

    def forward(self, words: Sequence[int | tuple[int, ...]]) -> Tensor:
        """Take a sentence, each word its number or, where it is rare, a tuple of its characters' numbers.

        Return logits [length, tags].
        """
        if len(words) == 0:
            raise ValueError("a sentence has at least one word, got none")
        known = [word for word in words if not isinstance(word, tuple)]
        spelt = [character for word in words if isinstance(word, tuple) for character in word]
        next_known = self.vectors(self.embed, known)
        next_character = self.vectors(self.char_embed, spelt)
        row: list[Tensor] = []
        for position, word in enumerate(words):
            if not isinstance(word, tuple):
                row.append(next(next_known))
            elif word:
                row.append(self.spell([next(next_character) for _ in word]))
            else:
                raise ValueError(f"word {position} of the sentence is rare and has no characters")
        return self.head(run_both_ways(self.forwards, self.backwards, row, self.zero))

    def vectors(self, embed: nn.Embedding, numbers: list[int]) -> Iterator[Tensor]:
        """Give the vector of each of these numbers."""
        return iter(embed(torch.tensor(numbers, device=self.zero.device)).unbind() if numbers else ())

    def spell(self, row: list[Tensor]) -> Tensor:
        """Return the vector [embed] of the word whose characters have these vectors [char_embed]."""
        from_left, _ = run(self.char_forward, row, self.char_zero, self.char_zero)[-1]
        from_right, _ = run(self.char_backward, row[::-1], self.char_zero, self.char_zero)[-1]
        return torch.cat([from_left, from_right], -1)
