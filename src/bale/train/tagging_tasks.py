"""Tasks with a label for every word or character: lattices, and sentences with tags."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bale.data import (
    character_vocabulary,
    lattice_samples,
    lattice_sizes,
    python_identifiers,
    read_lattices,
    read_tagged,
    spelled_samples,
    tag_names,
    tagged_samples,
    tagged_vocabulary,
)
from bale.errors import DataError
from bale.models import BiLSTMTagger, CharBiLSTMTagger, LatticeGRU, LatticeLSTM
from bale.train.config import TaskConfig
from bale.train.splits import read_splits
from bale.train.task import Task

# Words of the training sentences that occur less often are unknown, or spelt: what unknown words are, and how to spell,
# is learnt from them.
_KNOWN, _NOT_SPELT = 2, 5


def load_identifiers(config: TaskConfig, model: str) -> Task:
    """Identifiers without separators, with the words of a lexicon; the tags say which characters begin a word."""
    identifiers = python_identifiers(config.limit)
    if not identifiers.train:
        raise DataError(f"none of {config.limit} identifiers is a training sample: raise the limit")
    characters, words, tags = identifiers.characters, identifiers.words, identifiers.tags
    return Task(
        config=config,
        model=model,
        train=identifiers.train,
        valid=identifiers.valid,
        test=identifiers.test,
        vocabulary=characters + words,
        classes=tags,
        make_model=lambda: _lattice_model(model, len(characters), len(words), len(tags), config.hidden),
        row="characters",
    )


def load_lattices(config: TaskConfig, model: str, path: Path) -> Task:
    """Lattices of a file or folder; the classes are the tags that occur."""
    splits = [lattice_samples(split) for split in read_splits(path, read_lattices, config.limit)]
    samples = [sample for split in splits for sample in split]
    sizes = lattice_sizes(samples)
    tags = sorted({tag for _, labels in samples for tag in labels})
    numbers = {tag: number for number, tag in enumerate(tags)}
    train, valid, test = (
        [(lattice, tuple(numbers[tag] for tag in labels)) for lattice, labels in split] for split in splits
    )
    return Task(
        config=config,
        model=model,
        train=train,
        valid=valid,
        test=test,
        vocabulary=(),  # the files number characters and words, and do not say what they are
        classes=tuple(map(str, tags)),
        make_model=lambda: _lattice_model(model, sizes.characters, sizes.words, len(tags), config.hidden),
        row="characters",
    )


def load_tagged(config: TaskConfig, model: str, path: Path) -> Task:
    """Tagged sentences of a file or folder; for the model that spells, words that are rare in training are spelt."""
    splits = read_splits(path, read_tagged, config.limit)
    tags = tag_names(sentence for split in splits for sentence in split)
    spell = model == "char-bilstm"
    words = tagged_vocabulary(splits[0], min_count=_NOT_SPELT if spell else _KNOWN)
    characters = character_vocabulary(splits[0])
    if spell:
        train, valid, test = (spelled_samples(split, words, characters, tags) for split in splits)
    else:
        train, valid, test = (tagged_samples(split, words, tags) for split in splits)

    def make_model() -> nn.Module:
        if spell:
            embed = config.hidden + config.hidden % 2  # half of a rare word's vector comes from each end
            return CharBiLSTMTagger(len(words), len(characters), len(tags), embed, config.hidden)
        return BiLSTMTagger(len(words), len(tags), config.hidden, config.hidden)

    return Task(
        config=config,
        model=model,
        train=train,
        valid=valid,
        test=test,
        vocabulary=tuple(words.to_list() + (characters.to_list() if spell else [])),
        classes=tags,
        make_model=make_model,
        row="words",
    )


def _lattice_model(model: str, characters: int, words: int, tags: int, hidden: int) -> nn.Module:
    # A lattice may have no word at all, and an Embedding has at least one row.
    make = LatticeGRU if model == "lattice-gru" else LatticeLSTM
    return make(max(characters, 1), max(words, 1), tags, hidden, hidden)
