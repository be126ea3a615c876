"""What happens in an array for one matrix, how often, and how long does it take?

The loops, the outermost first: outputs, `slices` at a time; passes; rows of weights, each on its line. So the weights
of the outputs at work are fetched once; where they are more than their half of the weight buffer, the rest comes anew
in every pass. Inputs are fetched once, or, where they are more than their half of the input buffer, once for each round
of outputs. Where a position waits for the one before (the states of an LSTM), passes are outermost, and what does not
fit is counted of all weights. Of every sample all weights are fetched anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bale.hardware.layers import Matrix
from bale.hardware.mac_array.activity import Activity
from bale.hardware.mac_array.array import MacArray
from bale.hardware.mac_array.rows import RowShape
from bale.hardware.mac_array.weights import Stored

_SUM_BYTES = 3  # of what lines have summed: 8 + 8 bits, and 256 of those


@dataclass(frozen=True)
class Traffic:
    """What a matrix's inputs and outputs do outside the array, for one sample: numbers in, out, and whether by DRAM.

    `in_turn`: a position needs all outputs of the one before, so that passes are the outermost loop.
    """

    inputs: int
    outputs: int
    inputs_from_dram: bool
    inputs_fit: bool
    outputs_to_dram: bool
    in_turn: bool


@dataclass(frozen=True)
class Counts:
    """Events of one matrix for one sample, mean over the data; cycles of the lines, and of DRAM beside them.

    Bits of buffers are written and read. `digits`: Booth digits not skipped, times a weight each. `rebuilt`: rows of
    weights. `shift_adds`, `line_adds`, `registers`: of 8 bits.
    """

    dram_weight_bits: float
    dram_input_bits: float
    dram_output_bits: float
    input_buffer_bits: float
    weight_buffer_bits: float
    output_buffer_bits: float
    digits: float
    line_adds: float
    rebuilt: float
    shift_adds: float
    registers: float
    comparisons: float
    passes: float
    compute_cycles: float
    dram_cycles: float

    @property
    def cycles(self) -> float:
        """Buffers are double: DRAM works beside the lines, and the slower of both counts."""
        return max(self.compute_cycles, self.dram_cycles)


@dataclass
class Tally:
    """Adds up what the products of one matrix do, for one form of its weights."""

    array: MacArray
    matrix: Matrix
    shape: RowShape
    stored: Stored
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, seen: Activity) -> None:
        """Count one product."""
        form = self.stored
        group = np.arange(self.matrix.width) // self.matrix.outputs  # of each output
        times = seen.active.sum(axis=0)[group]  # [outputs, rows]: passes in which a row of weights is used
        used = times * form.used
        first, asked = self._shared()
        # One read serves all slices of a group that are at work together.
        read = np.einsum("sk,psk,pk->", asked, seen.active[:, group[first]], seen.numbers)
        pairs = self.matrix.width if form.indexed else len(first) * self.array.skip_zero_inputs
        lines = min(seen.lines, int(seen.line.max()) + 1)
        self._count("passes", seen.passes)
        self._count("input_reads", read)
        self._count("weight_reads", (form.row_bits * times).sum() + form.pass_bits * seen.passes)
        self._count("digits", (form.used * seen.digits.sum(axis=0)[group]).sum())
        self._count("line_adds", lines * self.matrix.width * seen.positions * _SUM_BYTES)
        self._count("rebuilt", (times * (form.coefficients > 0)).sum())
        self._count("shift_adds", (form.shift_adds * times).sum())
        self._count("registers", (form.shift_adds * times + used * self.shape.taps).sum())
        self._count("comparisons", float(pairs) * self.shape.count * seen.passes)
        self._count("compute_cycles", self._cycles(seen, group))

    def _count(self, what: str, times: float) -> None:
        self.sums[what] = self.sums.get(what, 0.0) + float(times)

    def _shared(self) -> tuple[np.ndarray, np.ndarray]:
        """The first output of each set of outputs that share inputs, and whether one of them uses a row [sets, rows].

        Outputs of one group, in the slices at the same time.
        """
        outputs = np.arange(self.matrix.width)
        first = np.flatnonzero((outputs % self.array.slices == 0) | (outputs % self.matrix.outputs == 0))
        return first, np.logical_or.reduceat(self.stored.used, first, axis=0).astype(np.float64)

    def _cycles(self, seen: Activity, group: np.ndarray) -> float:
        """Lines have queues of their own; at the end of a pass they wait for the slowest, of all slices."""
        longest = np.zeros((self.matrix.width, seen.passes))
        for line in np.unique(seen.line):
            rows = seen.line == line
            for of in range(self.matrix.groups):
                mine = group == of
                multiply = self.stored.used[mine][:, rows].astype(np.float64) @ seen.cycles[:, of, rows].T
                rebuild = self.stored.coefficients[mine][:, rows] @ seen.active[:, of, rows].T.astype(np.float64)
                slower = np.maximum(multiply, np.ceil(rebuild / self.array.engines))
                longest[mine] = np.maximum(longest[mine], slower)
        return float(np.maximum.reduceat(longest, np.arange(0, self.matrix.width, self.array.slices), axis=0).sum())

    def counts(self, traffic: Traffic, samples: int) -> Counts:
        """All that happens for one of `samples`, with what comes from outside and goes there."""
        array, sums = self.array, {what: times / samples for what, times in self.sums.items()}
        rounds = -(-self.matrix.width // array.slices)
        in_bits = traffic.inputs * array.input_bits * (1 if traffic.inputs_fit else rounds)
        out_bits = traffic.outputs * array.input_bits
        fetched = self._fetched(sums["passes"], traffic.in_turn)
        dram_in, dram_out = in_bits * traffic.inputs_from_dram, out_bits * traffic.outputs_to_dram
        return Counts(
            dram_weight_bits=fetched,
            dram_input_bits=dram_in,
            dram_output_bits=dram_out,
            input_buffer_bits=in_bits + sums["input_reads"] * array.input_bits,
            weight_buffer_bits=fetched + sums["weight_reads"] + self.stored.once_bits,
            output_buffer_bits=2 * out_bits,
            digits=sums["digits"],
            line_adds=sums["line_adds"],
            rebuilt=sums["rebuilt"],
            shift_adds=sums["shift_adds"],
            registers=sums["registers"],
            comparisons=sums["comparisons"],
            passes=sums["passes"],
            compute_cycles=sums["compute_cycles"],
            dram_cycles=(fetched + dram_in + dram_out) / array.dram_bits,
        )

    def _fetched(self, passes: float, in_turn: bool) -> float:
        """Bits of weights from DRAM."""
        starts = np.arange(0, self.matrix.width, self.matrix.width if in_turn else self.array.slices)
        rounds = np.add.reduceat(self.stored.output_bits, starts)
        stay = np.minimum(rounds, 8 * self.array.weight_buffer / 2)
        return float((stay + (rounds - stay) * passes).sum())
