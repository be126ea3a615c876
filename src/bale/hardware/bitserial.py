"""What do crossbars compute? Inputs digit by digit, a sum for each column, converted, shifted and added: integers."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional

from bale.hardware.bounds import Lossless, lossless
from bale.hardware.chip import Chip
from bale.hardware.circulant import Circulant
from bale.hardware.encode import Block
from bale.hardware.noise import Noise, generator, programmed

_SUMS = 1 << 19  # held at a time: they should stay in the cache between product and conversion


@dataclass
class Converted:
    """What conversions did: how many there were, how many were beyond the converter, and the largest sum that came."""

    conversions: int = 0
    clipped: int = 0
    largest: float = 0.0

    def add(self, other: Converted) -> None:
        """Count what others did, too."""
        self.conversions += other.conversions
        self.clipped += other.clipped
        self.largest = max(self.largest, other.largest)


@dataclass(frozen=True)
class Digits:
    """How an input is driven: digit d is `(x >> shift[d]) & mask[d]`, and counts `weight[d]` times.

    Bits from the lowest, `dac_bits` at a time. Signed inputs are in two's complement: the sign bit is driven by
    itself, in the last cycle, and what it sums is subtracted.
    """

    shift: np.ndarray
    mask: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, input_bits: int, dac_bits: int, signed: bool) -> Digits:
        low = input_bits - signed  # bits without the sign
        shift = list(range(0, low, dac_bits))
        mask = [2 ** min(dac_bits, low - at) - 1 for at in shift]
        weight = [2**at for at in shift]
        if signed:
            shift, mask, weight = [*shift, low], [*mask, 1], [*weight, -(2**low)]
        return cls(np.array(shift, np.int32), np.array(mask, np.int32), np.array(weight, np.int64))

    def __len__(self) -> int:
        return len(self.shift)

    def of_inputs(self, inputs: Tensor) -> Tensor:
        """Integers int32 [vectors, rows] as float32 [digits, vectors, rows]."""
        shift, mask = (torch.from_numpy(part)[:, None, None] for part in (self.shift, self.mask))
        return ((inputs >> shift) & mask).float()


@dataclass
class CrossbarMatrix:
    """A matrix in crossbars, ready to be multiplied.

    `conductance`: for each block what its cells really hold, float32 [rows, columns], in levels. `circulant`: of a
    matrix whose circulant blocks are stored once, how inputs are turned, and which outputs each rotation makes.
    """

    name: str
    blocks: Sequence[Block]
    outputs: int
    conductance: list[Tensor]
    digits: Digits
    adc_bits: int
    read_noise: float
    draws: torch.Generator
    bounds: Lossless
    circulant: Circulant | None = None
    converted: Converted = field(default_factory=Converted)

    @classmethod
    def program(
        cls,
        name: str,
        blocks: Sequence[Block],
        chip: Chip,
        signed: bool,
        *,
        adc_bits: int | None = None,
        noise: Noise | None = None,
        seed: int = 0,
        circulant: Circulant | None = None,
    ) -> CrossbarMatrix:
        """Write a matrix's blocks into cells, as good as `noise` lets them be; `adc_bits`: the chip's by default."""
        noise = Noise() if noise is None else noise
        cells = [
            programmed(block.cells, chip.highest_level, noise, generator(seed, name, "cells", index))
            for index, block in enumerate(blocks)
        ]
        return cls(
            name,
            blocks,
            max(block.first_output + len(block.input_factor) for block in blocks),
            cells,
            Digits.of(chip.input_bits, chip.dac_bits, signed),
            chip.adc.bits if adc_bits is None else adc_bits,
            noise.read,
            generator(seed, name, "readings"),
            lossless(blocks, chip),
            circulant,
        )

    @property
    def lossless(self) -> bool:
        """Is every conversion of inputs within their bits exact, by the cells as they are?"""
        return self.read_noise == 0 and self.ideal and self.bounds.exact < 2**self.adc_bits

    @property
    def ideal(self) -> bool:
        """Do the cells hold what they should?"""
        pairs = zip(self.conductance, self.blocks, strict=True)
        return all(bool((cells == torch.from_numpy(block.cells)).all()) for cells, block in pairs)

    def multiply(self, inputs: Tensor, workers: Executor | None = None) -> Tensor:
        """The sums int64 [vectors, outputs] of integers int32 [vectors, rows of all groups]; every conversion is made.

        Counts what the conversions did in `converted`. `workers` (`bale.hardware.workers`) share the vectors, unless
        readings are noisy, which are drawn one after the other.
        """
        if self.circulant is None:
            return self._multiply(inputs, workers)
        rotation, column = self.circulant.made()
        sums = torch.empty(len(inputs), len(column), dtype=torch.int64)
        padded = functional.pad(inputs, (0, 1))  # rows of padding are driven by the 0 at its end
        for number, rows in enumerate(self.circulant.driven()):
            stored = self._multiply(padded[:, torch.from_numpy(rows)], workers)
            outputs = torch.from_numpy(np.flatnonzero(rotation == number))
            sums[:, outputs] = stored[:, torch.from_numpy(column)[outputs]]
        return sums

    def _multiply(self, inputs: Tensor, workers: Executor | None) -> Tensor:
        """The same, as matrix and inputs are stored."""
        sums = np.zeros((len(inputs), self.outputs), np.int64)
        step = max(1, _SUMS // (len(self.digits) * max(block.columns for block in self.blocks)))
        pieces = [(inputs[low : low + step], sums[low : low + step]) for low in range(0, len(inputs), step)]
        if pieces:
            share = map if workers is None or self.read_noise else workers.map
            for counted in share(self._sums, *zip(*pieces, strict=True)):
                self.converted.add(counted)
        return torch.from_numpy(sums)

    def _sums(self, inputs: Tensor, into: np.ndarray) -> Converted:
        """Add the sums of some vectors to `into`; return what their conversions did."""
        counted = Converted()
        for block, cells in zip(self.blocks, self.conductance, strict=True):
            vectors = inputs[:, block.first_row : block.first_row + block.rows]
            mine = into[:, block.first_output : block.first_output + len(block.input_factor)]
            read = self.digits.of_inputs(vectors) @ cells  # [digits, vectors, columns]
            if self.read_noise:
                read += self.read_noise * torch.randn(read.shape, generator=self.draws)
            highest = 2**self.adc_bits - 1
            clipped, largest = _convert(read.numpy(), mine, block.output, block.factor, self.digits.weight, highest)
            counted.add(Converted(read.numel(), clipped, float(largest)))
            if block.input_factor.any():
                total = vectors.unflatten(1, (block.groups, -1)).sum(-1).numpy()  # [vectors, groups], of inputs
                mine += np.repeat(total, len(block.input_factor) // block.groups, axis=1) * block.input_factor
        return counted


@njit(cache=True, nogil=True, fastmath={"nnan", "nsz"})  # no sum is NaN; so the columns' loop becomes vector code
def _convert(read, into, output, factor, weight, highest):  # type: ignore[no-untyped-def]
    """Convert sums [digits, vectors, columns] and add them, shifted, to `into` [vectors, outputs].

    Rounds to the nearest level, which without noise changes nothing, and clips at 0 and at the highest.
    """
    digits, vectors, columns = read.shape
    clipped = 0
    largest = np.float32(0.0)
    half, zero, top = np.float32(0.5), np.float32(0.0), np.float32(highest)
    by_column = np.empty(columns, np.int64)
    for vector in range(vectors):
        by_column[:] = 0
        for digit in range(digits):
            scale = weight[digit]
            for column in range(columns):
                value = read[digit, vector, column] + half
                largest = value if value > largest else largest
                clipped += value > top + half + half or value < zero  # noise may read less than nothing
                value = value if value < top else top
                value = value if value > zero else zero
                by_column[column] += scale * np.int64(value)
        for column in range(columns):
            into[vector, output[column]] += factor[column] * by_column[column]
    return clipped, max(largest - half, zero)
