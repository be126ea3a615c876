"""What does a rebuild engine compute? A row of weights from powers of two and a basis, by shifts and adds alone."""

from __future__ import annotations

import numpy as np


def shift_adds(coefficients: np.ndarray) -> np.ndarray:
    """Shifts-and-adds of 8 bits for each row of coefficients [..., S]: S for each that is not zero."""
    return np.count_nonzero(coefficients, axis=-1) * coefficients.shape[-1]


def rebuild(coefficients: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, int]:
    """Rebuild rows of weights as an engine does, one coefficient a cycle.

    Args:
        coefficients: 0 or +-2^p, [rows, S].
        basis: integers [S, S].

    Returns integers [rows, S] and the exponent e, so that weights = integers x 2^e = coefficients @ basis exactly.
    """
    sign = np.sign(coefficients).astype(np.int64)
    exponent = np.frexp(np.abs(coefficients))[1] - 1  # |2^p| is .5 x 2^(p + 1)
    lowest = int(exponent[sign != 0].min(initial=int(exponent.max(initial=0))))
    shift = np.where(sign != 0, exponent - lowest, 0)
    rows = np.zeros((len(coefficients), basis.shape[1]), np.int64)
    for place, of_basis in enumerate(basis.astype(np.int64)):
        rows += sign[:, place, None] * (of_basis << shift[:, place, None])
    return rows, lowest
