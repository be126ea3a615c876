"""How is what is stored of a weight written as bytes, and how does the weight come back, bit for bit?

In this order: a bitmap of the numbers that are not 0 (only where some were left out), the scales of the channels
(only on a grid), and the numbers: codes of few bits, or floating point as they are. Pieces with bases have an order of
their own (packed_pieces.py).
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from bale.compress.bits import pack_bits, packed_size, unpack_bits
from bale.compress.code import Code
from bale.compress.layout import BlockCirculant, Dense, Layout
from bale.compress.matrix import Shape
from bale.compress.packed_pieces import is_of_pieces, pack_pieces, unpack_pieces
from bale.compress.powers import PowerOfTwoQuantizer
from bale.compress.reader import Facts, Reader, dtype_of, name_of


def pack_tensor(tensor: Tensor) -> tuple[Facts, bytes]:
    """Any tensor as it is: what its header says, and its bytes."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    facts = {"shape": list(plain.shape), "dtype": name_of(plain.dtype)}
    return facts, plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def unpack_tensor(facts: Facts, reader: Reader) -> Tensor:
    """The tensor again."""
    return reader.tensor(dtype_of(facts["dtype"]), prod(facts["shape"])).view(facts["shape"])


@torch.no_grad()
def pack_code(code: Code) -> tuple[Facts, bytes]:
    """A code: what its header says, and its bytes."""
    if code.basis is not None:
        return pack_pieces(code)
    values = code.kept_values().detach()
    facts: Facts = {"dtype": name_of(values.dtype), "layout": _layout_facts(code.layout)}
    quantizer = code.quantizer
    assert not isinstance(quantizer, PowerOfTwoQuantizer)
    numbers = values if quantizer is None else quantizer.codes(values)
    numbers, parts = numbers.cpu().reshape(-1), []
    if code.mask is not None:
        there = numbers != 0
        facts["kept"] = int(there.count_nonzero())
        parts.append(np.packbits(there.numpy()).tobytes())
        numbers = numbers[there]
    if quantizer is None:
        parts.append(pack_tensor(numbers)[1])
    else:
        facts["bits"] = quantizer.bits
        parts.append(pack_tensor(quantizer.step())[1])
        parts.append(pack_bits(numbers.numpy() + quantizer.highest, quantizer.bits))
    return facts, b"".join(parts)


def unpack_code(facts: Facts, reader: Reader) -> Tensor:
    """The weight that the code means."""
    if is_of_pieces(facts):
        return unpack_pieces(facts, reader).weight()
    layout, dtype = _layout(facts["layout"]), dtype_of(facts["dtype"])
    shape = layout.values_shape
    many = prod(shape)
    there = torch.from_numpy(unpack_bits(reader.take(packed_size(1, many)), 1, many) != 0) if "kept" in facts else None
    kept = facts.get("kept", many)
    if "bits" in facts:
        bits = facts["bits"]
        scale = reader.tensor(dtype, shape[0]).view(-1, *[1] * (len(shape) - 1))
        codes = unpack_bits(reader.take(packed_size(bits, kept)), bits, kept) - (2 ** (bits - 1) - 1)
        numbers = _spread(torch.from_numpy(codes).to(dtype), there).view(shape) * scale
    else:
        numbers = _spread(reader.tensor(dtype, kept), there).view(shape)
    return layout.expand(numbers)


def _spread(numbers: Tensor, there: Tensor | None) -> Tensor:
    """Numbers at the places where some are, 0 elsewhere."""
    if there is None:
        return numbers
    spread = numbers.new_zeros(len(there))
    spread[there] = numbers
    return spread


def _layout_facts(layout: Layout) -> Facts:
    if isinstance(layout, BlockCirculant):
        return {"circulant": layout.block, "shape": list(layout.shape.weight), "parts": layout.shape.parts}
    return {"shape": list(layout.weight_shape)}


def _layout(facts: Facts) -> Layout:
    if "circulant" in facts:
        return BlockCirculant(Shape(tuple(facts["shape"]), facts["parts"]), facts["circulant"])
    return Dense(tuple(facts["shape"]))
