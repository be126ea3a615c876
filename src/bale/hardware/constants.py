"""Every constant of the accelerator model: its value, its unit, where it is from, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# published in the source named / recalled from it and not read again / our inference, from what else is published
Mark = Literal["published", "recalled", "inferred"]

ISAAC = "ISAAC-CE (Shafiee et al., ISCA 2016)"
SABERI = "scaled from Saberi et al. (TCAS-I 2011), anchored at ISAAC's 8 bit"
MURMANN = "regression over Murmann's survey (arXiv 2404.06553), 32 nm, 1.28 GS/s"
NEUROSIM = "NeuroSim V1.4, SAR, 32 nm LSTP"
MNSIM = "MNSIM's table"
RERAM = "ReRAM of 1.33k to 20k ohm, .2 V"
HISIM = "HISIM's latency of a network on chip"
PARK = "4x4 mesh in 45 nm silicon (Park et al., DAC 2012), of a delivered bit"
PIPELAYER = "PipeLayer (Song et al., HPCA 2017)"
SMARTEXCHANGE = "SmartExchange (Zhao et al., ISCA 2020), 28 nm"
HOROWITZ = "Horowitz (ISSCC 2014), 45 nm"


@dataclass(frozen=True)
class Constant:
    """One number: `value` in `unit`, from `source`."""

    name: str
    value: float
    unit: str
    source: str
    mark: Mark


def _rows(source: str, mark: Mark, unit: str, **values: float) -> tuple[Constant, ...]:
    return tuple(Constant(name, value, unit, source, mark) for name, value in values.items())


CONSTANTS: tuple[Constant, ...] = (
    # ISAAC's table, of an IMA: of all ADCs, DACs, ... together
    *_rows(ISAAC, "published", "mW", ima_dac_power=4, ima_hold_power=0.01, ima_array_power=2.4, ima_shift_power=0.2),
    *_rows(ISAAC, "published", "mm2", ima_dac_area=0.00017, ima_hold_area=0.00004, ima_array_area=0.0002),
    *_rows(ISAAC, "published", "mm2", ima_shift_area=0.00024),
    *_rows(ISAAC, "recalled", "mW", ima_input_power=1.24, ima_output_power=0.23),
    *_rows(ISAAC, "recalled", "mm2", ima_input_area=0.0021, ima_output_area=0.00077),
    # of a tile, and of a router that four tiles share
    *_rows(ISAAC, "published", "mW", edram_power=20.7, bus_power=7, router_power=42, sigmoid_power=0.52),
    *_rows(ISAAC, "published", "mm2", edram_area=0.083, bus_area=0.090, router_area=0.151, sigmoid_area=0.0006),
    *_rows(ISAAC, "recalled", "mW", tile_shift_power=0.05, pool_power=0.4, tile_output_power=1.68),
    *_rows(ISAAC, "recalled", "mm2", tile_shift_area=0.00006, pool_area=0.00024, tile_output_area=0.0032),
    # of the chip: four HyperTransport links of 6.4 GB/s
    *_rows(ISAAC, "published", "mW", link_power=10_400),
    *_rows(ISAAC, "published", "mm2", link_area=22.88),
    # What an event costs. Of the ADC, the DAC and the shift-and-add: the power above over 1.28 GS/s and 10 MHz, which
    # 128 conversions in 100 ns need; the published figures, at 1.2 GS/s, would not add up to the power above.
    *_rows(f"{ISAAC}, power over 10 MHz x 1,024 rows", "published", "pJ", dac_drive=0.391, hold=0.01e-3 / 1024 / 1e-5),
    *_rows(f"{ISAAC}, power over 8 x 1.28 GS/s", "published", "pJ", shift_add=0.0195),
    *_rows(f"{ISAAC}, .3 mW x 100 ns over 16,384 cells", "inferred", "fJ", cell_read=1.83),
    *_rows(f"{ISAAC}, power over 8 x 128 bit in 100 ns", "inferred", "pJ", input_register_bit=1.24e-3 / 1024 / 1e-5),
    *_rows(f"{ISAAC}, power over 8 x 1.28 GS/s", "inferred", "pJ", output_register=0.23 / 10.24),
    *_rows(f"{ISAAC}, per 256 bit", "published", "pJ", edram=20.45, router=20.74),
    *_rows(f"{ISAAC}, per bit", "published", "pJ", bus_bit=0.054),
    *_rows(f"{ISAAC}, as in an IMA", "inferred", "pJ", tile_shift_add=0.0195),
    *_rows(f"{ISAAC}, power of two over 2 x 1.28 GHz", "inferred", "pJ", sigmoid=0.52 / 2.56),
    *_rows(f"{ISAAC}, power over 1.28 GHz", "inferred", "pJ", pool=0.4 / 1.28),
    *_rows(f"{ISAAC}, power over 1.28 GHz, per 256 bit", "inferred", "pJ", tile_output=1.68 / 1.28),
    *_rows(f"{ISAAC}, power over 4 x 6.4 GB/s, per bit", "inferred", "pJ", link_bit=50.8),
    # the network on chip: a bit in a router, on a link; the cycles that a flit spends in a router's stages
    *_rows(f"{ISAAC}, per 256 bit, over 256", "published", "pJ", noc_router_bit_isaac=20.74 / 256),
    *_rows(
        f"{ISAAC}, power of a router over its bits, its clock assumed",
        "inferred",
        "pJ",
        noc_router_bit_conservative=0.164,
    ),
    *_rows(f"{ISAAC}, taken to be part of its router's", "inferred", "pJ", noc_link_bit=0),
    *_rows(PARK, "inferred", "pJ", noc_delivered_bit=0.60),
    *_rows(HISIM, "published", "cycles", noc_route_cycles=1, noc_vc_cycles=1, noc_switch_cycles=1),
    *_rows(HISIM, "published", "cycles", noc_traversal_cycles=1, noc_link_cycles=1, noc_enqueue_cycles=2),
    # cells
    *_rows(RERAM, "published", "ohm", cell_on=1330, cell_off=20_000),
    *_rows(RERAM, "published", "V", cell_volt=0.2),
    *_rows(RERAM, "published", "ns", cell_pulse=1),
    *_rows(f"{PIPELAYER}, of one write", "recalled", "ns", cell_write_time=50.88),
    *_rows(f"{PIPELAYER}, of one write", "recalled", "pJ", cell_write=3910),
    # what an ADC of so many bits costs a conversion, and its area
    *_rows(f"{SABERI}, 1.2 GS/s", "published", "pJ", saberi_4=0.79, saberi_5=0.99, saberi_6=1.20, saberi_7=1.42),
    *_rows(f"{ISAAC}, 2 mW over 1.2 GS/s", "published", "pJ", saberi_8=2 / 1.2),
    *_rows(f"{SABERI}, 1.2 GS/s", "published", "pJ", saberi_9=1.97, saberi_10=2.38),
    *_rows("1.2 over 1.28 GS/s", "published", "1", saberi_rate=0.9375),
    *_rows(SABERI, "published", "um2", saberi_area_4=361, saberi_area_5=477, saberi_area_6=627, saberi_area_7=845),
    *_rows(SABERI, "published", "um2", saberi_area_8=1200, saberi_area_9=1828, saberi_area_10=3002),
    *_rows(MURMANN, "published", "pJ", murmann_4=0.92, murmann_6=1.07, murmann_8=1.93, murmann_10=16.4),
    *_rows(f"{MURMANN}, at 8 bit", "published", "um2", murmann_area=6470),
    *_rows(NEUROSIM, "published", "uW", neurosim_slope=1.1294, neurosim_intercept=8.90),
    *_rows(NEUROSIM, "published", "W", neurosim_column=0.0794),
    *_rows(NEUROSIM, "published", "1", neurosim_column_exponent=-2.297),
    *_rows(f"{MNSIM}, 1.28 GS/s", "published", "mW", mnsim_4=0.7, mnsim_6=1.26, mnsim_8=2),
    *_rows(MNSIM, "published", "um2", mnsim_area_4=500, mnsim_area_6=580, mnsim_area_8=1200),
    # A digital array of MACs: what 8 bits cost. Its ratios, 9.5 and 700 MACs for SRAM and DRAM, are second-hand, too.
    *_rows(f"{SMARTEXCHANGE}, per 8 bit", "recalled", "pJ", array_mac=0.143, array_multiply=0.124, array_add=0.019),
    *_rows(f"{SMARTEXCHANGE}, per 8 bit", "recalled", "pJ", array_sram_small=1.36, array_sram_large=2.45),
    *_rows(f"{SMARTEXCHANGE}, per 8 bit", "recalled", "pJ", array_dram=100),
    *_rows("a register of some numbers: as an 8-bit adder", "inferred", "pJ", array_register=0.019),
    *_rows("two bits compared: an eighth of an 8-bit adder", "inferred", "pJ", array_compare=0.019 / 8),
    *_rows(f"{HOROWITZ}: float32 x and + over int8 x and +", "recalled", "1", float32_over_int8=(3.7 + 0.9) / 0.23),
    *_rows(SMARTEXCHANGE, "recalled", "1", array_slices=64, array_lines=16, array_macs=8, array_engines=2),
    *_rows(SMARTEXCHANGE, "recalled", "KiB", array_input_buffer=512, array_weight_buffer=256, array_output_buffer=4),
    *_rows(SMARTEXCHANGE, "recalled", "GHz", array_clock=1),
    *_rows("sums that a slice holds: its outputs fill half the output buffer", "inferred", "1", array_sums=32),
    *_rows("16 GB/s at 1 GHz: about a channel of DDR4-2133", "inferred", "bit", array_dram_cycle=128),
    # what training with SmartDeal is said to gain over dense training
    *_rows("SmartDeal (Chen et al., 2021)", "published", "1", claim_inference_energy=2.44),
    *_rows("SmartDeal (Chen et al., 2021)", "published", "1", claim_training_storage=10.56),
    *_rows("SmartDeal (Chen et al., 2021)", "published", "1", claim_training_energy=4.48),
)

_VALUES = {constant.name: constant.value for constant in CONSTANTS}
assert len(_VALUES) == len(CONSTANTS)


def value(name: str) -> float:
    """The value of a constant, in the table's unit."""
    return _VALUES[name]
