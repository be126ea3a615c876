"""Readers for real formats, and generators of the same shapes."""

from bale.data.actions import REDUCE, SHIFT, ParseSample, gold_actions, parse_samples, random_parses
from bale.data.circuits import CIRCUIT_KINDS, random_circuits
from bale.data.dag import Dag, DagSample
from bale.data.digits import digits
from bale.data.fashion_mnist import FASHION_CLASSES, fashion_mnist
from bale.data.generators import (
    PairSample,
    random_functions,
    random_lattices,
    random_pairs,
    random_parallel,
    random_ptb,
    random_tagged,
)
from bale.data.identifiers import IDENTIFIER_TAGS, Identifiers, identifiers_of, python_identifiers
from bale.data.idx import idx_images, parse_idx, read_idx, write_idx
from bale.data.image_data import default_image_data, image_data
from bale.data.images import Images
from bale.data.lattice import (
    Lattice,
    LatticeSample,
    LatticeSizes,
    TaggedLattice,
    lattice_samples,
    lattice_sizes,
    read_lattices,
    write_lattices,
)
from bale.data.lexicon import Lexicon, make_lattice
from bale.data.names import name_words
from bale.data.parallel import (
    BEGIN,
    END,
    ParallelSample,
    SentencePair,
    parallel_samples,
    parallel_vocabularies,
    parse_parallel,
    read_parallel,
)
from bale.data.ptb import PtbTree, parse_ptb, ptb_samples, ptb_vocabulary, read_ptb
from bale.data.sources import split_of
from bale.data.spelled import SpelledSample, SpelledWord, character_vocabulary, spelled_samples
from bale.data.standard_library import FunctionNames, python_functions
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
from bale.data.typed_trees import random_typed_trees, with_node_types
from bale.data.vocabulary import UNKNOWN, Vocabulary

__all__ = [
    "BEGIN",
    "CIRCUIT_KINDS",
    "END",
    "FASHION_CLASSES",
    "IDENTIFIER_TAGS",
    "KINDS",
    "REDUCE",
    "SHIFT",
    "UNKNOWN",
    "Dag",
    "DagSample",
    "FunctionNames",
    "Identifiers",
    "Images",
    "Lattice",
    "LatticeSample",
    "LatticeSizes",
    "Lexicon",
    "PairSample",
    "ParallelSample",
    "ParseSample",
    "PtbTree",
    "Sample",
    "SentencePair",
    "SpelledSample",
    "SpelledWord",
    "TaggedLattice",
    "TaggedSample",
    "TaggedSentence",
    "Tree",
    "Vocabulary",
    "character_vocabulary",
    "default_image_data",
    "digits",
    "fashion_mnist",
    "functions_of",
    "gold_actions",
    "identifiers_of",
    "idx_images",
    "image_data",
    "lattice_samples",
    "lattice_sizes",
    "make_lattice",
    "name_words",
    "parallel_samples",
    "parallel_vocabularies",
    "parse_idx",
    "parse_parallel",
    "parse_ptb",
    "parse_samples",
    "parse_tagged",
    "ptb_samples",
    "ptb_vocabulary",
    "python_functions",
    "python_identifiers",
    "random_circuits",
    "random_functions",
    "random_lattices",
    "random_pairs",
    "random_parallel",
    "random_parses",
    "random_ptb",
    "random_tagged",
    "random_typed_trees",
    "read_idx",
    "read_lattices",
    "read_parallel",
    "read_ptb",
    "read_tagged",
    "spelled_samples",
    "split_of",
    "tag_names",
    "tagged_samples",
    "tagged_vocabulary",
    "with_node_types",
    "write_idx",
    "write_lattices",
]
