"""How is a weight W split into sparse powers of two Ce and small bases B, W ~= Ce B? Two algorithms.

Read in the authors' public code: the alternation of `nearest`, its stop, its clip and its order of steps. Ours: the
bounded set of exponents, and `rate_distortion` as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from bale.compress.powers import best_highest, eight_bits, nearest_powers

ROUNDS = 12  # of coefficients and bases in turns; later ones gain less than .1 % of the objective
_SWEEPS = 2  # over the entries of a row
_FITS = 8  # sweeps over the rows of a basis: Gauss-Seidel on its normal equations
_STILL = 1e-4  # of the objective: a round that gains less is a piece's last
# First bases are multiples of 1, in units of the root mean square of a piece: where the largest power stands.
_STARTS = np.array([1.1, 1.35, 1.65, 2.0, 2.5, 3.2, 4.5, 7.0])

NEAREST_ROUNDS = 30  # in the authors' code, as the two below
_CLIP = 32.0
_MOVED = 1e-10


@dataclass(frozen=True, eq=False)
class Split:
    """W ~= coefficients @ basis, piece by piece.

    coefficients  float32 [pieces, rows, S], each 0 or +-2^p
    basis         float32 [pieces, S, S], of 8 bits with a power of two a piece
    highest       the largest p of the bounded set
    objectives    of all pieces together, after each round: squared error + lambda x bits; none by `nearest`
    """

    coefficients: Tensor
    basis: Tensor
    highest: int
    objectives: tuple[float, ...] = ()


def rate_distortion(pieces: Tensor, bits: int, price: float) -> Split:
    """Minimise ||W - Ce B||^2 + price x bits by turns: the entries of each row one by one, then the bases.

    pieces: float [pieces, rows, S]. price: of a stored bit, in units of squared weights. A coefficient that is not 0
    costs its code, a row that is not all 0 a bit for each entry. Each entry becomes the power of two that is nearest to
    its own optimum, all other entries of the row as they are, or 0: by ||b||^2 (c - q)^2 + price x bits. A basis is
    that of least squares, rounded to 8 bits, and is taken where that is better; so no turn increases the objective.
    """
    weights = np.ascontiguousarray(pieces.detach().cpu().double().numpy())
    coefficients, bases, objectives = _rate_distortion(weights, bits, price, _STARTS)
    # Powers and bases may share any power of two. Bases near 1 leave coefficients as large as weights are, so that an
    # optimizer moves them as it would move those.
    norms = np.sqrt(np.square(bases).sum(-1))
    used = norms[np.abs(coefficients).max(1, initial=0.0) > 0]
    shift = int(np.round(np.mean(np.log2(used)))) if used.size else 0
    return Split(
        torch.from_numpy(np.ldexp(coefficients, shift).astype(np.float32)),
        torch.from_numpy(np.ldexp(bases, -shift).astype(np.float32)),
        shift,
        tuple(objectives.sum(0).tolist()),
    )


@njit(cache=True)
def _rate_distortion(
    weights: np.ndarray, bits: int, price: float, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    many, rows, size = weights.shape
    levels = 1 << (bits - 1)
    coefficients = np.zeros((many, rows, size))
    bases = np.zeros((many, size, size))
    objectives = np.zeros((many, ROUNDS + 1))
    for piece in range(many):
        w, q = weights[piece], coefficients[piece]
        basis = _first_basis(w, levels, bits * price, starts)
        last = _sum_of_squares(w)
        objectives[piece, 0] = last
        if last > 0:
            for turn in range(ROUNDS):
                now = _fit_coefficients(w, basis, q, levels, bits * price, size * price)
                objectives[piece, turn + 1] = now
                if last - now <= _STILL * last:
                    for later in range(turn + 1, ROUNDS):
                        objectives[piece, later + 1] = now
                    break
                last = now
                if turn + 1 < ROUNDS:
                    _fit_basis(w, q, basis)
        for row in range(size):
            for column in range(size):
                bases[piece, row, column] = basis[row, column]
    return coefficients, bases, objectives


@njit(cache=True)
def _sum_of_squares(numbers: np.ndarray) -> float:
    # Plain loops, here and below: they compile several times faster than expressions of arrays.
    total = 0.0
    for row in range(numbers.shape[0]):
        for column in range(numbers.shape[1]):
            total += numbers[row, column] * numbers[row, column]
    return total


@njit(cache=True)
def _first_basis(w: np.ndarray, levels: int, code: float, starts: np.ndarray) -> np.ndarray:
    """The best multiple of 1 for this piece."""
    size = w.shape[1]
    rms = np.sqrt(_sum_of_squares(w) / w.size)
    best, least = 0.0, np.inf
    for start in starts:
        scale = start * rms
        cost = 0.0
        for row in range(w.shape[0]):
            for entry in range(size):
                value = abs(w[row, entry])
                off = value - scale * _power(value / scale, levels) if scale > 0 else 0.0
                cost += min(off * off + code, value * value)
        if cost < least:
            best, least = scale, cost
    basis = np.zeros((size, size))
    for entry in range(size):
        basis[entry, entry] = best
    _round_basis(basis)
    return basis


@njit(cache=True)
def _power(magnitude: float, levels: int) -> float:
    """The nearest of 1, 1/2, ... by distance; the mean of two neighbours is where they meet."""
    power = 1.0
    for _ in range(levels - 1):
        if magnitude >= 0.75 * power:
            break
        power *= 0.5
    return power


@njit(cache=True)
def _fit_coefficients(w: np.ndarray, basis: np.ndarray, q: np.ndarray, levels: int, code: float, index: float) -> float:
    """Move each row of q to no larger cost, and return the cost of all rows."""
    rows, size = w.shape
    squares, left = np.zeros(size), np.empty(size)
    for entry in range(size):
        for column in range(size):
            squares[entry] += basis[entry, column] * basis[entry, column]
    total = 0.0
    for row in range(rows):
        empty = 0.0
        for column in range(size):
            left[column] = w[row, column]
            empty += w[row, column] * w[row, column]
        for entry in range(size):
            if q[row, entry] != 0:
                for column in range(size):
                    left[column] -= q[row, entry] * basis[entry, column]
        for _ in range(_SWEEPS):
            moved = False
            for entry in range(size):
                square = squares[entry]
                if square == 0:
                    q[row, entry] = 0
                    continue
                was = q[row, entry]
                dot = 0.0
                for column in range(size):
                    dot += left[column] * basis[entry, column]
                best = dot / square + was
                power = _power(abs(best), levels)
                if best < 0:
                    power = -power
                if square * (best - power) ** 2 + code >= square * best * best:
                    power = 0.0
                if power != was:
                    moved = True
                    q[row, entry] = power
                    for column in range(size):
                        left[column] += (was - power) * basis[entry, column]
            if not moved:
                break
        cost, kept = 0.0, 0
        for column in range(size):
            cost += left[column] * left[column]
            kept += q[row, column] != 0
        cost += kept * code + index
        if kept == 0 or cost >= empty:
            for entry in range(size):
                q[row, entry] = 0
            cost = empty
        total += cost
    return total


@njit(cache=True)
def _fit_basis(w: np.ndarray, q: np.ndarray, basis: np.ndarray) -> None:
    """Least squares for the basis, rounded to 8 bits; it stays where that is no better."""
    size = w.shape[1]
    gram, cross = _products(q, q), _products(q, w)
    new = basis.copy()
    for _ in range(_FITS):
        for entry in range(size):
            if gram[entry, entry] > 0:
                for column in range(size):
                    value = cross[entry, column]
                    for other in range(size):
                        if other != entry:
                            value -= gram[entry, other] * new[other, column]
                    new[entry, column] = value / gram[entry, entry]
    _round_basis(new)
    if _misfit(gram, cross, new) < _misfit(gram, cross, basis):
        for entry in range(size):
            for column in range(size):
                basis[entry, column] = new[entry, column]


@njit(cache=True)
def _products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left.T @ right, where most of left is 0."""
    size = left.shape[1]
    sums = np.zeros((size, size))
    for row in range(left.shape[0]):
        for entry in range(size):
            value = left[row, entry]
            if value != 0:
                for column in range(size):
                    sums[entry, column] += value * right[row, column]
    return sums


@njit(cache=True)
def _misfit(gram: np.ndarray, cross: np.ndarray, basis: np.ndarray) -> float:
    """The squared error, less that of no basis at all."""
    total, size = 0.0, len(basis)
    for entry in range(size):
        for column in range(size):
            product = -2 * cross[entry, column]
            for other in range(size):
                product += gram[entry, other] * basis[other, column]
            total += product * basis[entry, column]
    return total


@njit(cache=True)
def _round_basis(basis: np.ndarray) -> None:
    """To whole multiples, up to 127, of the smallest power of two that allows it: `eight_bits` does the same."""
    largest, size = 0.0, len(basis)
    for entry in range(size):
        for column in range(size):
            largest = max(largest, abs(basis[entry, column]))
    if largest > 0:
        step = 2.0 ** np.ceil(np.log2(largest / 127))
        for entry in range(size):
            for column in range(size):
                basis[entry, column] = round(basis[entry, column] / step) * step


def nearest(pieces: Tensor, bits: int, threshold: float, vectors: float = 0.0) -> Split:
    """The authors' algorithm, as read in their code: powers nearest by distance, bases by least squares, a threshold.

    B = I, Ce = W; up to 30 times: round Ce's non-zeros to powers of two and clip them; stop where none has moved; fit B
    to these powers, Ce to this B; zero what is below the threshold. Then round once more, and fit B again. Ours: the
    exponents are a bounded set, that of least squared error in each round, so that 3 or 4 bits are enough;
    and bases are rounded to 8 bits at the end.

    threshold: of a coefficient. vectors: rows whose norm is below this are 0, ours too.
    """
    weights = pieces.detach().cpu().double()
    thin = weights.norm(dim=-1, keepdim=True) < vectors
    coefficients, last = _clipped(weights, thin), None
    for _ in range(NEAREST_ROUNDS):
        powers = nearest_powers(coefficients, best_highest(coefficients, bits), bits)
        if last is not None and float((powers - last).abs().max()) <= _MOVED:
            break
        last = powers
        basis = _fitted_basis(powers, weights)
        coefficients = weights @ torch.linalg.pinv(basis)
        coefficients = _clipped(torch.where(coefficients.abs() < threshold, 0.0, coefficients), thin)
    highest = best_highest(coefficients, bits)
    powers = nearest_powers(coefficients, highest, bits)
    return Split(powers.float(), eight_bits(_fitted_basis(powers, weights)).float(), highest)


def _clipped(coefficients: Tensor, thin: Tensor) -> Tensor:
    return torch.where(thin, 0.0, coefficients).clamp(-_CLIP, _CLIP)


def _fitted_basis(powers: Tensor, weights: Tensor) -> Tensor:
    """B of least squares; rows that no coefficient uses are 0."""
    return torch.linalg.pinv(powers.mT @ powers, hermitian=True) @ (powers.mT @ weights)
