"""Which bytes are a compressed model? One file: a header, then what is stored of each parameter and buffer.

    BALE | format, 1 byte | length of the header, 4 bytes | header: JSON, deflated | content | SHA-256 of all before,
    8 bytes

The header names, in the order of the state_dict of the plain model, each entry with what its bytes are (packing.py).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bale.compress.compact import resize_
from bale.compress.config import Config
from bale.compress.packed_pieces import Decomposition, is_of_pieces, unpack_pieces
from bale.compress.packing import pack_code, pack_tensor, unpack_code, unpack_tensor
from bale.compress.reader import Reader
from bale.compress.weights import coded_weights, compressed_layers
from bale.errors import BaleError, CompressionError

_MAGIC, _FORMAT, _DIGEST = b"BALE", 1, 8


@dataclass(frozen=True, eq=False)
class Packed:
    """What a packed file holds.

    state    the state_dict of the plain model, weights written out
    configs  how it was compressed, as `Config.to_dict` has it, in order
    facts    the writer's own
    """

    state: Mapping[str, Tensor]
    configs: tuple[Mapping[str, Any], ...]
    facts: Mapping[str, Any]


def pack(model: nn.Module, configs: tuple[Config, ...] = (), facts: Mapping[str, Any] | None = None) -> bytes:
    """Return the packed file of a model, compressed or not; raises CompressionError for state that is no tensor."""
    entries: dict[str, Any] = {}
    contents: list[bytes] = []
    codes = {weight.key: weight.code for weight in coded_weights(model)}
    places: dict[tuple[Any, ...], str] = {}
    for key, tensor in plain_state(model).items():
        if key in codes:
            entries[key], content = pack_code(codes[key])
        elif not isinstance(tensor, Tensor):
            raise CompressionError(f"{key}: is a {type(tensor).__name__}; a packed file holds tensors only")
        else:
            try:
                entries[key], content = pack_tensor(tensor)
            except (RuntimeError, NotImplementedError, TypeError) as error:  # sparse, on the meta device, ...
                raise CompressionError(f"{key}: cannot be packed: {error}") from error
            same = (
                tensor.data_ptr(),
                tuple(tensor.shape),
                tensor.stride(),
                tensor.dtype,
                tensor.is_conj(),
                tensor.is_neg(),
            )
            first = places.setdefault(same, key) if tensor.numel() else key
            if first != key:
                entries[key], content = {"as": first}, b""
        contents.append(content)
    missing = sorted(set(codes) - set(entries))
    if missing:
        raise CompressionError(
            f"{missing[0]}: is not in the model's state_dict; a hook of the model has changed its keys"
        )
    header = {"entries": entries, "configs": [config.to_dict() for config in configs], "facts": dict(facts or {})}
    try:
        written = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    except TypeError as error:
        raise CompressionError(f"facts: expected what JSON can hold: {error}") from error
    whole = b"".join((_MAGIC, bytes([_FORMAT]), len(written).to_bytes(4, "little"), written, *contents))
    return whole + hashlib.sha256(whole).digest()[:_DIGEST]


def unpack(content: bytes, name: str = "packed file") -> Packed:
    """Read what `pack` made; raises CompressionError, which begins with `name`, where it is damaged or another file."""
    with _opened(content, name) as (header, reader):
        state: dict[str, Tensor] = {}
        for key, entry in header["entries"].items():
            if "as" in entry:
                state[key] = state[entry["as"]]
            else:
                state[key] = unpack_code(entry, reader) if "layout" in entry else unpack_tensor(entry, reader)
        return Packed(state, tuple(header["configs"]), header["facts"])


def decompositions(packed: str | PathLike[str] | bytes) -> dict[str, Decomposition]:
    """Return the weights of a packed file that are powers of two times bases, as an accelerator meets them.

    `packed`: a path, or what `pack` returned. By the weights' keys in the state_dict of the plain model; those that are
    stored in another way are left out. Raises CompressionError for a file that is damaged or another.
    """
    content, name = (packed, "packed file") if isinstance(packed, bytes) else (_content(packed), str(packed))
    found: dict[str, Decomposition] = {}
    with _opened(content, name) as (header, reader):
        for key, entry in header["entries"].items():
            if is_of_pieces(entry):
                found[key] = unpack_pieces(entry, reader).decomposition()
            elif "as" not in entry:
                (unpack_code if "layout" in entry else unpack_tensor)(entry, reader)
    return found


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[tuple[dict[str, Any], Reader]]:
    """The header, and a reader of what follows it; what is wrong with either becomes a CompressionError."""
    if content[:4] != _MAGIC:
        raise CompressionError(f"{name}: is no packed model; expected what bale's save_packed wrote")
    if content[4:5] != bytes([_FORMAT]):
        raise CompressionError(
            f"{name}: is of format {content[4:5].hex() or 'none'}, and this bale reads {_FORMAT:02x}"
        )
    if hashlib.sha256(content[:-_DIGEST]).digest()[:_DIGEST] != content[-_DIGEST:]:
        raise CompressionError(f"{name}: is damaged: its content is not what was written; use another copy")
    try:
        reader = Reader(content[9:-_DIGEST])
        header = json.loads(zlib.decompress(reader.take(int.from_bytes(content[5:9], "little"))))
        yield header, reader
    except (ValueError, KeyError, TypeError, zlib.error, RuntimeError) as error:
        raise CompressionError(f"{name}: is damaged: {error}; use another copy") from error


def save_packed(
    model: nn.Module, path: str | PathLike[str], *configs: Config, facts: Mapping[str, Any] | None = None
) -> int:
    """Write a model, compressed or not, to one file, and return how many bytes it has.

    `configs` and `facts` (as JSON can hold them) are written beside it. Raises CompressionError where that fails; a
    file that was there stays whole.
    """
    content = pack(model, configs, facts)
    path = Path(path)
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise CompressionError(f"{path}: cannot be written: {error.strerror or error}") from error
    return len(content)


def read_packed(path: str | PathLike[str]) -> Packed:
    """Read what `save_packed` wrote; raises CompressionError, which begins with the path."""
    return unpack(_content(path), str(path))


def _content(path: str | PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CompressionError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_packed_(model: nn.Module, path: str | PathLike[str]) -> Packed:
    """Load a packed file into a plain model of the architecture that was compressed, in place.

    Layers become as narrow as structured pruning has made them. Raises CompressionError, which begins with the path,
    for a file that is damaged or of another architecture, and for a model that is compressed; the model is then as it
    was.
    """
    packed = read_packed(path)
    if compressed_layers(model):
        raise CompressionError(f"{path}: goes into a plain model; bale.bake_ this one, or make a new one")
    for key, tensor in model.state_dict().items():
        if key in packed.state and packed.state[key].dtype != tensor.dtype:
            kinds = [str(kind).removeprefix("torch.") for kind in (packed.state[key].dtype, tensor.dtype)]
            raise CompressionError(f"{path}: {key} is {kinds[0]}, and the model's is {kinds[1]}; model.to({kinds[0]})")
    try:
        resize_(model, packed.state)
    except BaleError as error:
        raise CompressionError(f"{path}: is of another model: {error}") from error
    model.load_state_dict(packed.state)
    return packed


def plain_state(model: nn.Module) -> dict[str, Any]:
    """The state_dict of the plain model; of weights that are stored in another way only the keys, in their places."""
    written = model.state_dict()
    parameters: dict[str, list[str]] = {}  # for each key of a compressed layer, those of the plain one, in order
    for name, layer in compressed_layers(model).items():
        prefix = f"{name}." if name else ""
        own = [prefix + key for key, tensor in layer._parameters.items() if key in layer.codes or tensor is not None]
        codes = [f"{prefix}codes.{key}" for key in layer.codes.state_dict()]
        parameters |= dict.fromkeys([*own, *codes], own)
    return {plain: written.get(plain) for key in written for plain in parameters.get(key, [key])}
