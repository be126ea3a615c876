"""What do tests of the array of MACs draw? Decomposed matrices with zero coefficients and zero rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from bale.hardware.mac_array.rows import row_shapes
from bale.hardware.network import read_network


@dataclass(frozen=True, eq=False)
class Made:
    """A decomposition: one basis an output of 8 bits a number, one index bit a coefficient."""

    coefficients: np.ndarray
    pieces: int
    coefficient_bits: int
    basis_bits_total: int
    index_bits_total: int


def made(coefficients: np.ndarray, pieces: int | None = None) -> Made:
    """Of 4-bit coefficients [outputs, rows, S]."""
    pieces = len(coefficients) if pieces is None else pieces
    return Made(coefficients, pieces, 4, 8 * pieces * coefficients.shape[2] ** 2, coefficients.size)


def decompositions(
    model: nn.Module, sample: Tensor, *, nonzero: float = 0.5, rows: float = 0.7, seed: int = 0
) -> dict[str, Made]:
    """Coefficients for every matrix, of which some are not zero in some rows."""
    network = read_network(model, (sample,))
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in row_shapes(model, network).items():
        size = (network.matrices[name].width, shape.count, shape.size)
        powers = rng.choice([-1.0, 1.0], size) * 2.0 ** rng.integers(-4, 3, size)
        kept = (rng.random(size) < nonzero) & (rng.random(size[:2]) < rows)[..., None]
        result[name] = made((powers * kept).astype(np.float32))
    return result
