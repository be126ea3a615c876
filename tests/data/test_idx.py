"""What is written as idx is read back, and a file that is none says what is wrong with it."""

import gzip
import math
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bale.data import idx_images, parse_idx, read_idx, write_idx
from bale.errors import DataError

DTYPES = {
    torch.uint8: (0x08, "B"),
    torch.int8: (0x09, "b"),
    torch.int16: (0x0B, "h"),
    torch.int32: (0x0C, "i"),
    torch.float32: (0x0D, "f"),
    torch.float64: (0x0E, "d"),
}
IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])


@st.composite
def arrays(draw):
    dtype = draw(st.sampled_from(list(DTYPES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**40)))
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=dtype)
    ends = torch.iinfo(dtype)
    return torch.randint(ends.min, ends.max + 1, shape, generator=generator).to(dtype)


@given(arrays(), st.sampled_from(["array", "array.gz"]))
def test_a_written_array_reads_back(tmp_path_factory, values, name):
    path = tmp_path_factory.mktemp("idx") / name
    write_idx(path, values)
    read = read_idx(path)
    assert read.dtype == values.dtype and read.shape == values.shape
    assert torch.equal(read, values)
    content = path.read_bytes()
    write_idx(path, read)
    assert path.read_bytes() == content


@given(arrays())
def test_the_bytes_are_those_of_the_format(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("idx") / "array"
    write_idx(path, values)
    code, letter = DTYPES[values.dtype]
    header = bytes([0, 0, code, values.dim()]) + b"".join(struct.pack(">I", length) for length in values.shape)
    assert path.read_bytes() == header + b"".join(struct.pack(f">{letter}", v) for v in values.flatten().tolist())


def test_values_are_written_in_their_order_not_in_that_of_memory(tmp_path):
    values = torch.arange(6, dtype=torch.int16).reshape(2, 3).T
    write_idx(tmp_path / "turned", values)
    assert torch.equal(read_idx(tmp_path / "turned"), values)


def test_what_was_read_can_be_changed():
    read = parse_idx(IMAGES)
    read += 1
    assert read.tolist() == [[[2, 3, 4]], [[5, 6, 7]]]
    assert parse_idx(IMAGES).tolist() == [[[1, 2, 3]], [[4, 5, 6]]]


@pytest.mark.parametrize("values", [torch.zeros(2, dtype=torch.int64), torch.zeros(2).bool(), torch.zeros(2).half()])
def test_a_type_that_the_format_has_not_is_refused(tmp_path, values):
    with pytest.raises(DataError, match="idx files hold uint8, int8, int16, int32, float32, float64, got"):
        write_idx(tmp_path / "array", values)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no idx file: it begins with nothing; expected 00 00, the type"),
        (b"\0\0\x08", "is no idx file: it begins with 00 00 08;"),
        (b"PK\x03\x04 and so on", "is no idx file: it begins with 50 4b 03 04; expected 00 00, the type"),
        (b"\0\0\x0a\0", r"is no idx file: .* the type \(one of 08, 09, 0b, 0c, 0d, 0e\), and the number of axes"),
        (b"\x80\x04\x95\x10", "is no idx file: it begins with 80 04 95 10"),  # a pickle
        (IMAGES[:15], "is cut off: a header of 3 axes has 16 bytes, and the file 15"),
        (IMAGES[:-1], r"is cut off: an array \[2, 1, 3\] of uint8 has 6 bytes, and 5 follow the header"),
        (IMAGES + b"xy", r"has 2 bytes too many: an array \[2, 1, 3\] of uint8 has 6, and 8 follow the header"),
        (b"\0\0\x08\x41" + b"\0" * 260, "has 65 axes; at most 64 can be read"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "no array is as large as its header says"),
        (b"\0\0\x08\x04" + b"\0" * 4 + b"\xff" * 12, "no array is as large as its header says"),
        (
            b"\0\0\x0e\x01\xff\xff\xff\xff",
            r"is cut off: an array \[4294967295\] of float64 has 34359738360 bytes, and 0",
        ),
        # Without a time in it: parameters are tests' names, which two workers must agree on.
        (gzip.compress(IMAGES, mtime=0), r"is compressed: give it a name that ends with \.gz"),
    ],
)
def test_a_file_that_is_none_says_why(tmp_path, content, problem):
    path = tmp_path / "array"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{path}: {problem}"):
        read_idx(path)
    with pytest.raises(DataError, match=f"^<bytes>: {problem}"):
        parse_idx(content)


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_an_array_or_a_dataerror(content, header):
    try:
        values = parse_idx(b"\0\0\x08\x01\0\0\0" * header + content)
    except DataError:
        return
    assert values.numel() == math.prod(values.shape)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (IMAGES, "is no gzip file, as its name says: it begins with b'.x00.x00.x08.x03'"),
        (b"", "is no gzip file, as its name says: it begins with b''"),
        (gzip.compress(IMAGES, mtime=0)[:-9], "is a damaged gzip file: "),
        (gzip.compress(IMAGES, mtime=0)[:5], "is a damaged gzip file: "),
        (gzip.compress(IMAGES, mtime=0)[:-8] + b"\0" * 8, "is a damaged gzip file: CRC check failed"),
        (b"\x1f\x8b\x08" + b"\0" * 7 + b"\xff" * 20, "is a damaged gzip file: "),
    ],
)
def test_a_gzip_file_that_is_none_says_why(tmp_path, content, problem):
    path = tmp_path / "array.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"^{path}: {problem}"):
        read_idx(path)


def test_a_missing_file_and_a_folder_are_no_files(tmp_path):
    with pytest.raises(DataError, match="absent: no such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read: Is a directory"):
        read_idx(tmp_path)


def pair(folder, images, labels):
    write_idx(folder / "images", images)
    write_idx(folder / "labels", labels)
    return folder / "images", folder / "labels"


@pytest.mark.parametrize("shape", [(4, 2, 3), (4, 1, 2, 3), (4, 3, 2, 3)])
def test_images_and_labels_of_two_files(tmp_path, shape):
    images, labels = torch.arange(math.prod(shape)).byte().reshape(shape), torch.tensor([2, 0, 1, 2]).byte()
    read = idx_images(*pair(tmp_path, images, labels))
    assert torch.equal(read.images.reshape(shape), images) and read.images.dim() == 4
    assert read.labels.tolist() == [2, 0, 1, 2]
    assert (read.classes, read.name) == (("0", "1", "2"), tmp_path.name)
    named = idx_images(*pair(tmp_path, images, labels.short()), classes=("a", "b", "c", "d"), name="made")
    assert (named.classes, named.name) == (("a", "b", "c", "d"), "made")


@pytest.mark.parametrize(
    ("images", "labels", "problem"),
    [
        (torch.zeros(3, 2, 2).byte(), torch.zeros(2).byte(), "/images has 3 images and .*/labels 2 labels"),
        (
            torch.zeros(3, 4).byte(),
            torch.zeros(3).byte(),
            r"/images: expected images .* of uint8, got \[3, 4\] of uint8",
        ),
        (torch.zeros(3, 2, 2), torch.zeros(3).byte(), r"/images: expected images .* got \[3, 2, 2\] of float32"),
        (torch.zeros(3, 2, 2).byte(), torch.zeros(3, 1).byte(), r"/labels: expected labels .* got \[3, 1\] of uint8"),
        (torch.zeros(3, 2, 2).byte(), torch.zeros(3), r"/labels: expected labels .* got \[3\] of float32"),
        (torch.zeros(3, 2, 2).byte(), torch.tensor([0, -1, 0]).short(), "the label of image 1 is -1"),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(tmp_path, images, labels, problem):
    with pytest.raises(DataError, match=problem):
        idx_images(*pair(tmp_path, images, labels))


def test_no_images_are_a_set_of_none(tmp_path):
    assert len(idx_images(*pair(tmp_path, torch.zeros(0, 2, 2).byte(), torch.zeros(0).byte()))) == 0
