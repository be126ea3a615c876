"""A small model of every architecture, and samples for each: the smallest that there is first, then of all sizes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bale.data import Tree
from bale.models import (
    MVRNN,
    REDUCE,
    SHIFT,
    BiLSTMTagger,
    CharBiLSTMTagger,
    ChildSumTreeLSTM,
    DagLSTM,
    EncoderDecoder,
    GreedyDecoder,
    GridLSTM,
    LatticeGRU,
    LatticeLSTM,
    NaryTreeLSTM,
    StackLSTM,
    TreeGRU,
    TwoTypeTreeLSTM,
)

WORDS, CHARACTERS, KINDS, CLASSES, EMBED, HIDDEN = 11, 7, 3, 4, 6, 5


@dataclass(frozen=True)
class Lattice:
    arcs: tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class Dag:
    kinds: tuple[int, ...]
    operands: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Case:
    """`make` a model, and a sample of a size of 1 or more."""

    make: Callable[[], nn.Module]
    sample: Callable[[random.Random, int], Any]


def sentence(draw: random.Random, length: int) -> tuple[int, ...]:
    return tuple(draw.randrange(WORDS) for _ in range(length))


def spelt_sentence(draw: random.Random, length: int) -> tuple[int | tuple[int, ...], ...]:
    """Every other word is rare, the first of them of one character."""
    lengths = [1] + [draw.randrange(1, 5) for _ in range(length)]
    return tuple(
        draw.randrange(WORDS) if place % 2 else tuple(draw.randrange(CHARACTERS) for _ in range(lengths[place]))
        for place in range(length)
    )


def sentence_pair(draw: random.Random, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return sentence(draw, size), sentence(draw, draw.randrange(1, size + 1))


def translation(draw: random.Random, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return sentence(draw, size), sentence(draw, draw.randrange(2, size + 2))


def binary_tree(draw: random.Random, leaves: int) -> Tree:
    """Words at the leaves, kinds 0 and 1 at the inner nodes."""
    if leaves == 1:
        return Tree(draw.randrange(WORDS))
    left = draw.randrange(1, leaves)
    return Tree(draw.randrange(2), (binary_tree(draw, left), binary_tree(draw, leaves - left)))


def lattice(draw: random.Random, length: int) -> Lattice:
    """A character to every position, but for one in six, and words of two to four characters."""
    arcs: list[tuple[tuple[int, int], ...]] = [()]
    for position in range(1, length + 1):
        ending = []
        if position == 1 or draw.random() < 5 / 6:
            ending.append((position - 1, draw.randrange(CHARACTERS)))
        words = [start for start in range(max(0, position - 4), position - 1) if draw.random() < 0.3]
        ending += [(start, draw.randrange(WORDS)) for start in words]
        arcs.append(tuple(ending))
    return Lattice(tuple(arcs))


def dag(draw: random.Random, nodes: int) -> Dag:
    """Up to three operands a node, the same one twice among them; several sources and sinks."""
    operands = [tuple(draw.randrange(node) for _ in range(draw.randrange(4) if node else 0)) for node in range(nodes)]
    return Dag(tuple(draw.randrange(KINDS) for _ in range(nodes)), tuple(operands))


def parse(draw: random.Random, length: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A sentence and the actions that join all of its words, in any order that is legal."""
    actions: list[int] = []
    shifted = size = 0
    while shifted < length or size > 1:
        if size < 2 or (shifted < length and draw.random() < 0.5):
            actions.append(SHIFT)
            shifted, size = shifted + 1, size + 1
        else:
            actions.append(REDUCE)
            size -= 1
    return sentence(draw, length), tuple(actions)


CASES: dict[str, Case] = {
    "BiLSTMTagger": Case(lambda: BiLSTMTagger(WORDS, CLASSES, EMBED, HIDDEN, layers=2), sentence),
    "CharBiLSTMTagger": Case(
        lambda: CharBiLSTMTagger(WORDS, CHARACTERS, CLASSES, EMBED, HIDDEN, char_embed=3), spelt_sentence
    ),
    "EncoderDecoder": Case(lambda: EncoderDecoder(WORDS, WORDS, EMBED, HIDDEN, layers=2), translation),
    "GreedyDecoder": Case(
        lambda: GreedyDecoder(EncoderDecoder(WORDS, WORDS, EMBED, HIDDEN), begin=1, length=5), sentence
    ),
    "ChildSumTreeLSTM": Case(lambda: ChildSumTreeLSTM(WORDS, CLASSES, HIDDEN, EMBED), binary_tree),
    "NaryTreeLSTM": Case(lambda: NaryTreeLSTM(WORDS, CLASSES, HIDDEN, EMBED, every_node=True), binary_tree),
    "TreeGRU": Case(lambda: TreeGRU(WORDS, CLASSES, HIDDEN, EMBED), binary_tree),
    "MVRNN": Case(lambda: MVRNN(WORDS, CLASSES, HIDDEN, every_node=True), binary_tree),
    "TwoTypeTreeLSTM": Case(lambda: TwoTypeTreeLSTM(WORDS, CLASSES, HIDDEN, EMBED), binary_tree),
    "LatticeLSTM": Case(lambda: LatticeLSTM(CHARACTERS, WORDS, CLASSES, EMBED, HIDDEN), lattice),
    "LatticeGRU": Case(lambda: LatticeGRU(CHARACTERS, WORDS, CLASSES, EMBED, HIDDEN), lattice),
    "DagLSTM": Case(lambda: DagLSTM(KINDS, CLASSES, HIDDEN), dag),
    "GridLSTM": Case(lambda: GridLSTM(WORDS, CLASSES, EMBED, HIDDEN), sentence_pair),
    "StackLSTM": Case(lambda: StackLSTM(WORDS, EMBED, HIDDEN), parse),
}


def made(name: str, seed: int = 0) -> nn.Module:
    """A model in float64."""
    torch.manual_seed(seed)
    return CASES[name].make().double()


def drawn(name: str, sizes: tuple[int, ...], seed: int = 0) -> list[Any]:
    """Samples of these sizes for the model `name`."""
    draw = random.Random(seed)
    return [CASES[name].sample(draw, size) for size in sizes]
