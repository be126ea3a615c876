"""Which words of a list lie in a text? A lattice of characters and words for any text and any list of words."""

from collections.abc import Iterator

from bale.data.lattice import Arc, Lattice
from bale.data.vocabulary import UNKNOWN, Vocabulary
from bale.errors import DataError


class Lexicon:
    """The words of a vocabulary, laid out so that all that start at a place of a text are found in one walk.

    Words of one character are passed over, since a lattice has every character anyway, and so is `<unk>`.
    """

    def __init__(self, words: Vocabulary) -> None:
        self.words = words
        # A trie: branches[node] leads from a character to the node below, numbers[node] is that of the word that ends
        # at the node. Its walk ends where no word goes on, so that one long word among the rest costs nothing.
        self._branches: list[dict[str, int]] = [{}]
        self._numbers: list[int | None] = [None]
        for number, word in enumerate(words.to_list()):
            if word != UNKNOWN and len(word) > 1:
                self._numbers[self._add(word)] = number

    def _add(self, word: str) -> int:
        node = 0
        for character in word:
            below = self._branches[node].setdefault(character, len(self._branches))
            if below == len(self._branches):
                self._branches.append({})
                self._numbers.append(None)
            node = below
        return node

    def words_at(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        """Yield (end, number) of every word of the lexicon that is `text[start:end]`, the shortest first."""
        node: int | None = 0
        for place in range(start, len(text)):
            node = self._branches[node].get(text[place])
            if node is None:
                return
            number = self._numbers[node]
            if number is not None:
                yield place + 1, number

    def __len__(self) -> int:
        return sum(number is not None for number in self._numbers)


def make_lattice(text: str, lexicon: Lexicon, characters: Vocabulary) -> Lattice:
    """Make the lattice of a text: position p lies after its first p characters.

    Every position but 0 has the arc of its character (0 where `characters` does not list it), then one for each word
    of the lexicon that ends there, in the order of their starts. It takes time in proportion to the length of the
    text and to the characters that its words, and beginnings of words, have in common with it.

    Raises `DataError` for a text without characters.

    >>> words = Lexicon(Vocabulary(["<unk>", "get", "http", "gets"]))
    >>> make_lattice("gets", words, Vocabulary(["<unk>", *"egst"])).arcs
    ((), ((0, 2),), ((1, 1),), ((2, 4), (0, 1)), ((3, 3), (0, 3)))
    """
    if not text:
        raise DataError("a lattice is made of a text with at least one character, got ''")
    arcs: list[list[Arc]] = [[]] + [[(place, characters.id(character))] for place, character in enumerate(text)]
    for start in range(len(text)):
        for end, number in lexicon.words_at(text, start):
            arcs[end].append((start, number))
    return Lattice(tuple(map(tuple, arcs)))
