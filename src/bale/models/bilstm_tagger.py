"""The bidirectional LSTM tagger: a tag for every word of a sentence, read from both ends.

Graves, Schmidhuber, "Framewise Phoneme Classification with Bidirectional LSTM and Other Neural Network
Architectures", Neural Networks 18, 2005; for tagging: Huang, Xu, Yu, "Bidirectional LSTM-CRF Models for Sequence
Tagging", 2015 (arXiv 1508.01991), section 2.2, without its CRF.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bale.models.chains import run_both_ways


class BiLSTMTagger(nn.Module):
    """Tag the words of one sentence.

    Args:
        vocabulary: the number of words.
        tags: the number of tags.
        embed: the width of a word's vector.
        hidden: the width of the state in each direction.
        layers: how many bidirectional layers lie one on the other.

    Raises ValueError for a sentence without words, IndexError for a word not in 0 .. `vocabulary` - 1.

    >>> model = BiLSTMTagger(vocabulary=100, tags=9, embed=8, hidden=16)
    >>> model((5, 17, 3, 99)).shape
    torch.Size([4, 9])
    """

    zero: Tensor

    def __init__(self, vocabulary: int, tags: int, embed: int, hidden: int, layers: int = 1) -> None:
        super().__init__()
        widths = [embed] + [2 * hidden] * (layers - 1)
        self.embed = nn.Embedding(vocabulary, embed)
        self.forwards = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.backwards = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.head = nn.Linear(2 * hidden, tags)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # h and c before the first word

    def forward(self, words: Sequence[int] | Tensor) -> Tensor:
        """Take the numbers of a sentence's words (a tuple, a list, or a tensor of int64) [length].

        Return logits [length, tags].
        """
        if len(words) == 0:
            raise ValueError("a sentence has at least one word, got none")
        numbers = torch.as_tensor(words, device=self.zero.device)  # [length]
        row = self.embed(numbers).unbind()
        return self.head(run_both_ways(self.forwards, self.backwards, row, self.zero))
