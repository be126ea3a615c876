"""Where do a weight's inputs come from, where do its numbers lie, and how far apart is that? Plain tensors.

The traffic of a network of crossbars is made by whoever knows the chip: here are only tiles, by their numbers, and the
links between them. A weight is seen as a matrix [outputs, rows], `weight.flatten(1)`, rows ordered (inputs, taps).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod

import torch
from torch import Tensor

from bale.errors import CompressionError


@dataclass(frozen=True, eq=False)
class WeightTraffic:
    """Of one weight, for one sample.

    sources      int64 [edges, inputs]: the tile where each input channel was finished, for each edge that feeds it (a
                 residual input has several); -1: it comes from outside of the chip, and costs nothing
    sent         float64 [edges]: numbers that one input channel sends by that edge
    tile         int64 [outputs, rows]: the tile of each weight
    accumulator  int64 [outputs]: the tile in which an output's partial sums are finished
    positions    of outputs: partial sums that a tile sends of each
    input_bits   of a number that is sent to a tile
    sum_bits     of a partial sum
    """

    sources: Tensor
    sent: Tensor
    tile: Tensor
    accumulator: Tensor
    positions: int
    input_bits: int
    sum_bits: int

    def check(self, name: str, tiles: int, shape: tuple[int, ...] | None = None) -> None:
        """Raise CompressionError, which names weight and field, unless all is there, and of the weight's `shape`."""

        def expect(holds: bool, field: str, problem: str) -> None:
            if not holds:
                raise CompressionError(f"traffic of {name}: {field}: {problem}")

        for field, axes in (("sources", 2), ("sent", 1), ("tile", 2), ("accumulator", 1)):
            tensor = getattr(self, field)
            expect(isinstance(tensor, Tensor) and tensor.dim() == axes, field, f"expected a tensor of {axes} axes")
        outputs, rows = self.tile.shape
        edges, inputs = self.sources.shape
        expect(self.sent.shape == (edges,), "sent", f"expected one number for each of {edges} edges")
        expect(bool((self.sent >= 0).all()), "sent", "expected no number below 0")
        expect(self.accumulator.shape == (outputs,), "accumulator", f"expected one tile for each of {outputs} outputs")
        expect(inputs > 0 and rows % inputs == 0, "sources", f"{inputs} inputs do not divide the {rows} rows of tile")
        for field, least in (("sources", -1), ("tile", 0), ("accumulator", 0)):
            numbers = getattr(self, field)
            whole = not numbers.is_floating_point() and not numbers.is_complex()
            expect(whole, field, f"expected whole numbers, got {numbers.dtype}")
            inside = not numbers.numel() or (int(numbers.min()) >= least and int(numbers.max()) < tiles)
            expect(inside, field, f"names a tile that hops has not; expected {least} to {tiles - 1}")
        for field in ("positions", "input_bits", "sum_bits"):
            expect(getattr(self, field) >= 0, field, f"must be at least 0, got {getattr(self, field)}")
        if shape is not None:
            expected = (shape[0], prod(shape[1:]))
            expect(
                (outputs, rows) == expected and inputs == shape[1],
                "tile",
                f"is of {outputs} x {rows} with {inputs} inputs, and the weight of {expected[0]} x {expected[1]} with "
                f"{shape[1]}; make the traffic of the network as it is now, such as after structured pruning",
            )


@dataclass(frozen=True, eq=False)
class Traffic:
    """Of a network on a chip.

    hops     int64 [tiles, tiles]: links between two tiles, by the way that their messages take; 0 on the diagonal
    weights  by the weight's name, as a compression report has it

    Raises CompressionError, which names the weight and the field, for tensors that do not fit one another.
    """

    hops: Tensor
    weights: Mapping[str, WeightTraffic]

    def __post_init__(self) -> None:
        hops = self.hops
        square = isinstance(hops, Tensor) and hops.dim() == 2 and hops.shape[0] == hops.shape[1]
        if not square or hops.is_floating_point():
            raise CompressionError("traffic: hops: expected whole numbers [tiles, tiles]")
        if hops.numel() and (int(hops.min()) < 0 or bool(hops.diagonal().any())):
            raise CompressionError("traffic: hops: expected no number below 0, and 0 from a tile to itself")
        for name, weight in self.weights.items():
            weight.check(name, len(hops))

    def digest(self) -> Tensor:
        """Of all numbers, int64: a training that goes on can tell that its chip is another one."""
        found = hashlib.sha256(self.hops.cpu().long().numpy().tobytes())
        for name, weight in sorted(self.weights.items()):
            found.update(name.encode())
            for each in fields(weight):
                number = getattr(weight, each.name)
                found.update(number.cpu().numpy().tobytes() if isinstance(number, Tensor) else str(number).encode())
        return torch.tensor(int.from_bytes(found.digest()[:7], "little"))
