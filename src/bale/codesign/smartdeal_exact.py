"""Does an array that rebuilds weights by shifts and adds compute what PyTorch's quantised network does, to the bit?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bale.codesign.figure import Figure
from bale.compress import Decomposition
from bale.data import Images
from bale.errors import MappingError
from bale.hardware.cost import batches
from bale.hardware.evaluating import evaluating
from bale.hardware.layers import Matrix
from bale.hardware.mac_array import MacArray, by_matrix, rebuild
from bale.hardware.network import Network, read_network
from bale.hardware.quantize import (
    IntegerMatrix,
    calibrate,
    integer_product,
    integers,
    multiplied_by,
    run_in_integers,
)

_WIDEST = 31  # bits beside the sign that int32 holds


@dataclass(frozen=True)
class Exactness:
    """What came of running images through rebuilt weights and through PyTorch's quantised network.

    images, equal        how many there were, and of how many all outputs are equal, bit for bit
    weights, rebuilt     of the decomposed matrices, and how many of them the engines give as the packed file has them
    weight_bits          of the widest matrix's rebuilt integers, signs included; the array's MACs are of `array_bits`
    accuracy             of the array with MACs that wide; None without labels
    quantised_accuracy   of PyTorch's quantised network
    rounded_accuracy     of rebuilt weights rounded to `array_bits`, with a scale for each output
    """

    images: int
    equal: int
    weights: int
    rebuilt: int
    weight_bits: int
    array_bits: int
    accuracy: float
    quantised_accuracy: float
    rounded_accuracy: float

    def figures(self) -> list[Figure]:
        """Shares that are 1 where nothing is lost."""
        facts = {
            "rebuilt_weight_bits": self.weight_bits,
            "array_weight_bits": self.array_bits,
            "accuracy_on_array": self.accuracy,
            "accuracy_quantised": self.quantised_accuracy,
            "accuracy_rounded_to_array_bits": self.rounded_accuracy,
        }
        return [
            Figure(
                "images whose outputs equal PyTorch's quantised",
                f"{self.images} images",
                self.equal / self.images,
                unit="share",
                conditions=facts,
            ),
            Figure(
                "weights rebuilt as PyTorch has them",
                "the packed file",
                self.rebuilt / self.weights,
                unit="share",
                conditions={"weights": self.weights},
            ),
        ]


def exactness(
    model: nn.Module,
    weights: Mapping[str, Decomposition],
    array: MacArray,
    calibration: Images,
    test: Images,
    *,
    at_a_time: int = 32,
) -> Exactness:
    """Run all test images both ways, and compare every output.

    Args:
        model: as it is read from the packed file, with plain layers.
        weights: that file's decompositions, by the weights' keys.
        array: whose inputs are of `input_bits`, whatever the width of its MACs' weights.
        calibration: images that say how large the inputs of each matrix are.
        test: the images that are run.

    On the array: weights are rebuilt from coefficients and bases as integers, by shifts and adds, and multiplied by
    integer inputs. In PyTorch: the model's own weights, in float64, by torch's linear and convolution, of inputs that
    are rounded alike; every sum of that is exact. Raises `MappingError` for weights that do not fit the model, and
    without any.
    """
    if not weights:
        raise MappingError(
            "weights: nothing is decomposed; give those of a network that SmartDealConfig has compressed"
        )
    network = read_network(model, (test[:1].pixels(),))
    forms = by_matrix(network, weights)
    ranges = calibrate(model, network, batches(calibration.pixels(), at_a_time))
    rounded = integers(network, array, ranges)
    built = {name: rebuilt_matrix(network.matrices[name], form, rounded[name]) for name, form in forms.items()}
    inputs = list(batches(test.pixels(), at_a_time))
    ours = torch.cat(list(run_in_integers(model, network, {**rounded, **built}, inputs, _multiply)))
    theirs = torch.cat(list(quantised_outputs(model, network, rounded, built.keys(), inputs)))
    narrow = torch.cat(list(run_in_integers(model, network, rounded, inputs, _multiply)))
    pairs = [(network.matrices[name].weight, weight_of(matrix)) for name, matrix in built.items()]
    return Exactness(
        images=len(test),
        equal=int((ours == theirs).all(1).sum()),
        weights=sum(weight.numel() for weight, _ in pairs),
        rebuilt=sum(int((weight.double() == again).sum()) for weight, again in pairs),
        weight_bits=max(signed_bits(matrix.weight) for matrix in built.values()),
        array_bits=array.weight_bits,
        accuracy=_accuracy(ours, test),
        quantised_accuracy=_accuracy(theirs, test),
        rounded_accuracy=_accuracy(narrow, test),
    )


def rebuilt_matrix(matrix: Matrix, form: Decomposition, inputs: IntegerMatrix) -> IntegerMatrix:
    """A matrix in the integers that the engines rebuild: weight = integer x 2^e of its output. Inputs as they were.

    Pieces of an output that have steps of their own are shifted to the least of them. Raises `MappingError` where that
    is too wide for 32 bits, or where the rows are not those of the matrix.
    """
    outputs, rows, size = form.coefficients.shape
    whole = np.zeros((outputs, rows, size), np.int64)
    exponent = np.zeros((outputs, rows), np.int64)
    for piece in range(form.pieces):
        mine = form.piece == piece
        if mine.any():
            whole[mine], lowest = rebuild(form.coefficients[mine], form.bases[piece])
            exponent[mine] = lowest + int(form.exponents[piece])
    if outputs != matrix.width or not 0 <= rows * size - matrix.rows < size:
        raise MappingError(
            f"{matrix.name}: expected coefficients of {matrix.width} outputs with {matrix.rows} weights, "
            f"got {outputs} with {rows} rows of {size}"
        )
    there = whole.any(2)
    least = np.where(there, exponent, exponent.max()).min(axis=1)  # of each output, of rows that are not 0
    shift = np.where(there, exponent - least[:, None], 0)
    if int((np.frexp(np.abs(whole).max(axis=2))[1] + shift).max()) > _WIDEST:
        raise MappingError(f"{matrix.name}: has bases of steps so different that its integers need more than 32 bits")
    by_output = (whole << shift[..., None]).reshape(outputs, -1)[:, : matrix.rows]
    weight = torch.from_numpy(by_output.reshape(matrix.groups, matrix.outputs, matrix.rows)).transpose(1, 2)
    scale = torch.from_numpy(np.exp2(least.astype(np.float64)))
    return IntegerMatrix(
        matrix.name, weight.to(torch.int32), scale, inputs.input_scale, inputs.input_bits, inputs.signed
    )


def weight_of(matrix: IntegerMatrix) -> Tensor:
    """What the integers mean, float64 [groups, rows, outputs]."""
    groups, _, outputs = matrix.weight.shape
    return matrix.weight.double() * matrix.weight_scale.view(groups, 1, outputs)


def signed_bits(weight: Tensor) -> int:
    """Bits of two's complement that hold integers of both signs as large as the largest of these."""
    return int(weight.abs().max()).bit_length() + 1


def quantised_outputs(
    model: nn.Module,
    network: Network,
    matrices: Mapping[str, IntegerMatrix],
    exact: Iterable[str],
    inputs: Iterable[tuple[Any, ...]],
) -> Iterable[Tensor]:
    """Yield PyTorch's results: torch's own layers in float64, of inputs rounded as `matrices` say.

    Weights of matrices that are `exact` are the model's own; others are integers times their scales.
    """
    exact = set(exact)

    def product(name: str, vectors: Tensor) -> Tensor:
        """Of what is no Linear and no Conv2d: a step of an LSTM."""
        weight, scale = _as_torch(network.matrices[name], matrices[name], name in exact)
        whole, _ = matrices[name].inputs(vectors)
        return (functional.linear(whole.double(), weight) * scale).to(vectors.dtype)

    def forward(name: str, module: nn.Module, given: Tensor) -> Tensor:
        assert isinstance(module, nn.Linear | nn.Conv2d)
        weight, scale = _as_torch(network.matrices[name], matrices[name], name in exact)
        whole, _ = matrices[name].inputs(given)
        if isinstance(module, nn.Linear):
            sums = functional.linear(whole.double(), weight)
            bias = module.bias
        else:
            sums = module._conv_forward(whole.double(), weight.view(module.weight.shape), None)
            scale = scale[:, None, None]
            bias = None if module.bias is None else module.bias[:, None, None]
        y = (sums * scale).to(given.dtype)
        return y if bias is None else y + bias

    plain: dict[str, nn.Module] = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and name in matrices
    }
    for given in inputs:
        with evaluating(model), multiplied_by(model, network, product):
            for name, module in plain.items():
                module.forward = partial(forward, name, module)
            result = model(*given)
        yield result


def _as_torch(matrix: Matrix, whole: IntegerMatrix, exact: bool) -> tuple[Tensor, Tensor]:
    """Weights [outputs, rows] and scales [outputs] of their products with integer inputs, float64."""
    of = matrix.weight if exact else whole.weight
    weight = of.transpose(1, 2).reshape(matrix.width, matrix.rows).double()
    scale = torch.ones(matrix.width, dtype=torch.float64) if exact else whole.weight_scale
    return weight, scale * whole.input_scale


def _multiply(matrix: IntegerMatrix, vectors: Tensor, beyond: int) -> Tensor:
    return integer_product(vectors, matrix.weight, matrix.highest_input)


def _accuracy(outputs: Tensor, images: Images) -> float:
    return float((outputs.argmax(1) == images.labels).double().mean())
