"""What do data sets of the same shape look like, made from a seed? For tests, benchmarks and first steps.

The labels follow a rule that a model can learn, so that a training run on made data shows a falling loss.
"""

import math

import numpy as np

from bale.data.ptb import PtbTree
from bale.data.syntax import KINDS
from bale.data.tagged import TaggedSentence
from bale.data.tree import Sample, Tree

# Sizes of the functions of CPython 3.11's standard library: median 35 nodes, 95th percentile 243 (standard_library.py).
_MEDIAN_NODES = 35
_SPREAD = math.log(243 / 35) / 1.645  # of the log-normal that has those two quantiles


def random_functions(
    samples: int, seed: int, *, kinds: int = len(KINDS), classes: int = 51, max_nodes: int = 1000
) -> list[Sample]:
    """Make trees of any arity, of the sizes and depths that Python's functions have.

    Kinds are drawn from 0 to `kinds` - 1, low ones more often. The label is the kind of the root's first child,
    modulo `classes`.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, kinds + 1)
    data: list[Sample] = []
    for size in _sizes(rng, samples, max_nodes):
        # A node hangs from any earlier one: depth grows with the logarithm of the size, as it does in programs.
        parents = rng.integers(0, np.arange(1, size))  # [size - 1]
        tree = _grow(rng.choice(kinds, size, p=weights / weights.sum()).tolist(), parents.tolist())
        data.append((tree, tree.children[0].kind % classes))
    return data


def random_ptb(samples: int, seed: int, *, words: int = 2000, classes: int = 5, leaves: int = 20) -> list[PtbTree]:
    """Make binary trees over sentences of `leaves` words on average, from half as many to half as many again.

    The words are w0, w1, ...; each is bad, neutral or good, and a node's label is the middle one of 0 to
    `classes` - 1, moved by the sum of its words and cut off at the ends.
    """
    rng = np.random.default_rng(seed)
    polarity = rng.integers(-1, 2, words)  # [words]
    return [_random_ptb(rng, polarity, classes, leaves) for _ in range(samples)]


def random_tagged(
    samples: int, seed: int, *, words: int = 2000, tags: int = 9, length: int = 20
) -> list[TaggedSentence]:
    """Make tagged sentences of `length` words on average, from half as many to half as many again.

    The words are w0, w1, ... and the tags T0, T1, ...; a tag follows from its word and from whether the number of
    the next word is odd, so that a tagger has to read from the right as well.
    """
    rng = np.random.default_rng(seed)
    table = rng.integers(tags, size=(words, 2))  # [words, next word is odd]
    data: list[TaggedSentence] = []
    for size in _lengths(rng, samples, length):
        sentence = rng.integers(words, size=size)
        odd = np.append(sentence[1:] % 2, 0)
        names = tuple(f"w{word}" for word in sentence.tolist())
        data.append(TaggedSentence(names, tuple(f"T{tag}" for tag in table[sentence, odd].tolist())))
    return data


def _sizes(rng: np.random.Generator, samples: int, max_nodes: int) -> list[int]:
    sizes = rng.lognormal(math.log(_MEDIAN_NODES), _SPREAD, samples)
    return sizes.round().clip(2, max_nodes).astype(int).tolist()


def _lengths(rng: np.random.Generator, samples: int, mean: int) -> list[int]:
    return rng.integers(max(1, mean // 2), max(1, mean * 3 // 2) + 1, samples).tolist()


def _grow(kinds: list[int], parents: list[int]) -> Tree:
    """Build the tree whose node n + 1 hangs from node parents[n], an earlier one."""
    children: list[list[Tree]] = [[] for _ in kinds]
    for node in range(len(kinds) - 1, 0, -1):
        children[parents[node - 1]].append(Tree(kinds[node], tuple(reversed(children[node]))))
    return Tree(kinds[0], tuple(reversed(children[0])))


def _random_ptb(rng: np.random.Generator, polarity: np.ndarray, classes: int, leaves: int) -> PtbTree:
    """Join random neighbours until one tree is left: every split of a span is then equally likely."""

    def label(total: int) -> int:
        return min(max((classes - 1) // 2 + total, 0), classes - 1)

    (length,) = _lengths(rng, 1, leaves)
    sentence = rng.integers(len(polarity), size=length).tolist()
    sums = polarity[sentence].tolist()
    row = [PtbTree(label(total), f"w{word}") for word, total in zip(sentence, sums, strict=True)]
    while len(row) > 1:
        left = int(rng.integers(len(row) - 1))
        sums[left : left + 2] = [sums[left] + sums[left + 1]]
        row[left : left + 2] = [PtbTree(label(sums[left]), children=(row[left], row[left + 1]))]
    return row[0]
