"""The encoder-decoder: read a sentence with one LSTM and write another from its last state.

Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks", NeurIPS 2014, section 2. They turn the
source around; here it is read as it is given. No attention, no beam: `EncoderDecoder` scores a given translation
(teacher forcing), `GreedyDecoder` writes one of its own.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bale.models.chains import run

State = tuple[Tensor, Tensor]


class EncoderDecoder(nn.Module):
    """Score every word of a translation, given the words before it.

    Args:
        source_vocabulary: the number of words of the language that is read, its begin and end symbols included.
        target_vocabulary: the number of words of the language that is written, likewise.
        embed: the width of a word's vector, in both languages.
        hidden: the width of the states h and c.
        layers: how many LSTMs lie one on the other, in the encoder and in the decoder.

    Raises ValueError for a source without words and for a target of fewer than two (its begin and its end), IndexError
    for a word that is not in its vocabulary.

    >>> model = EncoderDecoder(source_vocabulary=100, target_vocabulary=90, embed=8, hidden=16)
    >>> model(((0, 5, 17, 1), (0, 3, 33, 7, 1))).shape  # of the words 3, 33, 7, 1
    torch.Size([4, 90])
    """

    zero: Tensor

    def __init__(
        self, source_vocabulary: int, target_vocabulary: int, embed: int, hidden: int, layers: int = 1
    ) -> None:
        super().__init__()
        widths = [embed] + [hidden] * (layers - 1)
        self.source_embed = nn.Embedding(source_vocabulary, embed)
        self.target_embed = nn.Embedding(target_vocabulary, embed)
        self.encoder = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.decoder = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.head = nn.Linear(hidden, target_vocabulary)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # h and c before the first word

    def forward(self, sample: tuple[Sequence[int] | Tensor, Sequence[int] | Tensor]) -> Tensor:
        """Take (source, target), the numbers of their words [length] with begin and end symbols.

        Return the logits of target[1:], each given the words before it [target length - 1, target vocabulary].
        """
        source, target = sample
        if len(target) < 2:
            raise ValueError(f"a target has a begin and an end, so at least two words; got {len(target)}")
        states = self.encode(source)
        words = torch.as_tensor(target, device=self.zero.device)  # [length]
        tops: list[Tensor] = []
        for x in self.target_embed(words[:-1]).unbind():
            states = self.step(x, states)
            tops.append(states[-1][0])
        return self.head(torch.stack(tops))

    def encode(self, source: Sequence[int] | Tensor) -> list[State]:
        """Read the numbers of the source's words [length]; return the last (h, c) of every layer."""
        if len(source) == 0:
            raise ValueError("a source has at least one word, got none")
        words = torch.as_tensor(source, device=self.zero.device)  # [length]
        row: Iterable[Tensor] = self.source_embed(words).unbind()
        last: list[State] = []
        for cell in self.encoder:
            states = run(cell, row, self.zero, self.zero)
            last.append(states[-1])
            row = [h for h, _ in states]
        return last

    def step(self, x: Tensor, states: list[State]) -> list[State]:
        """Read the vector [embed] of one target word; return the (h, c) of every layer after it from those before."""
        after: list[State] = []
        for cell, state in zip(self.decoder, states, strict=True):
            x, c = cell(x, state)
            after.append((x, c))
        return after


class GreedyDecoder(nn.Module):
    """Write a translation word by word, each the likeliest after those before it, for a fixed number of steps.

    Args:
        model: the encoder-decoder, whose parameters are this module's own.
        begin: the number of the target's begin symbol.
        length: how many words to write. Nothing stops at an end symbol: what follows it is for the caller to cut off.

    Raises ValueError for a `begin` that is not in the target's vocabulary, for a `length` below 1 and for a source
    without words, IndexError for a source word that is not in its vocabulary.

    >>> model = EncoderDecoder(source_vocabulary=100, target_vocabulary=90, embed=8, hidden=16)
    >>> GreedyDecoder(model, begin=0, length=6)((0, 5, 17, 1)).argmax(-1).shape  # the words
    torch.Size([6])
    """

    def __init__(self, model: EncoderDecoder, begin: int, length: int) -> None:
        super().__init__()
        words = model.target_embed.num_embeddings
        if not 0 <= begin < words:
            raise ValueError(f"begin={begin} is none of the target's {words} words")
        if length < 1:
            raise ValueError(f"length={length}, and a decoder writes at least one word")
        self.model = model
        self.begin, self.length = begin, length

    def forward(self, source: Sequence[int] | Tensor) -> Tensor:
        """Take the numbers of the source's words [length]; return logits [steps, target vocabulary]."""
        states = self.model.encode(source)
        word = torch.tensor(self.begin, device=self.model.zero.device)
        logits: list[Tensor] = []
        for _ in range(self.length):
            states = self.model.step(self.model.target_embed(word), states)
            logits.append(self.model.head(states[-1][0]))
            word = logits[-1].argmax(-1)  # stays a tensor, since its number is not needed to go on
        return torch.stack(logits)
