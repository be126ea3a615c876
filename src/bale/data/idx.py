"""How are idx files read and written, the format of MNIST and of what came after it?

LeCun, Cortes, Burges, "The MNIST Database of Handwritten Digits", 1998, "File formats": two zero bytes, a byte for the
type of the values, a byte for the number of axes, the length of each axis in four bytes, then the values, the last axis
fastest. All numbers are big-endian.
"""

import gzip
import math
import struct
import zlib
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bale.data.images import Images
from bale.errors import DataError

# The byte that names a type: the values as they lie in the file.
_TYPES = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {
    torch.uint8: 0x08,
    torch.int8: 0x09,
    torch.int16: 0x0B,
    torch.int32: 0x0C,
    torch.float32: 0x0D,
    torch.float64: 0x0E,
}
_MOST_AXES = 64  # numpy's limit
_GZIP = b"\x1f\x8b"


def read_idx(path: str | PathLike[str]) -> Tensor:
    """Read the array of an idx file, which is compressed where its name ends with `.gz`.

    Values are uint8, int8, int16, int32, float32 or float64, as the file says.

    Raises `DataError`, which begins with the path, for a file that is missing, is no idx or no gzip file, or is
    shorter or longer than its header says.
    """
    return parse_idx(read_bytes(path), path=path)


def parse_idx(content: bytes, *, path: str | PathLike[str] = "<bytes>") -> Tensor:
    """Read the array that `content` holds, not compressed; `path` says in a `DataError` where it is from.

    >>> parse_idx(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 9]))
    tensor([[7, 8, 9]], dtype=torch.uint8)
    """
    dtype, shape = _header(content, path)
    start = 4 + 4 * len(shape)
    expected, actual = math.prod(shape) * dtype.itemsize, len(content) - start
    if actual < expected:
        raise DataError(
            f"{path}: is cut off: an array {list(shape)} of {dtype.name} has {expected} bytes, and {actual} follow the "
            "header"
        )
    if actual > expected:
        raise DataError(
            f"{path}: has {actual - expected} bytes too many: an array {list(shape)} of {dtype.name} has {expected}, "
            f"and {actual} follow the header"
        )
    values = np.frombuffer(content, dtype, offset=start) if expected else np.empty(0, dtype)
    return torch.from_numpy(values.astype(dtype.newbyteorder("=")).reshape(shape))


def write_idx(path: str | PathLike[str], values: Tensor) -> None:
    """Write `values` as an idx file, compressed where its name ends with `.gz`; the same values are the same bytes.

    Raises `DataError` for a type that the format has not, OSError where the file cannot be written.
    """
    code = _CODES.get(values.dtype)
    if code is None:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _CODES)
        raise DataError(f"{path}: idx files hold {known}, got {str(values.dtype).removeprefix('torch.')}")
    header = struct.pack(f">4B{values.dim()}I", 0, 0, code, values.dim(), *values.shape)
    content = header + values.detach().cpu().numpy().astype(_TYPES[code]).tobytes()
    if Path(path).suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    Path(path).write_bytes(content)


def idx_images(
    images_path: str | PathLike[str],
    labels_path: str | PathLike[str],
    classes: tuple[str, ...] | None = None,
    name: str | None = None,
) -> Images:
    """Read images and their labels from two idx files.

    Images are [n, height, width], or [n, channels, height, width], of uint8; labels are [n] of whole numbers. Where
    `classes` are not given, they are the numbers from 0 to the largest label. `name` is the folder's where it is not
    given.

    Raises `DataError` for files that cannot be read, are of other shapes, or differ in their counts.
    """
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != torch.uint8 or images.dim() not in (3, 4):
        raise DataError(
            f"{images_path}: expected images [n, height, width] or [n, channels, height, width] of uint8, got "
            f"{list(images.shape)} of {str(images.dtype).removeprefix('torch.')}"
        )
    if labels.is_floating_point() or labels.dim() != 1:
        raise DataError(
            f"{labels_path}: expected labels [n] of whole numbers, got {list(labels.shape)} of "
            f"{str(labels.dtype).removeprefix('torch.')}"
        )
    if len(images) != len(labels):
        raise DataError(f"{images_path} has {len(images)} images and {labels_path} {len(labels)} labels")
    if classes is None:
        classes = tuple(str(label) for label in range(max(1, int(labels.max()) + 1 if len(labels) else 1)))
    return Images(
        images=images[:, None] if images.dim() == 3 else images,
        labels=labels.long(),
        classes=classes,
        name=Path(images_path).parent.name if name is None else name,
    )


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the path of the file `name` in a folder, or of `name.gz`; None where there is neither."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def read_bytes(path: str | PathLike[str]) -> bytes:
    """Read a file, uncompressed where its name ends with `.gz`; raises `DataError` where that fails."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if Path(path).suffix != ".gz":
        return content
    if not content.startswith(_GZIP):
        raise DataError(f"{path}: is no gzip file, as its name says: it begins with {content[:4]!r}")
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: is a damaged gzip file: {error}") from error


def _header(content: bytes, path: str | PathLike[str]) -> tuple[np.dtype, tuple[int, ...]]:
    """Return the type and the lengths of the axes."""
    if content.startswith(_GZIP):
        raise DataError(f"{path}: is compressed: give it a name that ends with .gz")
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        codes = ", ".join(f"{code:02x}" for code in _TYPES)
        raise DataError(
            f"{path}: is no idx file: it begins with {content[:4].hex(' ') or 'nothing'}; expected 00 00, the type "
            f"(one of {codes}), and the number of axes"
        )
    axes = content[3]
    if axes > _MOST_AXES:
        raise DataError(f"{path}: has {axes} axes; at most {_MOST_AXES} can be read")
    if len(content) < 4 + 4 * axes:
        raise DataError(
            f"{path}: is cut off: a header of {axes} axes has {4 + 4 * axes} bytes, and the file {len(content)}"
        )
    dtype, shape = _TYPES[content[2]], struct.unpack_from(f">{axes}I", content, 4)
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize >= 2**63:
        raise DataError(f"{path}: no array is as large as its header says, {list(shape)}")
    return dtype, shape
