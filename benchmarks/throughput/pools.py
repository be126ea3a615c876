"""Which samples? Real ones where they are, else made ones of the same shapes; every function tells which."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.data import (
    CIRCUIT_KINDS,
    PtbTree,
    TaggedSentence,
    Tree,
    character_vocabulary,
    lattice_samples,
    lattice_sizes,
    parallel_samples,
    parallel_vocabularies,
    parse_samples,
    ptb_samples,
    ptb_vocabulary,
    random_circuits,
    random_lattices,
    random_pairs,
    random_parallel,
    random_parses,
    random_ptb,
    random_tagged,
    read_lattices,
    read_parallel,
    read_ptb,
    read_tagged,
    spelled_samples,
    tag_names,
    tagged_samples,
    tagged_vocabulary,
    with_node_types,
)

GENERATED = "generated"
MADE, SEED, WORDS = 2048, 0, 2000  # samples where none are read, their seed and their words


@dataclass(frozen=True)
class Pool:
    """What mini-batches are drawn from.

    data     the name of the real data, or "generated"
    samples  (sample, label) or (sample, a label for each row of the output)
    sizes    what a model is told of them, by the names of its arguments
    """

    data: str
    samples: list[tuple[Any, Any]]
    sizes: dict[str, int]


def data_folder() -> Path:
    """Where real data would be: BALE_DATA, or the folder beside the project where tests look too."""
    return Path(os.environ.get("BALE_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def read_or_make(name: str, read: Callable[[Path], Any], make: Callable[[], Any]) -> tuple[str, Any]:
    """The name of the data and what `read` finds in the file `name` of the folder, whose first part names it."""
    path = data_folder() / name
    return (path.parent.name, read(path)) if path.exists() else (GENERATED, make())


def trees(max_words: int | None = None, *, two_types: bool = False) -> Pool:
    """SST: a sentence's tree, and the label of each of its nodes in post-order.

    Words that occur once in the training set are unknown, as in any training on it; `max_words` bounds them further.
    two_types  inner nodes have kind 0 or 1, drawn from a seed
    """
    data, read = read_or_make("sst/train.txt", read_ptb, lambda: random_ptb(MADE, SEED, words=WORDS))
    vocabulary = ptb_vocabulary(read, min_count=2, max_size=max_words)
    samples = ptb_samples(read, vocabulary)
    if two_types:
        samples = with_node_types(samples, SEED)
    labelled = [(tree, _labels(labels)) for (tree, _), labels in zip(samples, read, strict=True)]
    return Pool(data, labelled, {"vocabulary": len(vocabulary), "classes": 5})


def _labels(tree: PtbTree) -> tuple[int, ...]:
    """The labels of all nodes, children before parents and left before right."""
    found: list[int] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        found.append(node.label)
        waiting.extend(node.children)
    return tuple(reversed(found))


def _tagged() -> tuple[str, list[TaggedSentence]]:
    return read_or_make("tags/dev.txt", read_tagged, lambda: random_tagged(MADE, SEED, words=WORDS))


def tagged() -> Pool:
    """WikiNER: the numbers of a sentence's words, and a tag for each."""
    data, sentences = _tagged()
    vocabulary, tags = tagged_vocabulary(sentences, min_count=2), tag_names(sentences)
    sizes = {"vocabulary": len(vocabulary), "tags": len(tags)}
    return Pool(data, list(tagged_samples(sentences, vocabulary, tags)), sizes)


def spelled() -> Pool:
    """WikiNER, where words that occur fewer than five times are read by their characters."""
    data, sentences = _tagged()
    vocabulary, tags = tagged_vocabulary(sentences, min_count=5), tag_names(sentences)
    characters = character_vocabulary(sentences)
    sizes = {"vocabulary": len(vocabulary), "characters": len(characters), "tags": len(tags)}
    return Pool(data, list(spelled_samples(sentences, vocabulary, characters, tags)), sizes)


def parallel() -> Pool:
    """IWSLT'15: a sentence and its translation, every word of which but the first is to be said."""
    data, pairs = read_or_make(
        "nmt/tst2012.en-vi.capped", read_parallel, lambda: random_parallel(MADE, SEED, words=WORDS)
    )
    source, target = parallel_vocabularies(pairs)
    sizes = {"source_vocabulary": len(source), "target_vocabulary": len(target)}
    return Pool(data, list(parallel_samples(pairs, source, target)), sizes)


def lattices() -> Pool:
    """Chinese sentences: characters and the words over them, and a tag for each position at which an arc ends."""
    data, read = read_or_make("lattice/train.txt", read_lattices, lambda: random_lattices(MADE, SEED, words=WORDS))
    samples = lattice_samples(read)
    return Pool(data, list(samples), lattice_sizes(samples)._asdict())


def circuits() -> Pool:
    """Made circuits of logic gates, and what most of their sinks say."""
    return Pool(GENERATED, list(random_circuits(MADE, SEED)), {"kinds": len(CIRCUIT_KINDS), "classes": 2})


def pairs() -> Pool:
    """Made pairs of sentences, and whether they are related."""
    return Pool(GENERATED, list(random_pairs(MADE, SEED, words=WORDS)), {"vocabulary": WORDS, "classes": 2})


def parses() -> Pool:
    """Made sentences with the actions of a parser, which are to be said."""
    made: list[Tree] = random_parses(MADE, SEED, words=WORDS)
    return Pool(GENERATED, list(parse_samples(made)), {"vocabulary": WORDS})
