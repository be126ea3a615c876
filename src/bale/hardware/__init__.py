"""A model of an accelerator: a PyTorch model on crossbars, its integers exactly, its energy, time and area."""

from bale.hardware.adc import LAWS
from bale.hardware.bitserial import Converted, CrossbarMatrix
from bale.hardware.bounds import Lossless, lossless
from bale.hardware.chip import Adc, Cell, Chip, Crossbar, Encoding, Event, Unit
from bale.hardware.chip_file import chip_dict, dump_chip, load_chip, parse_chip
from bale.hardware.circulant import CirculantMapping
from bale.hardware.constants import CONSTANTS, Constant
from bale.hardware.cost import Cost, LayerCost, OnChip, cost, cost_on_chip, put_on_chip, with_converters
from bale.hardware.encode import Block, encode
from bale.hardware.events import Energy, Ledger
from bale.hardware.mapping import Placement
from bale.hardware.noc.analytic import (
    ROUTER_ENERGIES,
    NocEnergy,
    link_loads,
    traffic_ways,
    way_energy_pj,
    way_latency,
)
from bale.hardware.noc.estimate import NocEstimate, estimate_noc
from bale.hardware.noc.matrix_traffic import MatrixTraffic, matrix_traffic, tile_flows, weight_masks
from bale.hardware.noc.packets import Packets, flow_packets, uniform_packets
from bale.hardware.noc.placement import PLACEMENTS, bit_hops, place_tiles
from bale.hardware.noc.simulator import NocRun, Router, simulate_noc
from bale.hardware.noc.topology import Mesh, mesh_of
from bale.hardware.noc.ways import Ways
from bale.hardware.noise import Noise, parse_noise
from bale.hardware.presets import PRESETS, isaac_adc, isaac_ce, small_tiles
from bale.hardware.replicate import Load, replicate
from bale.hardware.roll_up import Peak, peak
from bale.hardware.simulate import LayerRun, Run, Simulation, run_on_chip, simulate

__all__ = [
    "CONSTANTS",
    "LAWS",
    "PLACEMENTS",
    "PRESETS",
    "ROUTER_ENERGIES",
    "Adc",
    "Block",
    "Cell",
    "Chip",
    "CirculantMapping",
    "Constant",
    "Converted",
    "Cost",
    "Crossbar",
    "CrossbarMatrix",
    "Encoding",
    "Energy",
    "Event",
    "LayerCost",
    "LayerRun",
    "Ledger",
    "Load",
    "Lossless",
    "MatrixTraffic",
    "Mesh",
    "NocEnergy",
    "NocEstimate",
    "NocRun",
    "Noise",
    "OnChip",
    "Packets",
    "Peak",
    "Placement",
    "Router",
    "Run",
    "Simulation",
    "Unit",
    "Ways",
    "bit_hops",
    "chip_dict",
    "cost",
    "cost_on_chip",
    "dump_chip",
    "encode",
    "estimate_noc",
    "flow_packets",
    "isaac_adc",
    "isaac_ce",
    "link_loads",
    "load_chip",
    "lossless",
    "matrix_traffic",
    "mesh_of",
    "parse_chip",
    "parse_noise",
    "peak",
    "place_tiles",
    "put_on_chip",
    "replicate",
    "run_on_chip",
    "simulate",
    "simulate_noc",
    "small_tiles",
    "tile_flows",
    "traffic_ways",
    "uniform_packets",
    "way_energy_pj",
    "way_latency",
    "weight_masks",
    "with_converters",
]
