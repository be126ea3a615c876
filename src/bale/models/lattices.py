"""What does a lattice model ask of a lattice, and how does a state travel along its arcs?

Su, Tan, Xiong, Ji, Shi, Liu, "Lattice-Based Recurrent Neural Network Encoders for Neural Machine Translation", AAAI
2017: its deep word-lattice unit, in which every arc runs a unit of its own and the states of the arcs that end together
are pooled.
"""

from collections.abc import Sequence
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


class LatticeTagger(nn.Module):
    """Tag the positions of a lattice with any two cells, one for characters and one for words.

    A cell takes an arc's number [] and the parts of a state, each [hidden], and returns the state that it leads to.
    """

    zero: Tensor

    def __init__(self, character: nn.Module, word: nn.Module, tags: int, hidden: int, parts: int) -> None:
        super().__init__()
        self.parts = parts  # how many tensors make a state: h, or h and c
        self.character = character
        self.word = word
        self.head = nn.Linear(hidden, tags)
        self.register_buffer("zero", torch.zeros(hidden), persistent=False)  # each part where no arc ends

    def forward(self, lattice: LatticeLike) -> Tensor:
        """Take one lattice; return logits [positions at which arcs end, tags], in their order."""
        numbers = torch.tensor([number for arcs in lattice.arcs for _, number in arcs], device=self.zero.device)
        if not len(numbers):
            raise ValueError("a lattice has at least one arc, got none")
        next_number = iter(numbers.unbind())
        pooled: list[tuple[Tensor, ...]] = []  # the state at every position
        logits: list[Tensor] = []
        for position, arcs in enumerate(lattice.arcs):
            ending: list[tuple[Tensor, ...]] = []
            for start, _ in arcs:
                if not 0 <= start < position:
                    raise ValueError(f"an arc that ends at position {position} starts at {start}, not before it")
                cell = self.character if start == position - 1 else self.word
                ending.append(cell(next(next_number), *pooled[start]))
            pooled.append(self.pool(ending))
            if arcs:
                logits.append(self.head(pooled[-1][0]))
        return torch.stack(logits)

    def pool(self, states: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Average each part over the states of the arcs that end at one position; zero where none do."""
        if not states:
            return (self.zero,) * self.parts
        return tuple(torch.stack(part).mean(0) for part in zip(*states, strict=True))
