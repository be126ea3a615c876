"""What a run did and what a policy is, as text for people, as data for programs, as pictures."""

from bale.report.array_tables import array_dict, array_table
from bale.report.chip_tables import chip_summary, chip_table, constants_table
from bale.report.codesign import codesign_dict, codesign_table, draw_front
from bale.report.compression import CompressionResult, compression_dict, compression_table
from bale.report.hardware import chip_report, simulation_dict
from bale.report.hardware_pictures import draw_energy, draw_pipeline
from bale.report.hardware_tables import simulation_table
from bale.report.mac_array import mac_array_dict, mac_array_table, training_tensor_table
from bale.report.noc import noc_dict, noc_table
from bale.report.noc_pictures import draw_noc
from bale.report.policies import draw_policy, draw_schedule
from bale.report.policy_tables import comparison_dict, comparison_table, policy_dict, policy_facts, policy_table
from bale.report.training import training_dict, training_table

__all__ = [
    "CompressionResult",
    "array_dict",
    "array_table",
    "chip_report",
    "chip_summary",
    "chip_table",
    "codesign_dict",
    "codesign_table",
    "comparison_dict",
    "comparison_table",
    "compression_dict",
    "compression_table",
    "constants_table",
    "draw_energy",
    "draw_front",
    "draw_noc",
    "draw_pipeline",
    "draw_policy",
    "draw_schedule",
    "mac_array_dict",
    "mac_array_table",
    "noc_dict",
    "noc_table",
    "policy_dict",
    "policy_facts",
    "policy_table",
    "simulation_dict",
    "simulation_table",
    "training_dict",
    "training_table",
    "training_tensor_table",
]
