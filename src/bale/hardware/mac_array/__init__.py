"""An accelerator of bit-serial MACs that rebuilds weights from powers of two, as SmartDeal's: energy, time, traffic."""

from bale.hardware.mac_array.array import ARRAYS, MacArray, mac_energy_pj, smartdeal
from bale.hardware.mac_array.booth import booth_digits, digit_counts
from bale.hardware.mac_array.cost import ArrayLayer, MacArrayCost, compare, mac_array_cost, mac_array_costs
from bale.hardware.mac_array.counts import Counts
from bale.hardware.mac_array.rebuild import rebuild
from bale.hardware.mac_array.training import (
    SCHEMES,
    DenseTraining,
    Optimiser,
    SmartDealTraining,
    TrainingCost,
    TrainingTensor,
    training_cost,
)
from bale.hardware.mac_array.weights import (
    Decomposed,
    DenseWeights,
    SparseRows,
    UniformWeights,
    WeightForm,
    by_matrix,
    dense_weights,
    equal_byte_weights,
)

__all__ = [
    "ARRAYS",
    "SCHEMES",
    "ArrayLayer",
    "Counts",
    "Decomposed",
    "DenseTraining",
    "DenseWeights",
    "MacArray",
    "MacArrayCost",
    "Optimiser",
    "SmartDealTraining",
    "SparseRows",
    "TrainingCost",
    "TrainingTensor",
    "UniformWeights",
    "WeightForm",
    "booth_digits",
    "by_matrix",
    "compare",
    "dense_weights",
    "digit_counts",
    "equal_byte_weights",
    "mac_array_cost",
    "mac_array_costs",
    "mac_energy_pj",
    "rebuild",
    "smartdeal",
    "training_cost",
]
