"""In which form are a matrix's weights stored, how many bits is that, and what does a line read and rebuild of them?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from bale.errors import MappingError
from bale.hardware.layers import Matrix
from bale.hardware.mac_array.array import MacArray
from bale.hardware.mac_array.rebuild import shift_adds
from bale.hardware.mac_array.rows import RowShape
from bale.hardware.network import Network

DENSE, SPARSE, UNIFORM, DECOMPOSED = "dense", "sparse rows", "uniform", "decomposed"


@dataclass(frozen=True)
class DenseWeights:
    """Every weight in `bits`, and a scale of `scale_bits` for each output."""

    bits: int = 8
    scale_bits: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise MappingError(f"bits: must be from 1 to 16, got {self.bits}")


@dataclass(frozen=True, eq=False)
class SparseRows:
    """Every weight of the rows that are `used`, bool [outputs, rows of one output], in `bits`; one more says which.

    And a scale of `scale_bits` for each output.
    """

    used: np.ndarray
    bits: int = 8
    scale_bits: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise MappingError(f"bits: must be from 1 to 16, got {self.bits}")


@dataclass(frozen=True)
class UniformWeights:
    """Weights quantised uniformly to `bits` each in the mean, scales and all: a fraction is a mixture of widths.

    They are unpacked to the array's width where they are read, and multiplied in that: fewer bits save traffic, not
    cycles, for it is inputs that are serial. An array with narrower multipliers would save some energy of MACs, too.
    """

    bits: float

    def __post_init__(self) -> None:
        if not self.bits > 0:
            raise MappingError(f"bits: must be above 0, got {self.bits}")


class Decomposed(Protocol):
    """Weights as rows c B: `coefficients` 0 or +-2^p float32 [outputs, rows of one output, S], B a basis [S, S].

    `pieces`: bases of the matrix. `coefficient_bits`: of one coefficient that is not zero. `basis_bits_total`,
    `index_bits_total`: of the whole matrix.
    """

    @property
    def coefficients(self) -> np.ndarray: ...

    @property
    def pieces(self) -> int: ...

    @property
    def coefficient_bits(self) -> int: ...

    @property
    def basis_bits_total(self) -> int: ...

    @property
    def index_bits_total(self) -> int: ...


Form = TypeVar("Form", bound=Decomposed)

WeightForm = DenseWeights | SparseRows | UniformWeights | Decomposed


def form_of(weights: WeightForm) -> str:
    """The name of a form, for tables."""
    if isinstance(weights, DenseWeights):
        return DENSE
    if isinstance(weights, SparseRows):
        return SPARSE
    return UNIFORM if isinstance(weights, UniformWeights) else DECOMPOSED


@dataclass(frozen=True, eq=False)
class Stored:
    """What an array does with a matrix's weights, row by row; arrays are [groups * outputs, rows of one output].

    `used`: whether there is anything to multiply by. `row_bits`: read from the weight buffer whenever a row is used.
    `coefficients`: not zero, of a row to rebuild; `shift_adds` for it. `once_bits` are read once for each output,
    `pass_bits` in every pass, of the whole matrix. `indexed`: zero rows are known, and compared with those of inputs.
    """

    used: np.ndarray
    row_bits: np.ndarray
    coefficients: np.ndarray
    shift_adds: np.ndarray
    once_bits: float
    pass_bits: float
    indexed: bool

    @property
    def bits(self) -> float:
        """All that is stored."""
        return float(self.output_bits.sum())

    @property
    def output_bits(self) -> np.ndarray:
        """Of each output, [groups * outputs]; what belongs to the whole matrix in equal parts."""
        return self.row_bits.sum(axis=1) + (self.once_bits + self.pass_bits) / len(self.row_bits)


def stored(matrix: Matrix, shape: RowShape, form: WeightForm) -> Stored:
    """Take a form apart; raises `MappingError`, with the matrix's name, for one that does not fit it."""
    if isinstance(form, DenseWeights | UniformWeights):
        rows = np.ones((matrix.width, shape.count))
        nothing = np.zeros_like(rows)
        scales = float(form.scale_bits * matrix.width) if isinstance(form, DenseWeights) else 0.0
        return Stored(rows > 0, rows * shape.taps * form.bits, nothing, nothing, scales, 0.0, indexed=False)
    if isinstance(form, SparseRows):
        used = np.asarray(form.used)
        _check_shape(matrix, "used rows [outputs, rows of one output]", used.shape, (matrix.width, shape.count))
        nothing = np.zeros(used.shape)
        bits, scales = used * shape.taps * float(form.bits), float(form.scale_bits * matrix.width)
        return Stored(used != 0, bits, nothing, nothing, scales, float(used.size), indexed=True)
    coefficients = _checked(matrix, shape, form)
    many = np.count_nonzero(coefficients, axis=2).astype(np.float64)
    # An engine holds one basis. Where an output has several, each comes anew in every pass.
    basis, index = float(form.basis_bits_total), float(form.index_bits_total)
    once, each_pass = (basis, index) if form.pieces <= matrix.width else (0.0, basis + index)
    adds = shift_adds(coefficients).astype(np.float64)
    return Stored(many > 0, many * form.coefficient_bits, many, adds, once, each_pass, indexed=True)


def stored_on(array: MacArray, matrix: Matrix, shape: RowShape, form: WeightForm) -> Stored:
    """The same on an array that may have no selector of weights: then rows of zeros are multiplied by, too."""
    of = stored(matrix, shape, form)
    return of if array.skip_zero_weights else replace(of, used=np.ones_like(of.used), indexed=False)


def _check_shape(matrix: Matrix, what: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise MappingError(f"{matrix.name}: expected {what} of {expected}, got {got}")


def _checked(matrix: Matrix, shape: RowShape, form: Decomposed) -> np.ndarray:
    coefficients = np.asarray(form.coefficients)
    expected = (matrix.width, shape.count, shape.size)
    _check_shape(matrix, "coefficients [outputs, rows of one output, size of a row]", coefficients.shape, expected)
    mantissa = np.frexp(np.abs(coefficients))[0]
    if not np.isfinite(coefficients).all() or not np.isin(mantissa, (0.0, 0.5)).all():
        raise MappingError(f"{matrix.name}: has coefficients that are neither 0 nor a power of two")
    if not 1 <= form.coefficient_bits <= 16 or form.pieces < 1:
        raise MappingError(
            f"{matrix.name}: expected 1 to 16 bits of a coefficient and at least one basis, "
            f"got {form.coefficient_bits} and {form.pieces}"
        )
    if form.basis_bits_total < 0 or form.index_bits_total < 0:
        raise MappingError(f"{matrix.name}: has fewer than 0 bits of bases or of an index")
    return coefficients


def decomposed_bits(form: Decomposed) -> float:
    """Bits of all that is stored of a decomposed matrix: coefficients that are not zero, their index, bases."""
    of_coefficients = int(np.count_nonzero(form.coefficients)) * form.coefficient_bits
    return float(of_coefficients + form.basis_bits_total + form.index_bits_total)


def dense_weights(network: Network, bits: int = 8) -> dict[str, DenseWeights]:
    """Every matrix dense at `bits`."""
    return {name: DenseWeights(bits) for name in network.matrices}


def equal_byte_weights(network: Network, decompositions: Mapping[str, Decomposed]) -> dict[str, UniformWeights]:
    """Each decomposed matrix quantised uniformly to as many bytes, exactly; the others are not named.

    The mean bits of a weight count everything: a uniform grid of that many bytes has its scales, too.
    """
    check_names(network, decompositions)
    return {
        name: UniformWeights(decomposed_bits(form) / network.matrices[name].weight.numel())
        for name, form in decompositions.items()
    }


def by_matrix(network: Network, weights: Mapping[str, Form]) -> dict[str, Form]:
    """Weights by the keys of a state_dict as weights by matrix: a layer's `weight` is the matrix of its name."""
    names = {f"{name}.weight": name for name in network.matrices}
    return {names.get(key, key): form for key, form in weights.items()}


def check_names(network: Network, weights: Mapping[str, object]) -> None:
    """Raise `MappingError` for weights of a matrix that the network does not have."""
    for name in weights:
        if name not in network.matrices:
            raise MappingError(f"{name}: is no matrix of the network, whose are {', '.join(network.matrices)}")
