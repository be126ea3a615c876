"""A file that is no text of lines is refused by every reader, and the message says why."""

import pytest

from bale.data import read_lattices, read_parallel, read_ptb, read_tagged
from bale.errors import DataError

READERS = [
    (read_ptb, "one tree a line, (label (label word) ...)", b"(1 a)"),
    (read_tagged, "one sentence a line, word|TAG word|TAG ...", b"a|X"),
    (
        read_parallel,
        "one pair of sentences a line, <s> ... </s> ||| <s> ... </s>",
        b"<s> a </s> ||| <s> b </s>",
    ),
    (read_lattices, "the number of sentences, then a block of lines for each", b"1\n2\n0 1\n0\n1 0 5"),
]
pytestmark = pytest.mark.parametrize(
    ("read", "expected", "line"), READERS, ids=["ptb", "tagged", "parallel", "lattice"]
)


def message_of(read, path):
    with pytest.raises(DataError) as error:
        read(path)
    return str(error.value)


def test_a_missing_file(tmp_path, read, expected, line):
    assert message_of(read, tmp_path / "none") == f"{tmp_path / 'none'}: no such file"


def test_a_directory(tmp_path, read, expected, line):
    assert message_of(read, tmp_path) == f"{tmp_path}: is a directory; expected a text file"


def test_a_path_through_a_file(tmp_path, read, expected, line):
    (tmp_path / "file").write_bytes(line)
    path = tmp_path / "file" / "below"
    assert message_of(read, path) == f"{path}: cannot be read: Not a directory"


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_file(tmp_path, read, expected, line, content):
    path = tmp_path / "empty"
    path.write_bytes(content)
    assert message_of(read, path) == f"{path}:1:1: the file is empty; expected {expected}"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8(tmp_path, read, expected, line, mark):
    path = tmp_path / "latin"
    path.write_bytes(mark + line + b"\n" + "é".encode() + b"\xe9|X\n")
    second = line.count(b"\n") + 2
    assert message_of(read, path) == f"{path}:{second}:2: byte 0xe9 is not UTF-8; expected {expected}, in UTF-8"


def test_a_path_may_be_a_string(tmp_path, read, expected, line):
    path = tmp_path / "file"
    path.write_bytes(line)
    assert read(str(path)) == read(path)
