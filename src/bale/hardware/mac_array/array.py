"""What is an accelerator of bit-serial MACs with engines that rebuild weights, and what does each event cost there?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bale.errors import ChipError
from bale.hardware.constants import value

# A MAC waits for the others of its line after every weight ("tap"), or after a row of weights ("row").
Wait = Literal["tap", "row"]

_WAITS = ("tap", "row")
_DIGITS = 4  # radix-4 Booth digits of a signed number of 8 bits, of which a MAC of 8 bits is made


@dataclass(frozen=True)
class MacArray:
    """SmartExchange's machine: `slices` of outputs x `lines` of input channels x `macs` that are bit-serial.

    Args:
        slices: outputs at a time (the paper's dim_M); they share the inputs that are read.
        lines: input channels at a time (dim_C), whose sums a slice adds at the end of a pass.
        macs: positions at a time in a line (dim_F), which share a weight.
        engines: rebuild engines of a line; each shifts and adds a row of the basis, all its numbers, in a cycle.
        sums: outputs of one plane row that a slice holds in its accumulators: the positions of a pass.
        input_bits, weight_bits: of the numbers multiplied, at most 16; weights stored in fewer are unpacked.
        input_buffer, weight_buffer, output_buffer: bytes. Half of the first holds a layer's inputs, half its outputs;
            half of the second the weights of the outputs at work, half those that are being fetched.
        clock_ghz, dram_bits: the clock, and what DRAM gives or takes in a cycle of it.
        wait: when MACs of a line wait for the slowest of them.
        skip_zero_inputs: let the index selector leave out rows of activations that are all zero, for any weights.
        skip_zero_weights: let it leave out rows of weights that are all zero, where their form says which these are.
        skip_zero_digits: a zero digit takes no cycle, unless all of a number are zero, and no energy.
        mac_pj, add_pj, register_pj: of 8 bits. A digit that is not zero costs a quarter of a MAC.
        rebuild_pj: of 8 bits that an engine shifts and adds.
        input_buffer_pj, buffer_pj, dram_pj: of 8 bits, from the input buffer, the smaller buffers, DRAM.
        compare_pj: of two bits in the index selector.

    Raises `ChipError`, with the field's name, for what is out of range.
    """

    name: str
    slices: int
    lines: int
    macs: int
    engines: int
    sums: int
    input_bits: int
    weight_bits: int
    input_buffer: int
    weight_buffer: int
    output_buffer: int
    clock_ghz: float
    dram_bits: int
    wait: Wait
    skip_zero_inputs: bool
    skip_zero_weights: bool
    skip_zero_digits: bool
    mac_pj: float
    add_pj: float
    rebuild_pj: float
    register_pj: float
    input_buffer_pj: float
    buffer_pj: float
    dram_pj: float
    compare_pj: float

    def __post_init__(self) -> None:
        for name in ("slices", "lines", "macs", "engines", "sums", "input_buffer", "weight_buffer", "dram_bits"):
            if getattr(self, name) < 1:
                raise ChipError(f"{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("input_bits", "weight_bits"):
            if not 2 <= getattr(self, name) <= 16:
                raise ChipError(f"{name}: must be from 2 to 16, got {getattr(self, name)}")
        for name in (name for name in vars(self) if name.endswith("_pj")):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ChipError(f"{name}: must be at least 0, got {getattr(self, name)}")
        if not 0 < self.clock_ghz < float("inf"):
            raise ChipError(f"clock_ghz: must be above 0, got {self.clock_ghz}")
        if self.wait not in _WAITS:
            raise ChipError(f"wait: expected one of {', '.join(_WAITS)}, got {self.wait!r}")
        needed = -(-self.slices * self.sums * self.input_bits // 8)
        if self.output_buffer < needed:
            raise ChipError(
                f"output_buffer: a pass finishes {self.slices} x {self.sums} outputs, {needed:,} bytes, "
                f"got {self.output_buffer:,}"
            )

    @property
    def digit_pj(self) -> float:
        """Of one Booth digit that is not zero, times a weight. Our inference: a MAC of 8 x 8 bits is four of them."""
        return self.mac_pj / _DIGITS * self.weight_bits / 8

    @property
    def all_macs(self) -> int:
        return self.slices * self.lines * self.macs


def smartdeal() -> MacArray:
    """64 slices x 16 lines x 8 MACs at 1 GHz, 28 nm: what we recall of SmartExchange, on which SmartDeal pays."""
    return MacArray(
        name="smartdeal",
        slices=int(value("array_slices")),
        lines=int(value("array_lines")),
        macs=int(value("array_macs")),
        engines=int(value("array_engines")),
        sums=int(value("array_sums")),
        input_bits=8,
        weight_bits=8,
        input_buffer=int(value("array_input_buffer")) << 10,
        weight_buffer=int(value("array_weight_buffer")) << 10,
        output_buffer=int(value("array_output_buffer")) << 10,
        clock_ghz=value("array_clock"),
        dram_bits=int(value("array_dram_cycle")),
        wait="tap",
        skip_zero_inputs=True,
        skip_zero_weights=True,
        skip_zero_digits=True,
        mac_pj=value("array_mac"),
        add_pj=value("array_add"),
        rebuild_pj=value("array_add"),
        register_pj=value("array_register"),
        input_buffer_pj=value("array_sram_large"),
        buffer_pj=value("array_sram_small"),
        dram_pj=value("array_dram"),
        compare_pj=value("array_compare"),
    )


ARRAYS: MappingProxyType[str, Callable[[], MacArray]] = MappingProxyType({"smartdeal": smartdeal})


def mac_energy_pj(weight_bits: int, input_bits: int) -> float:
    """Of a MAC of other widths; of 32 x 32 bits it is a float32 one.

    Our inference: the multiplier's energy goes with the product of the widths, the adder's with their mean, from the
    published 8 x 8; a float32 MAC costs as many of those as in Horowitz's table.

    >>> round(mac_energy_pj(8, 8), 3), round(mac_energy_pj(16, 8), 4), round(mac_energy_pj(32, 32), 2)
    (0.143, 0.2765, 2.86)
    """
    if weight_bits == input_bits == 32:
        return value("array_mac") * value("float32_over_int8")
    wide = weight_bits * input_bits / 64
    return value("array_multiply") * wide + value("array_add") * (weight_bits + input_bits) / 16
