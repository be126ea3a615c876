"""Fashion-MNIST is taken from where it is, or fetched whole, or not at all; nothing else is taken for it."""

import gzip
import hashlib
import importlib
import struct
from dataclasses import replace
from http.client import IncompleteRead

import pytest
import torch

from bale.data import fashion_mnist, image_data, write_idx
from bale.errors import DataError

module = importlib.import_module("bale.data.fashion_mnist")  # its function has its name
NAMES = [file.name for files in module.FILES.values() for file in files]


def written(folder, seed=0, suffix=".gz", names=NAMES):
    """Write small files of the right names: three images of training and two of the test."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        count = 3 if name.startswith("train") else 2
        shape, most = ((count, 4, 5), 256) if "images" in name else ((count,), 10)
        write_idx(folder / (name + suffix), torch.randint(most, shape, generator=generator, dtype=torch.uint8))
    return folder


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A world in which the official files are small ones, at a local address, and no other place has any."""
    official = written(tmp_path / "official")

    def as_written(file):
        content = (official / f"{file.name}.gz").read_bytes()
        return replace(
            file, md5=hashlib.md5(content).hexdigest(), content=hashlib.sha256(gzip.decompress(content)).hexdigest()
        )

    files = {split: tuple(as_written(file) for file in files) for split, files in module.FILES.items()}
    monkeypatch.setattr(module, "FILES", files)
    monkeypatch.setattr(module, "ADDRESS", f"{official.as_uri()}/")
    monkeypatch.setattr(module, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(module.VARIABLE, raising=False)
    return tmp_path


@pytest.fixture
def no_address(monkeypatch):
    """Whoever asks for an address here has asked too much."""

    def refuse(*args, **kwargs):
        raise AssertionError("nothing may be downloaded here")

    monkeypatch.setattr(module, "urlopen", refuse)


PLACES = ["folder", "variable", "debian", "cache/bale/fashion-mnist"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", PLACES)
def test_it_is_found_in_every_place(small, no_address, monkeypatch, place, suffix):
    monkeypatch.setenv(module.VARIABLE, str(small / "variable"))
    written(small / place, suffix=suffix)
    for download in (False, True):
        train = fashion_mnist("train", folder=small / "folder", download=download)
        test = fashion_mnist("test", folder=small / "folder", download=download)
        assert (train.images.shape, test.images.shape) == ((3, 1, 4, 5), (2, 1, 4, 5))
        assert train.classes == test.classes == module.FASHION_CLASSES


def test_the_first_place_counts(small, no_address, monkeypatch):
    """Files of another content say from where they were taken."""
    monkeypatch.setenv(module.VARIABLE, str(small / "variable"))
    for place in reversed(PLACES):
        written(small / place, seed=1)
        with pytest.raises(DataError, match=rf"^{small / place}/train-images-idx3-ubyte\.gz: is damaged, or not"):
            fashion_mnist(folder=small / "folder")


def test_half_a_split_does_not_count(small, no_address):
    written(small / "folder", names=NAMES[:1])
    written(small / "debian")
    assert len(fashion_mnist(folder=small / "folder")) == 3


def test_where_it_is_nowhere_both_ways_are_named(small, no_address):
    with pytest.raises(
        DataError, match=r"apt-get install dataset-fashion-mnist.*download=True, or --download"
    ) as error:
        fashion_mnist(folder=small / "folder")
    assert all(str(small / place) in str(error.value) for place in ("folder", "debian", "cache/bale/fashion-mnist"))


@pytest.mark.parametrize("base", ["", "somewhere"])
def test_a_cache_that_is_no_absolute_path_is_in_the_home_folder(monkeypatch, tmp_path, base):
    monkeypatch.setenv("XDG_CACHE_HOME", base)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert module._cache() == tmp_path / ".cache" / "bale" / "fashion-mnist"


def test_what_is_downloaded_stays_in_the_cache(small, monkeypatch):
    train, test = image_data("fashion-mnist", download=True)
    assert (len(train), len(test)) == (3, 2)
    cache = small / "cache" / "bale" / "fashion-mnist"
    assert {path.name for path in cache.iterdir()} == {f"{name}.gz" for name in NAMES}
    monkeypatch.setattr(module, "ADDRESS", "http://nowhere.invalid/")
    assert torch.equal(fashion_mnist("train").images, train.images)


def test_only_what_is_missing_is_downloaded(small):
    cache = written(small / "cache" / "bale" / "fashion-mnist", names=NAMES[:1])
    (small / "official" / f"{NAMES[0]}.gz").unlink()
    assert len(fashion_mnist("train", download=True)) == 3
    assert len(list(cache.iterdir())) == 2


def nothing_is_left(small):
    return not (small / "cache").exists()


def test_a_download_that_is_not_the_published_file_leaves_nothing(small):
    path = small / "official" / f"{NAMES[0]}.gz"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"is not what its authors published: its MD5 is .*apt-get install"):
        fashion_mnist("train", download=True)
    assert nothing_is_left(small)


def test_an_address_without_the_file_leaves_nothing(small, monkeypatch):
    monkeypatch.setattr(module, "ADDRESS", f"{(small / 'absent').as_uri()}/")
    with pytest.raises(
        DataError, match=r"absent/train-images.*\.gz: cannot be downloaded .*: try again later, fetch it"
    ):
        fashion_mnist("train", download=True)
    assert nothing_is_left(small)


class Broken:
    """An answer that ends too early."""

    def __init__(self, error):
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None

    def read(self):
        raise self.error


@pytest.mark.parametrize("error", [IncompleteRead(b"half"), TimeoutError("timed out"), ConnectionResetError()])
def test_a_download_that_breaks_off_leaves_nothing(small, monkeypatch, error):
    monkeypatch.setattr(module, "urlopen", lambda url, timeout: Broken(error))
    with pytest.raises(DataError, match="cannot be downloaded"):
        fashion_mnist("train", download=True)
    assert nothing_is_left(small)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_file_that_cannot_be_finished_is_not_there(small, monkeypatch, error):
    def fail(source, target):
        raise error

    monkeypatch.setattr(module.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError):
        fashion_mnist("train", download=True)
    assert not list((small / "cache" / "bale" / "fashion-mnist").iterdir())


def test_a_cache_that_cannot_be_written_is_named(small):
    (small / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"cannot be written: Not a directory"):
        fashion_mnist("train", download=True)


def test_another_split_is_refused(small):
    with pytest.raises(DataError, match="split 'valid' is unknown; Fashion-MNIST has train and test"):
        fashion_mnist("valid")


@pytest.fixture
def debian():
    """The folder of Debian's package."""
    if not module.DEBIAN.is_dir():
        pytest.skip(f"no {module.DEBIAN}: {module.PACKAGE}")
    return module.DEBIAN


def test_the_real_images(debian):
    for split, count in (("train", 60_000), ("test", 10_000)):
        images = fashion_mnist(split, folder=debian)
        assert images.images.shape == (count, 1, 28, 28)
        assert images.labels.bincount().tolist() == [count // 10] * 10


# When the authors compressed their files: in a gzip header, seconds since 1970.
TIMES = dict(zip(NAMES, [1504176606, 1504176606, 1504176627, 1504176627], strict=True))


def test_debians_files_are_the_published_ones_with_another_header(debian):
    """Debian leaves the name out of the header and changes the time: with both put back, the MD5 is the README's."""
    for file in [file for files in module.FILES.values() for file in files]:
        content = (debian / f"{file.name}.gz").read_bytes()
        assert content[:4] == b"\x1f\x8b\x08\x00", "a header without a name"
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", TIMES[file.name]) + content[8:10] + file.name.encode() + b"\0"
        assert hashlib.md5(header + content[10:]).hexdigest() == file.md5
