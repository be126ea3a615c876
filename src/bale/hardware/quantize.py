"""Which integers does a network compute with? Weights by output, inputs by the largest that calibration has seen.

Symmetric, without zero points: weight = integer x scale of its output, input = integer x scale of its matrix; inputs
that were never negative are unsigned. Products are sums of integers; scales and biases are applied to them digitally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bale.errors import MappingError
from bale.hardware.evaluating import evaluating
from bale.hardware.layers import Matrix, Product, kind_of
from bale.hardware.network import Network


class Widths(Protocol):
    """What says of how many bits integers are, such as a chip."""

    @property
    def weight_bits(self) -> int: ...

    @property
    def input_bits(self) -> int: ...


@dataclass(frozen=True)
class Range:
    """The least and the largest input of a matrix."""

    low: float
    high: float

    def joined(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class IntegerMatrix:
    """A matrix in integers: `weight` int32 [groups, rows, outputs], `weight_scale` [groups * outputs]."""

    name: str
    weight: Tensor
    weight_scale: Tensor  # float64: of half a type's range nothing would be left
    input_scale: float
    input_bits: int
    signed: bool

    @property
    def highest_input(self) -> int:
        return 2 ** (self.input_bits - self.signed) - 1

    def inputs(self, vectors: Tensor) -> tuple[Tensor, int]:
        """Vectors [vectors, groups * rows] as int32, and how many numbers were beyond the range and became its end."""
        highest = self.highest_input
        if not bool(torch.isfinite(vectors).all()):
            raise MappingError(f"{self.name}: gets inputs that are NaN or infinite")
        vectors = vectors if vectors.dtype == torch.float64 else vectors.float()  # half types hold no 16 bits
        whole = (vectors / self.input_scale).round_()
        held = whole.clamp(-highest if self.signed else 0, highest)
        return held.to(torch.int32), int(held.ne(whole).count_nonzero())

    def outputs(self, sums: Tensor) -> Tensor:
        """Integer sums [vectors, groups * outputs] as float64 numbers."""
        return sums.double() * (self.weight_scale * self.input_scale)


@contextmanager
def multiplied_by(model: nn.Module, network: Network, product: Product) -> Iterator[None]:
    """Let the network's layers multiply by `product` while the block runs; the model is as before afterwards.

    A layer that the network's sample did not meet raises `MappingError` when it is met.
    """
    layers = {matrix.layer for matrix in network.matrices.values()}
    swapped: list[nn.Module] = []
    try:
        for name, module in model.named_modules():
            name = name or type(module).__name__
            kind = kind_of(module)
            if kind is not None:
                swapped.append(module)
                module.forward = partial(kind.run, name, module, product) if name in layers else partial(_unmet, name)
        yield
    finally:
        for module in swapped:
            del module.forward


def _unmet(name: str, *args: Any, **kwargs: Any) -> Any:
    raise MappingError(
        f"{name}: is met by a later sample and not by the first, from which the network is read; "
        "let the first sample meet every layer, or simulate the branches one by one"
    )


def calibrate(model: nn.Module, network: Network, inputs: Iterable[tuple[Any, ...]]) -> dict[str, Range]:
    """The range of each matrix's inputs over `inputs`, for each of which the model is run in full precision.

    Raises `MappingError`, with the layer's name, for inputs that are NaN or infinite.
    """
    ranges: dict[str, Range] = {}

    def product(name: str, vectors: Tensor) -> Tensor:
        if vectors.numel():
            found = Range(float(vectors.min()), float(vectors.max()))
            if not (abs(found.low) < float("inf") and abs(found.high) < float("inf")):
                raise MappingError(f"{name}: gets inputs that are NaN or infinite")
            ranges[name] = found.joined(ranges[name]) if name in ranges else found
        return grouped_product(vectors, network.matrices[name].weight)

    with evaluating(model), multiplied_by(model, network, product):
        for given in inputs:
            model(*given)
    return ranges


# Magnitudes [groups, 1, outputs], the largest of each output -> those whose scale each output takes.
Largest = Callable[[Tensor], Tensor]


def integers(
    network: Network, chip: Widths, ranges: dict[str, Range], shared: Mapping[str, Largest] | None = None
) -> dict[str, IntegerMatrix]:
    """Every matrix in the chip's integers. Raises `MappingError` for one that no calibration sample has met.

    `shared`, by matrix: outputs that are made of the same stored numbers take the same scale.
    """
    for name in network.matrices:
        if name not in ranges:
            raise MappingError(f"{name}: is met by the first sample, and by none of calibration")
    shared = shared or {}
    return {name: _integers(matrix, chip, ranges[name], shared.get(name)) for name, matrix in network.matrices.items()}


def _integers(matrix: Matrix, chip: Widths, found: Range, shared: Largest | None = None) -> IntegerMatrix:
    highest = 2 ** (chip.weight_bits - 1) - 1
    weights = matrix.weight.cpu()
    largest = weights.abs().amax(dim=1, keepdim=True).double()  # [groups, 1, outputs]
    largest = largest if shared is None else shared(largest)
    scale = torch.where(largest > 0, largest / highest, 1.0)
    weight = (weights.double() / scale).round().clamp(-highest, highest).to(torch.int32)
    signed = found.low < 0
    if signed and chip.input_bits == 1:
        raise MappingError(f"{matrix.name}: has inputs below 0, and one bit holds no sign; input_bits: 2 or more")
    reach = max(-found.low, found.high)
    input_scale = reach / (2 ** (chip.input_bits - signed) - 1) if reach > 0 else 1.0
    return IntegerMatrix(matrix.name, weight, scale.flatten(), input_scale, chip.input_bits, signed)


def grouped_product(vectors: Tensor, weight: Tensor) -> Tensor:
    """[vectors, groups * rows] x [groups, rows, outputs] -> [vectors, groups * outputs]."""
    groups, rows, outputs = weight.shape
    if groups == 1:
        return vectors @ weight[0]
    return (vectors.unflatten(1, (groups, rows)).transpose(0, 1) @ weight).transpose(0, 1).reshape(-1, groups * outputs)


def integer_product(vectors: Tensor, weight: Tensor, highest_input: int) -> Tensor:
    """The exact sums, int64: in floating point, where every sum of magnitudes is below what it holds exactly."""
    largest = int(weight.abs().long().sum(dim=1).max()) * highest_input
    exact32 = largest < 2**24 and torch.get_float32_matmul_precision() == "highest"
    kind = torch.float32 if exact32 else torch.float64
    if largest >= 2**53:
        raise MappingError(f"sums of up to {largest} do not fit into float64; use fewer bits")
    return grouped_product(vectors.to(kind), weight.to(kind)).long()


# (matrix, integers [vectors, groups * rows], how many of them were beyond its range) -> int64 sums
Multiply = Callable[[IntegerMatrix, Tensor, int], Tensor]


def run_in_integers(
    model: nn.Module,
    network: Network,
    matrices: Mapping[str, IntegerMatrix],
    inputs: Iterable[tuple[Any, ...]],
    multiply: Multiply,
) -> Iterator[Any]:
    """Yield the model's results on `inputs`, its matrices multiplied in integers by `multiply`."""

    def product(name: str, vectors: Tensor) -> Tensor:
        matrix = matrices[name]
        with torch.autocast("cpu", enabled=False):  # the model may have switched it on
            sums = multiply(matrix, *matrix.inputs(vectors.cpu()))
            return matrix.outputs(sums).to(vectors.device, network.matrices[name].weight.dtype)

    for given in inputs:
        with evaluating(model), multiplied_by(model, network, product):
            result = model(*given)
        yield result
