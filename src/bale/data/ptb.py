"""How are bracketed trees read? `(label (label word) (label word))`, one a line: Penn Treebank and SST.

Socher et al., "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank", EMNLP 2013.
"""

import re
from collections.abc import Iterable, Iterator
from os import PathLike

from bale.data.text import problem_at, read_lines
from bale.data.tree import Sample, Tree, fold
from bale.data.vocabulary import Vocabulary
from bale.errors import DataError

# Spaces and tabs alone separate: SST has words with a no-break space in them ("2 1/2").
_TOKEN = re.compile(r"[()]|[^() \t]+")
_WORD = re.compile(r"[^() \t\n]+")
_LABEL = re.compile(r"-?[0-9]{1,18}")


class PtbTree:
    """A labelled tree over a sentence: a leaf has a `word` and no children, an inner node children and no word.

    Its text is its value: trees compare, hash, copy and pickle as `str(tree)`, at any depth.
    """

    __slots__ = ("children", "label", "word")

    def __init__(self, label: int, word: str | None = None, children: "tuple[PtbTree, ...]" = ()) -> None:
        """Make a node; raises `DataError` unless it has either children or a word, without brackets and spaces."""
        if (word is None) == (not children):
            raise DataError(f"a node has either a word or children, got word {word!r} and {len(children)} children")
        if word is not None and not _WORD.fullmatch(word):
            raise DataError(f"a word has characters, and no bracket, space or newline among them, got {word!r}")
        self.label = label
        self.word = word
        self.children = children

    def leaves(self) -> "Iterator[PtbTree]":
        """Yield the nodes with words, left to right."""
        waiting: list[PtbTree] = [self]
        while waiting:
            node = waiting.pop()
            if node.word is not None:
                yield node
            waiting.extend(reversed(node.children))

    @property
    def words(self) -> list[str]:
        """The sentence."""
        return [leaf.word for leaf in self.leaves() if leaf.word is not None]

    def __str__(self) -> str:
        return fold(self, _children, lambda node, below: f"({node.label} {node.word or ' '.join(below)})")

    def __repr__(self) -> str:
        return f"<PtbTree {self}>"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, PtbTree) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[object, ...]:
        return parse_ptb, (str(self),)


def read_ptb(path: str | PathLike[str]) -> list[PtbTree]:
    """Read a file of bracketed trees, one a line; blank lines are passed over.

    Labels are integers; a node has one word or any number of children. Words are kept as they are written
    (`-LRB-`, `\\/`). Raises `DataError`: `path:line:column: what was expected`.
    """
    lines = read_lines(path, "one tree a line, (label (label word) ...)")
    return [parse_ptb(text, path=path, line=number) for number, text in lines]


def parse_ptb(text: str, *, path: str | PathLike[str] = "<text>", line: int = 1) -> PtbTree:
    """Read one tree; `path` and `line` say in a `DataError` where the text is from.

    >>> parse_ptb("(3 (2 An) (4 (3 imaginative) (2 comedy)))").words
    ['An', 'imaginative', 'comedy']
    """
    return _Parser(text, path, line).tree()


def ptb_vocabulary(trees: Iterable[PtbTree], *, min_count: int = 1, max_size: int | None = None) -> Vocabulary:
    """Number the words of the training trees (`Vocabulary.build`)."""
    return Vocabulary.build((word for tree in trees for word in tree.words), min_count=min_count, max_size=max_size)


def ptb_samples(trees: Iterable[PtbTree], vocabulary: Vocabulary) -> list[Sample]:
    """Turn trees into (tree, label of the root), as `bale.models.NaryTreeLSTM` takes them.

    The kind of a leaf is the number of its word; an inner node has no word and its kind, never read, is 0.
    """

    def encode(node: PtbTree, children: list[Tree]) -> Tree:
        return Tree(0 if node.word is None else vocabulary.id(node.word), tuple(children))

    return [(fold(tree, _children, encode), tree.label) for tree in trees]


def _children(tree: PtbTree) -> tuple[PtbTree, ...]:
    return tree.children


class _Open:
    """A node whose ')' has not come yet."""

    def __init__(self, column: int, label: int) -> None:
        self.column = column
        self.label = label
        self.word: str | None = None
        self.children: list[PtbTree] = []


class _Parser:
    """Reads one line. A stack of open nodes, not recursion: a line of a million '(' is an error, not a crash."""

    def __init__(self, text: str, path: str | PathLike[str], line: int) -> None:
        self.path = path
        self.line = line
        self.end = len(text) + 1
        self.tokens = ((match.start() + 1, match.group()) for match in _TOKEN.finditer(text))
        self.stack: list[_Open] = []

    def error(self, column: int, problem: str) -> DataError:
        return problem_at(self.path, self.line, column, problem)

    def tree(self) -> PtbTree:
        root = None
        for column, token in self.tokens:
            if root is not None:
                raise self.error(column, f"trailing text {_short(token)} after the tree; expected one tree a line")
            if token == "(":
                self.open(column)
            elif not self.stack:
                raise self.error(column, f"expected the '(' of a tree, got {_short(token)}")
            elif token == ")":
                root = self.close(column)
            else:
                self.add_word(column, token)
        if self.stack:
            raise self.never_closed(self.stack[-1].column)
        if root is None:
            raise self.error(self.end, "expected the '(' of a tree, got the end of the line")
        return root

    def open(self, column: int) -> None:
        if self.stack and self.stack[-1].word is not None:
            raise self.error(column, f"expected ')' after the word {_short(self.stack[-1].word)}, got '('")
        label_column, label = next(self.tokens, (self.end, ""))
        if label == "":
            raise self.never_closed(column)
        if label == ")":
            raise self.error(label_column, "empty node: expected an integer label after '(', got ')'")
        if label == "(":
            raise self.error(label_column, "missing label: expected an integer after '(', got '('")
        if not _LABEL.fullmatch(label):
            raise self.error(label_column, f"expected an integer label, got {_short(label)}")
        self.stack.append(_Open(column, int(label)))

    def add_word(self, column: int, word: str) -> None:
        node = self.stack[-1]
        if node.word is not None:
            raise self.error(column, f"expected ')' after the word {_short(node.word)}, got {_short(word)}")
        if node.children:
            raise self.error(column, f"expected '(' or ')' after a child, got {_short(word)}")
        node.word = word

    def close(self, column: int) -> PtbTree | None:
        """Close the innermost open node; return it if it was the root."""
        node = self.stack.pop()
        if node.word is None and not node.children:
            raise self.error(column, f"empty node: expected a word or a child after the label {node.label}, got ')'")
        tree = PtbTree(node.label, node.word, tuple(node.children))
        if not self.stack:
            return tree
        self.stack[-1].children.append(tree)
        return None

    def never_closed(self, column: int) -> DataError:
        return self.error(self.end, f"unbalanced: the '(' at column {column} is never closed; expected ')'")


def _short(token: str) -> str:
    return repr(token if len(token) <= 40 else token[:40] + "...")
