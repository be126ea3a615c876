"""How are sparse powers of two and their bases written as bytes, and what do the bytes mean to others?

In this order: a bitmap of the rows that are not all 0 (only where it saves more bits than it has), a bitmap of the
entries of these rows that are not 0, the bases as 8-bit whole numbers, the exponents of the bases' steps, a byte each,
and a code of 3 or 4 bits for each entry: its sign (1: below 0), and the place of its power in the set. Rows and entries
are in the order of the weight's outputs; what fills up pieces is not stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bale.compress.bits import pack_bits, packed_size, unpack_bits
from bale.compress.code import Code
from bale.compress.layout import Pieces
from bale.compress.powers import BASIS_HIGHEST, PowerOfTwoQuantizer, basis_multiples, powers_up_to
from bale.compress.reader import Facts, Reader, dtype_of, name_of
from bale.errors import CompressionError

_BASIS_BITS = 8


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A weight W ~= Ce B as an accelerator meets it.

    coefficients      float32 [outputs, rows of one output, S], Ce: 0 or +-2^p. An output's weights are its rows times
                      its basis, one after the other, without the zeros that fill up the last row
    pieces            how many bases there are, each S x S
    coefficient_bits  of the code of a coefficient that is not 0
    basis_bits_total  of all bases in a packed file, with a byte for each one's scale
    index_bits_total  of the bitmaps that say which coefficients are not 0
    bases             int8 [pieces, S, S], whole multiples of each one's step
    exponents         int8 [pieces], of the steps: B = bases x 2^exponent
    piece             int64 [outputs, rows of one output], of which piece each row is
    """

    coefficients: np.ndarray
    pieces: int
    coefficient_bits: int
    basis_bits_total: int
    index_bits_total: int
    bases: np.ndarray
    exponents: np.ndarray
    piece: np.ndarray

    @property
    def basis_size(self) -> int:
        """S."""
        return self.coefficients.shape[-1]


@dataclass(frozen=True, eq=False)
class Stored:
    """What is stored of a weight: codes int64 [rows, S], 0 or +-(place + 1), in the order of outputs; and bases.

    multiples, exponents: of bases, int8 [pieces, S, S] and [pieces]. row_bitmap: does one pay?
    """

    layout: Pieces
    dtype: torch.dtype
    bits: int
    highest: int
    codes: np.ndarray
    multiples: np.ndarray
    exponents: np.ndarray

    @property
    def kept_rows(self) -> np.ndarray:
        return (self.codes != 0).any(1)

    @property
    def row_bitmap(self) -> bool:
        rows, size = self.codes.shape
        return rows + int(self.kept_rows.sum()) * size < rows * size

    def coefficients(self) -> Tensor:
        """float32 [rows, S]."""
        powers = torch.cat((torch.zeros(1), powers_up_to(self.highest, self.bits)))
        codes = torch.from_numpy(self.codes)
        return powers[codes.abs()] * codes.sign()

    def weight(self) -> Tensor:
        """The weight, bit for bit as a code computes it: all sums are exact."""
        steps = torch.exp2(torch.from_numpy(self.exponents).double()).float()
        bases = torch.from_numpy(self.multiples).float() * steps[:, None, None]
        rows = self.layout.by_piece(self.coefficients()) @ bases
        return self.layout.expand(rows.to(self.dtype))

    def decomposition(self) -> Decomposition:
        rows, size = self.codes.shape
        index = rows + int(self.kept_rows.sum()) * size if self.row_bitmap else rows * size
        pieces = len(self.multiples)
        of_piece = torch.arange(pieces)[:, None, None].expand(self.layout.values_shape)
        return Decomposition(
            coefficients=self.coefficients().view(self.layout.weight_shape[0], self.layout.output_rows, size).numpy(),
            pieces=pieces,
            coefficient_bits=self.bits,
            basis_bits_total=pieces * _BASIS_BITS * (size * size + 1),
            index_bits_total=index,
            bases=self.multiples,
            exponents=self.exponents,
            piece=self.layout.by_output(of_piece)[..., 0].numpy(),
        )


@torch.no_grad()
def stored(code: Code) -> Stored:
    """What is stored of a weight that is decomposed; raises CompressionError for another."""
    layout, quantizer, basis = code.layout, code.quantizer, code.basis
    if not (isinstance(layout, Pieces) and isinstance(quantizer, PowerOfTwoQuantizer) and basis is not None):
        raise CompressionError("is no weight of coefficients and bases; expected one compressed by SmartDealConfig")
    codes = layout.by_output(quantizer.codes(code.kept_values())).reshape(-1, layout.size)
    multiples, steps = basis_multiples(basis.to(torch.promote_types(basis.dtype, torch.float32)))
    return Stored(
        layout,
        code.values.dtype,
        quantizer.bits,
        int(quantizer.highest),
        codes.cpu().numpy(),
        multiples.cpu().numpy().astype(np.int8),
        (torch.frexp(steps).exponent - 1).cpu().numpy().astype(np.int8).reshape(-1),
    )


def stored_coefficients(code: Code) -> Decomposition:
    """Return a weight as an accelerator meets it; raises CompressionError where it is not compressed by SmartDeal."""
    return stored(code).decomposition()


def pack_pieces(code: Code) -> tuple[Facts, bytes]:
    """A code of coefficients and bases: what its header says, and its bytes."""
    of = stored(code)
    there, rows = of.codes != 0, of.kept_rows
    facts: Facts = {
        "dtype": name_of(of.dtype),
        "layout": {"pieces": of.layout.rows, "shape": list(of.layout.weight_shape)},
        "bits": of.bits,
        "highest": of.highest,
        "kept": int(there.sum()),
    }
    parts: list[bytes] = []
    if of.row_bitmap:
        facts["kept_rows"] = int(rows.sum())
        parts.append(np.packbits(rows).tobytes())
        there = there[rows]
    parts += [np.packbits(there).tobytes(), of.multiples.tobytes(), of.exponents.tobytes()]
    codes = of.codes[of.codes != 0]
    parts.append(pack_bits(np.abs(codes) - 1 + ((codes < 0) << (of.bits - 1)), of.bits))
    return facts, b"".join(parts)


def is_of_pieces(facts: Mapping[str, object]) -> bool:
    """Does a header's entry say that its bytes are coefficients and bases?"""
    layout = facts.get("layout")
    return isinstance(layout, dict) and "pieces" in layout


def unpack_pieces(facts: Facts, reader: Reader) -> Stored:
    """What `pack_pieces` has written; raises ValueError where header and bytes do not fit."""
    layout, bits = _layout(facts), facts["bits"]
    if bits not in (3, 4):
        raise ValueError(f"has coefficients of {bits!r} bits; expected 3 or 4")
    if type(facts["highest"]) is not int or not -126 <= facts["highest"] - 2 ** (bits - 1) < facts["highest"] <= 127:
        raise ValueError(f"has powers up to 2^{facts['highest']!r}, beyond float32")
    pieces, _, size = layout.values_shape
    many = layout.weight_shape[0] * layout.output_rows
    if "kept_rows" in facts:
        rows = unpack_bits(reader.take(packed_size(1, many)), 1, many) != 0
        _check_count("kept_rows", facts["kept_rows"], int(rows.sum()))
    else:
        rows = slice(None)
    entries = facts.get("kept_rows", many) * size
    bitmap = unpack_bits(reader.take(packed_size(1, entries)), 1, entries).reshape(-1, size) != 0
    there = np.zeros((many, size), bool)
    there[rows] = bitmap
    _check_count("kept", facts["kept"], int(there.sum()))
    multiples = np.frombuffer(reader.take(pieces * size * size), np.int8).reshape(pieces, size, size).copy()
    exponents = np.frombuffer(reader.take(pieces), np.int8).copy()
    if bool((multiples < -BASIS_HIGHEST).any()):
        raise ValueError(f"has a basis beyond {-BASIS_HIGHEST}")
    written = unpack_bits(reader.take(packed_size(bits, facts["kept"])), bits, facts["kept"])
    places, below = written & (2 ** (bits - 1) - 1), written >> (bits - 1)
    codes = np.zeros((many, size), np.int64)
    codes[there] = (places + 1) * (1 - 2 * below)
    return Stored(layout, dtype_of(facts["dtype"]), bits, facts["highest"], codes, multiples, exponents)


def _layout(facts: Facts) -> Pieces:
    shape, rows = tuple(facts["layout"]["shape"]), facts["layout"]["pieces"]
    if type(rows) is not int or rows < 1:
        raise ValueError(f"has pieces of {rows!r} rows; expected 1 or more")
    if len(shape) < 2 or not all(type(size) is int and size >= 1 for size in shape):
        raise ValueError(f"has a weight of shape {list(shape)}; expected two axes or more")
    return Pieces(shape, rows)


def _check_count(name: str, said: object, counted: int) -> None:
    if said != counted:
        raise ValueError(f"says {name} {said!r}, and has {counted}")
