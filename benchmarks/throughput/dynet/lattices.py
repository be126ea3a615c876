"""What the lattice networks have in common in DyNet: a state at a position is the average of those that end there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.race.dynet_model import DynetPeer

KINDS = ("character", "word")

State = tuple[Any, ...]
"""The parts of a state; () before anything has been read, where all are zero."""


class Sample(NamedTuple):
    """arcs  of each position: (start, number) of those that end there; tags  of the positions where some do"""

    arcs: list[list[tuple[int, int]]]
    tags: list[int]


def samples_of(arrays: dict[str, np.ndarray]) -> list[Sample]:
    arcs, endings, labels = iter(arrays["arcs"].tolist()), iter(arrays["endings"].tolist()), iter(arrays["labels"])
    samples: list[Sample] = []
    for positions in arrays["positions"].tolist():
        lattice = [[tuple(next(arcs)) for _ in range(next(endings))] for _ in range(positions)]
        samples.append(Sample(lattice, [int(next(labels)) for ending in lattice if ending]))
    return samples


class LatticePeer(DynetPeer):
    """Cells are functions of an arc's vector and the state where it starts; one for characters, one for words."""

    cells: dict[str, Callable[[Any, State], State]]

    def __init__(
        self,
        dy: Any,
        arrays: dict[str, np.ndarray],
        weights: dict[str, np.ndarray],
        *,
        gates: dict[str, int],
        training: bool,
    ):
        super().__init__(
            dy,
            weights,
            lookups={"character.embed.weight", "word.embed.weight"},
            gates=gates,
            samples=samples_of(arrays),
            losses=self.losses_of,
            training=training,
        )

    def losses_of(self, sample: Sample) -> list[Any]:
        dy, (head, bias) = self.dy, self.layer("head")
        (character, character_cell), (word, word_cell) = (
            (self.parameters[f"{kind}.embed.weight"], self.cells[kind]) for kind in KINDS
        )
        states: list[State] = []
        losses: list[Any] = []
        tags = iter(sample.tags)
        for position, ending in enumerate(sample.arcs):
            found = [
                character_cell(character[number], states[start])
                if start == position - 1
                else word_cell(word[number], states[start])
                for start, number in ending
            ]
            states.append(self.mean(found))
            if found:
                logits = dy.affine_transform([bias, head, states[-1][0]])
                losses.append(dy.pickneglogsoftmax(logits, next(tags)))
        return losses

    def mean(self, states: list[State]) -> State:
        if len(states) < 2:
            return states[0] if states else ()
        return tuple(self.dy.average(list(part)) for part in zip(*states, strict=True))
