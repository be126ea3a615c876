"""Real lattices for the tests of policies, where the data folder is there (BALE_DATA, or ../shared/data)."""

import os
from functools import cache
from pathlib import Path

import pytest

from bale.batching.graph import Graph

REPOSITORY = Path(__file__).resolve().parents[3]
CHAR, WORD, HEAD = 0, 1, 2


def lattice_arcs(split, low, high):
    """Sentences `low` to `high` of a split: [sentence][position] -> (start, number) of the arcs that end there.

    Skips the test where the data is absent.
    """
    path = Path(os.environ.get("BALE_DATA", REPOSITORY.parent / "shared" / "data")) / "lattice" / f"{split}.txt"
    if not path.is_file():
        pytest.skip(f"no lattices at {path}: set BALE_DATA to the folder that holds lattice/")
    return _sentences(path)[low:high]


def lattice_graph(split, low, high):
    """The graph of sentences `low` to `high` of a split; skips the test where the data is absent."""
    return _graph(lattice_arcs(split, low, high))


@cache
def _sentences(path):
    tokens = iter(map(int, path.read_text().split()))
    sentences = []
    for _ in range(next(tokens)):
        length = next(tokens)
        for _ in range(length):
            next(tokens)  # the tags
        arcs = (tuple((next(tokens), next(tokens)) for _ in range(next(tokens))) for _ in range(length))
        sentences.append(tuple(arcs))
    return sentences


def _graph(sentences):
    """Reductions folded, nothing merged: a node per arc, which reads all that end where it starts, and one head per
    position that has arcs, which reads all that end there."""
    types, operands = [], []

    def node(kind, reads):
        types.append(kind)
        operands.append(list(reads))
        return len(types) - 1

    for arcs in sentences:
        ending = []
        for position, starts in enumerate(arcs):
            ending.append([node(CHAR if start == position - 1 else WORD, ending[start]) for start, _ in starts])
        for nodes in ending:
            if nodes:
                node(HEAD, nodes)
    return Graph.of(types, operands, names=("char", "word", "head"))
