"""What does a lattice model ask of a lattice, and how does a state travel along its arcs?

Su, Tan, Xiong, Ji, Shi, Liu, "Lattice-Based Recurrent Neural Network Encoders for Neural Machine Translation", AAAI
2017: its deep word-lattice unit, in which every arc runs a unit of its own and the states of the arcs that end together
are pooled.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn


class LatticeLike(Protocol):
    """Arcs by the position at which they end; `bale.data.Lattice` is one, and any class with this attribute is.

    An arc is (start, number), `start` an earlier position. From the position just before comes a character, its number
    in the vocabulary of characters; from further away a word, its number in that of words. Position 0 is the begin.
    """

    @property
    def arcs(self) -> Sequence[Sequence[tuple[int, int]]]: ...


class Arc(nn.Module):
    """A cell for one kind of arcs: takes the vector [embed] of an arc's number and the parts of a state, each [hidden].

    It returns the state that they lead to. `embed` makes the vectors, of all arcs of a lattice at once.
    """

    def __init__(self, vocabulary: int, embed: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, embed)


class LatticeTagger(nn.Module):
    """Tag the positions of a lattice with any two cells, one for characters and one for words."""

    zero: Tensor

    def __init__(self, character: Arc, word: Arc, tags: int, hidden: int, parts: int) -> None:
        super().__init__()
        self.parts = parts  # how many tensors make a state: h, or h and c
        self.character = character
        self.word = word
        self.head = nn.Linear(hidden, tags)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # each part where no arc ends

    def forward(self, lattice: LatticeLike) -> Tensor:
        """Take one lattice; return logits [positions at which arcs end, tags], in their order."""
        numbers: tuple[list[int], list[int]] = [], []  # of words, of characters
        for position, arcs in enumerate(lattice.arcs):
            for start, number in arcs:
                numbers[start == position - 1].append(number)
        if numbers == ([], []):
            raise ValueError("a lattice has at least one arc, got none")
        character, word, head = self.character, self.word, self.head
        next_word, next_character = self.vectors(word.embed, numbers[0]), self.vectors(character.embed, numbers[1])
        pooled: list[tuple[Tensor, ...]] = []  # the state at every position
        logits: list[Tensor] = []
        for position, arcs in enumerate(lattice.arcs):
            ending: list[tuple[Tensor, ...]] = []
            for start, _ in arcs:
                if not 0 <= start < position:
                    raise ValueError(f"an arc that ends at position {position} starts at {start}, not before it")
                if start == position - 1:
                    ending.append(character(next(next_character), *pooled[start]))
                else:
                    ending.append(word(next(next_word), *pooled[start]))
            pooled.append(self.pool(ending))
            if arcs:
                logits.append(head(pooled[-1][0]))
        return torch.stack(logits)

    def vectors(self, embed: nn.Embedding, numbers: list[int]) -> Iterator[Tensor]:
        """Give the vector [embed] of each of these numbers."""
        return iter(embed(torch.tensor(numbers, device=self.zero.device)).unbind() if numbers else ())

    def pool(self, states: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Average each part over the states of the arcs that end at one position; zero where none do."""
        if not states:
            return (self.zero,) * self.parts
        return tuple(torch.stack(part).mean(0) for part in zip(*states, strict=True))
