"""Compression: weights stored as fewer numbers or fewer bits, by one verb and one config for each method."""

from bale.compress.adc_aware import ADCAwareConfig
from bale.compress.admm import Admm
from bale.compress.api import bake_, compress_
from bale.compress.block_circulant import BlockCirculantConfig
from bale.compress.buckets import Buckets
from bale.compress.columns import ColumnBounds, column_bounds
from bale.compress.communication import CommunicationAwareConfig, communication_cost
from bale.compress.compressor import Compressor
from bale.compress.config import Config, Filter
from bale.compress.magnitude import MagnitudeConfig
from bale.compress.methods import METHODS, config_from_dict, parse_config
from bale.compress.packed import Packed, decompositions, load_packed_, pack, read_packed, save_packed, unpack
from bale.compress.packed_pieces import Decomposition, stored_coefficients
from bale.compress.projection import Projection
from bale.compress.smartdeal import SmartDealConfig
from bale.compress.structured import StructuredConfig
from bale.compress.summary import Report, WeightReport
from bale.compress.traffic import Traffic, WeightTraffic
from bale.compress.uniform import UniformQuantConfig
from bale.compress.weights import all_weights

__all__ = [
    "METHODS",
    "ADCAwareConfig",
    "Admm",
    "BlockCirculantConfig",
    "Buckets",
    "ColumnBounds",
    "CommunicationAwareConfig",
    "Compressor",
    "Config",
    "Decomposition",
    "Filter",
    "MagnitudeConfig",
    "Packed",
    "Projection",
    "Report",
    "SmartDealConfig",
    "StructuredConfig",
    "Traffic",
    "UniformQuantConfig",
    "WeightReport",
    "WeightTraffic",
    "all_weights",
    "bake_",
    "column_bounds",
    "communication_cost",
    "compress_",
    "config_from_dict",
    "decompositions",
    "load_packed_",
    "pack",
    "parse_config",
    "read_packed",
    "save_packed",
    "stored_coefficients",
    "unpack",
]
