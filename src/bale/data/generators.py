"""What do data sets of the same shape look like, made from a seed? For tests, benchmarks and first steps.

The labels follow a rule that a model can learn, so that a training run on made data shows a falling loss.
"""

import math

import numpy as np

from bale.data.lattice import Lattice, TaggedLattice
from bale.data.lexicon import Lexicon, make_lattice
from bale.data.parallel import SentencePair
from bale.data.ptb import PtbTree
from bale.data.syntax import KINDS
from bale.data.tagged import TaggedSentence
from bale.data.tree import Sample, Tree
from bale.data.vocabulary import UNKNOWN, Vocabulary
from bale.errors import DataError

# Sizes of the functions of CPython 3.11's standard library: median 35 nodes, 95th percentile 243 (standard_library.py).
_MEDIAN_NODES = 35
_SPREAD = math.log(243 / 35) / 1.645  # of the log-normal that has those two quantiles

_FIRST_CHARACTER = 0x4E00  # of some 20,000 Chinese ones: what they are does not count, only that they are different

PairSample = tuple[tuple[tuple[int, ...], tuple[int, ...]], int]
"""One example: two sentences, as the numbers of their words, and the index of the class."""


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
    for size in lengths(rng, samples, length):
        sentence = rng.integers(words, size=size)
        odd = np.append(sentence[1:] % 2, 0)
        names = tuple(f"w{word}" for word in sentence.tolist())
        data.append(TaggedSentence(names, tuple(f"T{tag}" for tag in table[sentence, odd].tolist())))
    return data


def random_lattices(
    samples: int, seed: int, *, characters: int = 500, words: int = 2000, tags: int = 9, length: int = 40
) -> list[TaggedLattice]:
    """Make lattices over texts of `length` characters on average, from half as many to half as many again.

    A text is a chain of words, of two to four characters, with a single character here and there; characters are
    numbered from 1 to `characters`, words from 1 to `words`. As in Chinese, a long word begins with a short one, so
    that about every second character has a word that ends with it. A position's tag, from 1 to `tags` - 1, follows
    from the longest word that ends there or, where none does, from the character; position 0 alone has the tag 0.

    Raises `DataError` for more words than there are pairs of characters.
    """
    if words > characters**2:
        raise DataError(f"words must be at most {characters}**2, the pairs of characters, got {words}")
    rng = np.random.default_rng(seed)
    alphabet = [chr(_FIRST_CHARACTER + number) for number in range(characters)]
    entries = _random_words(rng, alphabet, words)
    known, lexicon = Vocabulary([UNKNOWN, *alphabet]), Lexicon(Vocabulary([UNKNOWN, *entries]))
    tag_of_character = rng.integers(1, tags, characters + 1).tolist()
    tag_of_word = rng.integers(1, tags, words + 1).tolist()

    def tag(lattice: Lattice, position: int) -> int:
        (_, character), *longer = lattice.arcs[position]
        return tag_of_word[longer[0][1]] if longer else tag_of_character[character]

    data: list[TaggedLattice] = []
    for size in lengths(rng, samples, length):
        text = ""
        while len(text) < size:
            pieces = alphabet if rng.random() < 0.1 else entries
            text += pieces[rng.integers(len(pieces))]
        lattice = make_lattice(text[:size], lexicon, known)
        data.append(TaggedLattice(lattice, (0, *(tag(lattice, position) for position in lattice.ends))))
    return data


def random_parallel(samples: int, seed: int, *, words: int = 2000, length: int = 20) -> list[SentencePair]:
    """Make pairs whose sources have `length` words on average, from half as many to half as many again.

    The source's words are w0, w1, ..., the target's t0, t1, ...; every other word of the source stands for two of
    the target's, the rest for one, and the target is said from the source's last word to its first, so that the
    first that is asked for was read last.
    """
    rng = np.random.default_rng(seed)
    table = rng.integers(words, size=(words, 2)).tolist()  # [words, up to two words of the target]
    data: list[SentencePair] = []
    for size in lengths(rng, samples, length):
        source = rng.integers(words, size=size).tolist()
        target = [said for word in reversed(source) for said in table[word][: 1 + word % 2]]
        data.append(SentencePair(tuple(f"w{word}" for word in source), tuple(f"t{word}" for word in target)))
    return data


def random_pairs(samples: int, seed: int, *, words: int = 2000, length: int = 10) -> list[PairSample]:
    """Make pairs of sentences of `length` words on average, from half as many to half as many again.

    The label is 1 where the second sentence is the first with a fifth of its words left out and a fifth replaced,
    each as chance has it, and 0 where the two have nothing to do with each other.
    """
    rng = np.random.default_rng(seed)
    data: list[PairSample] = []
    for size, other_size in zip(lengths(rng, samples, length), lengths(rng, samples, length), strict=True):
        one = rng.integers(words, size=size)
        label = int(rng.integers(2))
        if label:
            fate = rng.random(size)
            other = np.where(fate < 0.2, rng.integers(words, size=size), one)[(fate < 0.8) | (np.arange(size) == 0)]
        else:
            other = rng.integers(words, size=other_size)
        data.append(((tuple(one.tolist()), tuple(other.tolist())), label))
    return data


def _sizes(rng: np.random.Generator, samples: int, max_nodes: int) -> list[int]:
    sizes = rng.lognormal(math.log(_MEDIAN_NODES), _SPREAD, samples)
    return sizes.round().clip(2, max_nodes).astype(int).tolist()


def lengths(rng: np.random.Generator, samples: int, mean: int) -> list[int]:
    """Draw sizes from half the mean, at least 1, to half as much again."""
    return rng.integers(max(1, mean // 2), max(1, mean * 3 // 2) + 1, samples).tolist()


def _random_words(rng: np.random.Generator, alphabet: list[str], count: int) -> list[str]:
    """Draw different words of two to four characters; the first two of a longer one are a word too."""
    words: dict[str, None] = {}  # as a set that keeps the order
    while len(words) < count:
        size = int(rng.choice((2, 3, 4), p=(0.6, 0.3, 0.1)))
        word = "".join(alphabet[place] for place in rng.integers(len(alphabet), size=size))
        words[word[:2]] = None
        words[word] = None
    return list(words)[:count]


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

    (length,) = lengths(rng, 1, leaves)
    sentence = rng.integers(len(polarity), size=length).tolist()
    sums = polarity[sentence].tolist()
    row = [PtbTree(label(total), f"w{word}") for word, total in zip(sentence, sums, strict=True)]
    while len(row) > 1:
        left = int(rng.integers(len(row) - 1))
        sums[left : left + 2] = [sums[left] + sums[left + 1]]
        row[left : left + 2] = [PtbTree(label(sums[left]), children=(row[left], row[left + 1]))]
    return row[0]
