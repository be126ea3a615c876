"""Where do words begin in an identifier written without separators? A tagging task that every Python brings along.

"gethttpserver" is get, http, server: the task of segmenting Chinese, or compounds, with a lexicon of words at hand.
The identifiers are those of the standard library whose writers said where words begin: getHTTPServer, get_http_server.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike

from bale.data.lattice import LatticeSample
from bale.data.lexicon import Lexicon, make_lattice
from bale.data.names import name_words
from bale.data.sources import Sources, Split, split_of
from bale.data.vocabulary import Vocabulary
from bale.errors import DataError

IDENTIFIER_TAGS = ("I", "B")
"""What a character is: inside a word, or the begin of one."""

Words = tuple[str, ...]


@dataclass(frozen=True)
class Identifiers:
    """Identifiers as (lattice of characters and words, tag of each character), split by their text.

    `characters` and `words` name the numbers of the lattices' arcs, `tags` those of the labels. `files` were read,
    `unparsed` are those that Python could not parse.
    """

    train: list[LatticeSample] = field(repr=False)
    valid: list[LatticeSample] = field(repr=False)
    test: list[LatticeSample] = field(repr=False)
    characters: tuple[str, ...] = field(repr=False)
    words: tuple[str, ...] = field(repr=False)
    tags: tuple[str, ...]
    files: int
    unparsed: tuple[str, ...]


def python_identifiers(
    max_identifiers: int | None = None, *, words: int = 2000, library: str | PathLike[str] | None = None
) -> Identifiers:
    """Read the identifiers of Python's standard library that have several words; the same ones at every call.

    Each is a text in lower case without separators, and is listed once, however often and in whatever spelling it
    occurs; where spellings disagree about its words the commonest is right. Its lattice has an arc for each character
    and for each of the lexicon's words that lies in it; the lexicon are the `words` commonest words, of two characters
    and more, of the training identifiers. With `max_identifiers`, only as many files are read as that takes, chosen by
    hash. `library` is another folder of `.py` files to read instead.

    An identifier belongs to train, valid or test (80, 10 and 10 in a hundred) by a hash of its text, so that none is
    on two sides. CPython 3.11: 14,800 identifiers, median 11 characters, 2.4 words each; about 8 seconds.

    Raises `DataError` if the folder holds no such identifier (a Python that ships without its sources), or if a number
    is less than 1.
    """
    for name, value in (("max_identifiers", max_identifiers), ("words", words)):
        if value is not None and value < 1:
            raise DataError(f"{name} must be at least 1, got {value}")
    sources = Sources(library)
    spellings: dict[str, Counter[Words]] = {}
    for _, identifiers in sources.parse(identifiers_of):
        for identifier in identifiers:
            parts = tuple(name_words(identifier))
            if len(parts) > 1:
                spellings.setdefault("".join(parts), Counter())[parts] += 1
        if max_identifiers is not None and len(spellings) >= max_identifiers:
            break
    if not spellings:
        raise DataError(f"{sources.root}: no identifier of several words in any .py file; expected Python's sources")
    return _number([_commonest(spellings[text]) for text in list(spellings)[:max_identifiers]], words, sources)


def identifiers_of(source: str | bytes) -> list[str]:
    """Return the identifiers of a module, each as often as it occurs in its syntax tree; raises what `ast.parse` does.

    >>> identifiers_of("class HTTPServer: port = 80")
    ['HTTPServer', 'port']
    """
    return [name for node in ast.walk(ast.parse(source)) for name in _names(node)]


def _names(node: ast.AST) -> Iterator[str]:
    """The identifiers that stand in a node itself: what is a string in it and no constant."""
    if isinstance(node, ast.Constant):
        return
    for _, value in ast.iter_fields(node):
        if isinstance(value, str) and value.isidentifier():
            yield value


def _commonest(spellings: Counter[Words]) -> Words:
    return min(spellings, key=lambda words: (-spellings[words], words))


def _number(identifiers: Iterable[Words], words: int, sources: Sources) -> Identifiers:
    """Choose the lexicon from the training split and make every identifier's lattice."""
    splits: dict[Split, list[Words]] = {"train": [], "valid": [], "test": []}
    for parts in sorted(identifiers):
        splits[split_of("".join(parts))].append(parts)
    characters = Vocabulary.build(character for parts in splits["train"] for word in parts for character in word)
    longer = (word for parts in splits["train"] for word in parts if len(word) > 1)
    lexicon = Lexicon(Vocabulary.build(longer, max_size=words + 1))

    def samples(split: Split) -> list[LatticeSample]:
        return [(make_lattice("".join(parts), lexicon, characters), _tags(parts)) for parts in splits[split]]

    return Identifiers(
        train=samples("train"),
        valid=samples("valid"),
        test=samples("test"),
        characters=tuple(characters.to_list()),
        words=tuple(lexicon.words.to_list()),
        tags=IDENTIFIER_TAGS,
        files=sources.files,
        unparsed=tuple(sorted(sources.unparsed)),
    )


def _tags(words: Words) -> tuple[int, ...]:
    inside, begin = range(len(IDENTIFIER_TAGS))
    return tuple(begin if place == 0 else inside for word in words for place in range(len(word)))
