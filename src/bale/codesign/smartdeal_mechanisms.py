"""Which part of SmartDeal's array saves how much? Each mechanism left out by itself, and all added one by one.

The mechanisms are published (SmartExchange, ISCA 2020); how an array without one of them would store and compute is
our reconstruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from torch import Tensor, nn

from bale.codesign.figure import Figure
from bale.codesign.smartdeal import on_chip_pj
from bale.hardware.mac_array import (
    Decomposed,
    MacArray,
    MacArrayCost,
    SparseRows,
    WeightForm,
    by_matrix,
    dense_weights,
    mac_array_costs,
)
from bale.hardware.network import read_network

DIGITS = "zero digits of inputs skipped"
INPUTS = "zero rows of inputs skipped"
WEIGHTS = "zero rows of weights skipped"
REBUILT = "weights rebuilt from bases"
POWERS = "coefficients that are powers of two"

MECHANISMS = (DIGITS, INPUTS, WEIGHTS, REBUILT, POWERS)  # in the order in which they are added
NONE, ALL = "none", "all"

_PLAIN_BITS = 8  # of a coefficient that is no power of two
_SAMPLES, _CALIBRATION = 16, 64


@dataclass(frozen=True, eq=False)
class Mechanisms:
    """What an image costs with every mechanism, without each, and while they are added to dense weights of 8 bits.

    `without`: by mechanism, all others on. `added`: `NONE`, then by mechanism, with those before it; the last is the
    whole.
    """

    whole: MacArrayCost
    without: Mapping[str, MacArrayCost]
    added: Mapping[str, MacArrayCost]

    @property
    def alone(self) -> dict[str, float]:
        """How many times more energy is spent without each."""
        return {name: cost.energy_pj / self.whole.energy_pj for name, cost in self.without.items()}

    @property
    def in_turn(self) -> dict[str, float]:
        """How many times less energy is spent as each is added; their product is that of the whole."""
        steps = list(self.added.values())
        return {
            name: before.energy_pj / after.energy_pj
            for name, before, after in zip(MECHANISMS, steps[:-1], steps[1:], strict=True)
        }


@dataclass(frozen=True, eq=False)
class _PlainCoefficients:
    """A decomposition of the same coefficients, each in 8 bits, as if it were no power of two."""

    coefficients: np.ndarray
    pieces: int
    basis_bits_total: int
    index_bits_total: int
    coefficient_bits: int = _PLAIN_BITS

    @classmethod
    def of(cls, form: Decomposed) -> _PlainCoefficients:
        return cls(form.coefficients, form.pieces, form.basis_bits_total, form.index_bits_total)


def mechanisms(
    model: nn.Module, weights: Mapping[str, Decomposed], array: MacArray, data: Tensor, *, samples: int = _SAMPLES
) -> Mechanisms:
    """Count an image of a decomposed network with and without each mechanism; arguments as those of `inference`.

    Without one of them the array is otherwise the same, and so is what it multiplies:

    - zero digits of inputs: every weight takes all of a number's Booth digits, in time and in energy;
    - zero rows of inputs: multiplied by, and weights are read for them;
    - zero rows of weights: rebuilt as zeros and multiplied by; they are not stored all the same, for a bitmap says
      which coefficients there are;
    - rebuilding: DRAM has every weight of the rows that are not zero in 8 bits, a bit for each row, a scale an output;
    - powers of two: coefficients of 8 bits, each multiplied by a row of its basis. That they are no more accurate is
      assumed.

    Added one by one, in this order, to dense weights of 8 bits on an array that skips nothing; sparse rows are stored
    as such from the third on.
    """
    network = read_network(model, (data[:1],))
    forms = by_matrix(network, weights)
    rows = {name: SparseRows((form.coefficients != 0).any(2)) for name, form in forms.items()}
    plain = {name: _PlainCoefficients.of(form) for name, form in forms.items()}
    dense = dense_weights(network)

    def costs(on: MacArray, **by_name: Mapping[str, WeightForm]) -> list[MacArrayCost]:
        options = {"samples": samples, "calibration": _CALIBRATION}
        return list(mac_array_costs(model, on, data, by_name, **options))

    skips_nothing = replace(array, skip_zero_digits=False, skip_zero_inputs=False, skip_zero_weights=False)
    (none,) = costs(skips_nothing, dense=dense)
    (digits,) = costs(replace(skips_nothing, skip_zero_digits=True), dense=dense)
    inputs, sparse, whole = costs(array, dense=dense, sparse=rows, decomposed=forms)
    (multiplied,) = costs(replace(array, rebuild_pj=array.mac_pj), plain=plain)
    off = {DIGITS: "skip_zero_digits", INPUTS: "skip_zero_inputs", WEIGHTS: "skip_zero_weights"}
    without = {name: costs(replace(array, **{field: False}), decomposed=forms)[0] for name, field in off.items()}
    steps = (none, digits, inputs, sparse, multiplied, whole)
    return Mechanisms(
        whole, {**without, REBUILT: sparse, POWERS: multiplied}, dict(zip((NONE, *MECHANISMS), steps, strict=True))
    )


def mechanism_figures(parts: Mechanisms) -> list[Figure]:
    """What each saves by itself, and what all of them save, beside the product of each by itself."""
    whole, bare, in_turn = parts.whole, parts.added[NONE], parts.in_turn
    figures = [
        Figure(
            f"energy saved: {name}",
            "all but this",
            parts.alone[name],
            conditions={
                "ours_pj": whole.energy_pj,
                "baseline_pj": cost.energy_pj,
                "chip_alone": on_chip_pj(cost) / on_chip_pj(whole),
                "latency": cost.latency_ns / whole.latency_ns,
                "added_in_turn": in_turn[name],
                "added_in_turn_after": list(MECHANISMS[: MECHANISMS.index(name)]),
            },
        )
        for name, cost in parts.without.items()
    ]
    together = Figure(
        "energy saved: all mechanisms",
        "none of them",
        bare.energy_pj / whole.energy_pj,
        conditions={
            "ours_pj": whole.energy_pj,
            "baseline_pj": bare.energy_pj,
            "chip_alone": on_chip_pj(bare) / on_chip_pj(whole),
            "latency": bare.latency_ns / whole.latency_ns,
            "product_of_each_by_itself": prod(parts.alone.values()),
            "product_in_turn": prod(in_turn.values()),
            "saved_pj": bare.energy_pj - whole.energy_pj,
            "sum_of_saved_pj_each_by_itself": sum(c.energy_pj - whole.energy_pj for c in parts.without.values()),
        },
    )
    return [*figures, together]
