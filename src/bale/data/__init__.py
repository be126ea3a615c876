"""Readers for real formats, and generators of the same shapes."""

from bale.data.generators import random_functions, random_ptb, random_tagged
from bale.data.names import name_words
from bale.data.ptb import PtbTree, parse_ptb, ptb_samples, ptb_vocabulary, read_ptb
from bale.data.standard_library import FunctionNames, python_functions, split_of
from bale.data.syntax import KINDS, functions_of
from bale.data.tagged import (
    TaggedSample,
    TaggedSentence,
    parse_tagged,
    read_tagged,
    tag_names,
    tagged_samples,
    tagged_vocabulary,
)
from bale.data.tree import Sample, Tree
from bale.data.vocabulary import UNKNOWN, Vocabulary

__all__ = [
    "KINDS",
    "UNKNOWN",
    "FunctionNames",
    "PtbTree",
    "Sample",
    "TaggedSample",
    "TaggedSentence",
    "Tree",
    "Vocabulary",
    "functions_of",
    "name_words",
    "parse_ptb",
    "parse_tagged",
    "ptb_samples",
    "ptb_vocabulary",
    "python_functions",
    "random_functions",
    "random_ptb",
    "random_tagged",
    "read_ptb",
    "read_tagged",
    "split_of",
    "tag_names",
    "tagged_samples",
    "tagged_vocabulary",
]
