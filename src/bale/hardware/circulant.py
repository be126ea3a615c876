"""How does a block-circulant matrix lie in crossbars, each block stored once, and how are its inputs turned?

ReBoc (DATE 2020). Published, by its abstract: Horizontal Weight Slicing, Intra-Crossbar Weight Duplication, Input Slice
Reusing, Input Tile Sharing, and a pipeline within a layer. All that follows is our reconstruction.

A circulant block of k x k is W[t, s] = w[(t - s) mod k]. With m = (s - t) mod k, output t is the sum of
w[-m mod k] x[(m + t) mod k]: one stored column of k cells, and the inputs turned by t. So a matrix of p x q blocks is p
columns of q k rows, cut along its rows into pieces as high as a crossbar that hold whole blocks (Horizontal Weight
Slicing), and k rotations of the inputs take k times as long. Copy c of a column is turned by c, and makes output t + c
from the inputs turned by t: with d of them (Intra-Crossbar Weight Duplication) k / d rotations are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bale.errors import MappingError
from bale.hardware.chip import Chip
from bale.hardware.layers import Matrix
from bale.hardware.network import Network


def _check_number(name: str, number: object, least: int) -> None:
    if not isinstance(number, int):
        raise MappingError(f"circulant: {name}: must be a whole number, got {number!r}")
    if number < least:
        raise MappingError(f"circulant: {name}: must be at least {least}, got {number}")


@dataclass(frozen=True)
class CirculantMapping:
    """How block-circulant matrices are mapped, and which of ReBoc's mechanisms are there.

    block         k: all matrices that are of such blocks are stored once, where that takes no more crossbars; or by
                  name, others as they are
    duplicates    d, columns of a block, turned; None: as many as fill a crossbar, a divisor of k, or more where more
                  crossbars are better spent so than on copies of the matrix
    reuse_slices  Input Slice Reusing: inputs are fetched once and turned in a register, not fetched for every rotation
    share_inputs  Input Tile Sharing: a tile's crossbars take the inputs that they share from one buffer, in one read
    pipelined     a rotation's inputs are driven while sums of the one before are converted and written
    """

    block: int | Mapping[str, int]
    duplicates: int | None = None
    reuse_slices: bool = True
    share_inputs: bool = True
    pipelined: bool = True

    def __post_init__(self) -> None:
        blocks = self.block if isinstance(self.block, Mapping) else {"block": self.block}
        for name, block in blocks.items():
            _check_number(name, block, 2)
        if self.duplicates is not None:
            _check_number("duplicates", self.duplicates, 1)


@dataclass(frozen=True)
class Circulant:
    """A matrix [groups, inputs x taps, outputs] of circulant blocks over inputs and outputs, one for each tap.

    `parts`: outputs are cut into so many, such as gates, which share no block. Inputs and outputs that k does not
    divide are padded: such rows are never driven, such outputs dropped. As it is stored: [groups, rows, columns], rows
    ordered (block of inputs, tap, place in the block), columns (block of outputs, duplicate).
    """

    groups: int
    inputs: int
    taps: int
    outputs: int
    parts: int
    block: int
    how: CirculantMapping
    duplicates: int = 1

    @classmethod
    def of(cls, matrix: Matrix, block: int, how: CirculantMapping) -> Circulant:
        inputs = matrix.rows // matrix.taps
        return cls(matrix.groups, inputs, matrix.taps, matrix.outputs, matrix.parts, block, how)

    @property
    def block_rows(self) -> int:
        """p, of a group."""
        return self.parts * -(-self.outputs // self.parts // self.block)

    @property
    def block_columns(self) -> int:
        """q, of a group, for each tap."""
        return -(-self.inputs // self.block)

    @property
    def rows(self) -> int:
        """Stored, of a group."""
        return self.block_columns * self.taps * self.block

    @property
    def columns(self) -> int:
        """Stored, of a group: each makes an output for every rotation."""
        return self.block_rows * self.duplicates

    @property
    def rotations(self) -> int:
        """Of the inputs, for one vector."""
        return -(-self.block // self.duplicates)

    @property
    def saves(self) -> bool:
        """Are there fewer numbers to store than the matrix has?"""
        return self.block_rows * self.rows < self.inputs * self.taps * self.outputs

    @property
    def found(self) -> bool:
        """Was it left to the mapping whether, and with how many duplicates, blocks are stored once?"""
        return isinstance(self.how.block, int) and self.how.duplicates is None

    def piece_rows(self, chip: Chip) -> int:
        """Rows of a crossbar that hold whole blocks."""
        return chip.crossbar.rows // self.block * self.block

    def widths(self, chip: Chip) -> tuple[int, ...]:
        """The numbers of duplicates to choose from: what fills a crossbar first."""
        if self.how.duplicates is not None:
            return (min(self.how.duplicates, self.block),)
        fill = max(1, min(self.block, chip.crossbar.columns // (self.block_rows * chip.weight_columns)))
        divisors = [d for d in range(1, self.block + 1) if self.block % d == 0]
        first = max(d for d in divisors if d <= fill)
        return tuple(d for d in divisors if d >= first)

    def with_duplicates(self, duplicates: int) -> Circulant:
        """The same matrix with other duplicates."""
        return replace(self, duplicates=duplicates)

    def block_row(self) -> np.ndarray:
        """int64 [outputs]: which block of outputs each is in."""
        part, place = np.divmod(np.arange(self.outputs), self.outputs // self.parts)
        return part * (self.block_rows // self.parts) + place // self.block

    def turn(self) -> np.ndarray:
        """int64 [outputs]: t, the place of each in its block."""
        return np.arange(self.outputs) % (self.outputs // self.parts) % self.block

    def largest(self, largest: Tensor) -> Tensor:
        """Of magnitudes [groups, 1, outputs] the largest of each block of outputs, which share their numbers."""
        row = torch.from_numpy(self.block_row()).expand(self.groups, -1)
        of_rows = largest.new_zeros(self.groups, self.block_rows)
        of_rows.scatter_reduce_(1, row, largest.squeeze(1), "amax")
        return of_rows.gather(1, row).unsqueeze(1)

    def numbers(self, weight: np.ndarray) -> np.ndarray | None:
        """w [groups, p, q, taps, k] of a weight [groups, inputs x taps, outputs]; None where its blocks differ.

        A wrapped diagonal of which nothing is left but padding is 0.
        """
        k, p, q = self.block, self.block_rows, self.block_columns
        padded = np.zeros((self.groups, q * k, self.taps, p * k), weight.dtype)
        at = self.block_row() * k + self.turn()
        padded[:, : self.inputs, :, at] = weight.reshape(self.groups, self.inputs, self.taps, self.outputs)
        blocks = padded.reshape(self.groups, q, k, self.taps, p, k)
        driven = (np.arange(q * k) < self.inputs).reshape(q, k)
        made = np.isin(np.arange(p * k), at).reshape(p, k)
        found = np.zeros((self.groups, q, self.taps, p, k), weight.dtype)
        known = np.zeros((q, 1, p, k), bool)
        for diagonal in range(k):
            for t in range(k):
                s = (t - diagonal) % k
                there = driven[:, s, None, None] & made[None, None, :, t]  # [q, 1, p]
                values = blocks[:, :, s, :, :, t]
                before = known[..., diagonal]
                if bool(((values != found[..., diagonal]) & there & before).any()):
                    return None
                found[..., diagonal] = np.where(there, values, found[..., diagonal])
                known[..., diagonal] = before | there
        return found.transpose(0, 3, 1, 2, 4)

    def stored(self, weight: np.ndarray) -> np.ndarray:
        """[groups, rows, columns], of a weight [groups, inputs x taps, outputs] whose blocks are circulant."""
        numbers = self.numbers(weight)
        assert numbers is not None, "a matrix of circulant blocks has lost them"
        place, duplicate = np.arange(self.block)[:, None], np.arange(self.duplicates)[None, :]
        turned = numbers[..., (duplicate - place) % self.block]  # [groups, p, q, taps, k, d]
        return turned.transpose(0, 2, 3, 4, 1, 5).reshape(self.groups, self.rows, self.columns)

    def driven(self) -> np.ndarray:
        """int64 [rotations, groups x rows]: which row of the matrix's inputs each stored row is driven by; -1: none."""
        turned = np.arange(self.rotations)[:, None] * self.duplicates + np.arange(self.block)
        channel = np.arange(self.block_columns)[:, None] * self.block + (turned % self.block)[:, None, :]
        row = channel[:, :, None, :] * self.taps + np.arange(self.taps)[:, None]  # [rotations, q, taps, k]
        row = np.where(channel[:, :, None, :] < self.inputs, row, -1).reshape(self.rotations, 1, -1)
        offset = np.arange(self.groups)[:, None] * self.inputs * self.taps
        return np.where(row < 0, -1, row + offset).reshape(self.rotations, -1)

    def made(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [groups x outputs] each: in which rotation, and of which stored column, an output is made."""
        turn = self.turn()
        column = self.block_row() * self.duplicates + turn % self.duplicates
        offset = np.arange(self.groups)[:, None] * self.columns
        return np.tile(turn // self.duplicates, self.groups), (column + offset).reshape(-1)

    def stored_drives(self, drives: np.ndarray) -> np.ndarray:
        """Of how strongly a vector drives the matrix's rows [groups x inputs x taps], how its rotations drive cells."""
        return np.append(drives, 0.0)[self.driven()].sum(axis=0)


def _numpy(weight: Tensor) -> np.ndarray:
    """As numpy has it, which knows no bfloat16; every half or single is a double."""
    return weight.double().cpu().numpy()


def find_circulants(network: Network, how: CirculantMapping, chip: Chip) -> dict[str, Circulant]:
    """The matrices that are stored once: those that were named, or all that are of circulant blocks and the smaller.

    Raises `MappingError`, with its name, for a matrix that was named and is not, or whose blocks are higher than a
    crossbar; and where there is none at all.
    """
    named = not isinstance(how.block, int)
    blocks = how.block if isinstance(how.block, Mapping) else dict.fromkeys(network.matrices, how.block)
    found: dict[str, Circulant] = {}
    for name, block in blocks.items():
        if name not in network.matrices:
            raise MappingError(f"circulant: {name}: is no matrix; there are {', '.join(network.matrices)}")
        if block > chip.crossbar.rows:
            raise MappingError(
                f"circulant: {name}: blocks of {block} are higher than a crossbar of {chip.name}, {chip.crossbar.rows}"
            )
        matrix = network.matrices[name]
        circulant = Circulant.of(matrix, block, how)
        if (named or circulant.saves) and circulant.numbers(_numpy(matrix.weight)) is not None:
            found[name] = circulant
        elif named:
            raise MappingError(
                f"circulant: {name}: its blocks of {block} x {block} are not circulant; compress it with "
                f"BlockCirculantConfig(block={block}) first, or leave it out"
            )
    if not found:
        raise MappingError(
            f"circulant: no matrix is of circulant blocks of {how.block}; compress the network with "
            f"BlockCirculantConfig(block={how.block}) first"
        )
    return found
