"""What does SmartDeal's array save, in an inference and in a step of training, and of what does the saving come?

Read in the authors' code: the decomposition. Recalled or inferred: the array (docs/hardware.md). Ours: the baselines.
Networks are given trained; nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bale.codesign.figure import Figure
from bale.hardware.constants import value
from bale.hardware.mac_array import (
    Decomposed,
    MacArray,
    MacArrayCost,
    TrainingCost,
    WeightForm,
    by_matrix,
    equal_byte_weights,
    mac_array_cost,
    mac_array_costs,
    training_cost,
)
from bale.hardware.mac_array.weights import DECOMPOSED, DENSE, UNIFORM
from bale.hardware.network import read_network

DENSE_BASELINE = "dense weights of 8 bits"
UNIFORM_BASELINE = "uniform weights of as many bytes"
BATCHES = (1, 64, 256)  # images of a step: one, as many as networks are trained with here, and many
CLAIMED_BATCH, CLAIMED_SCHEME = 64, "float32, momentum"

_SAMPLES, _CALIBRATION = 16, 64


@dataclass(frozen=True, eq=False)
class Inference:
    """What an image costs on one array, by the form of its weights.

    `dense` is of the dense network, with the inputs that its own matrices get; the others of the decomposed network.
    """

    dense: MacArrayCost
    uniform: MacArrayCost
    decomposed: MacArrayCost

    @property
    def by_baseline(self) -> dict[str, MacArrayCost]:
        return {DENSE_BASELINE: self.dense, UNIFORM_BASELINE: self.uniform}


def inference(
    dense: nn.Module,
    decomposed: nn.Module,
    weights: Mapping[str, Decomposed],
    array: MacArray,
    data: Tensor,
    *,
    samples: int = _SAMPLES,
) -> Inference:
    """Count what an image costs dense in 8 bits, quantised uniformly to as many bytes, and decomposed.

    Args:
        dense: the trained network before compression.
        decomposed: the network as it is read from the packed file, with plain layers.
        weights: that file's decompositions, by the weights' keys (`bale.compress.decompositions`); those of no
            decomposition are dense in 8 bits.
        array: such as `smartdeal()`.
        data: [images, channels, height, width] float32; of the first `samples` the mean is taken.

    The uniform form is one of size alone: what accuracy a network of so few bits has is for another training to say.
    Raises `MappingError` for weights of a matrix that the network has not, or of another shape.
    """
    network = read_network(decomposed, (data[:1],))
    forms = by_matrix(network, weights)
    before = mac_array_cost(dense, array, data, form=DENSE, samples=samples, calibration=_CALIBRATION)
    both: dict[str, Mapping[str, WeightForm]] = {UNIFORM: equal_byte_weights(network, forms), DECOMPOSED: forms}
    uniform, ours = mac_array_costs(decomposed, array, data, both, samples=samples, calibration=_CALIBRATION)
    return Inference(before, uniform, ours)


def inference_figures(costs: Inference) -> list[Figure]:
    """Energy in all, of the array's chip and of DRAM, and latency, over both baselines; bytes over dense weights."""
    ours = costs.decomposed
    figures = [
        Figure(
            "bytes of weights",
            DENSE_BASELINE,
            costs.dense.weight_bits / ours.weight_bits,
            conditions={"ours_bytes": ours.weight_bits / 8, "baseline_bytes": costs.dense.weight_bits / 8},
        )
    ]
    for baseline, other in costs.by_baseline.items():
        claim = value("claim_inference_energy") if baseline == DENSE_BASELINE else None
        facts = {"array": ours.array.name, "samples": ours.samples, "macs": ours.macs}
        figures += [
            _ratio(
                "energy of an inference", baseline, other.energy_pj, ours.energy_pj, "pj", claim, facts | shares(costs)
            ),
            _ratio("energy of an inference, chip alone", baseline, on_chip_pj(other), on_chip_pj(ours), "pj"),
            _ratio("energy of an inference, DRAM alone", baseline, dram_pj(other), dram_pj(ours), "pj"),
            _ratio("latency of an inference", baseline, other.latency_ns, ours.latency_ns, "ns"),
        ]
    return figures


def wide_macs_figure(costs: Inference, bits: int) -> Figure:
    """What MACs of the array's width save over such as hold rebuilt weights of so many bits, as exactness asks."""
    ours = costs.decomposed
    narrow = ours.by_component()["MACs"]
    wide = ours.energy_pj + narrow * (bits / ours.array.weight_bits - 1)
    facts = {"array_weight_bits": ours.array.weight_bits, "rebuilt_weight_bits": bits}
    baseline = "MACs as wide as the rebuilt weights"
    return _ratio("energy of an inference, MACs of 8 bits", baseline, wide, ours.energy_pj, "pj", None, facts)


def shares(costs: Inference) -> dict[str, Any]:
    """How much of the energy is DRAM's, form by form, and by part of the machine of the decomposed one."""
    by_form = {"dense": costs.dense, "uniform": costs.uniform, "decomposed": costs.decomposed}
    zero_rows = [layer.zero_rows for layer in costs.decomposed.layers]
    return {
        "dram_share": {form: dram_pj(cost) / cost.energy_pj for form, cost in by_form.items()},
        "ours_pj_by_component": costs.decomposed.by_component(),
        "bits_a_weight": costs.decomposed.weight_bits / _weights(costs.decomposed),
        "zero_rows_of_weights": zero_rows,
    }


def dram_pj(cost: MacArrayCost) -> float:
    """Of weights and maps."""
    return sum(pj for part, pj in cost.by_component().items() if part.startswith("DRAM"))


def on_chip_pj(cost: MacArrayCost) -> float:
    """Of all but DRAM."""
    return cost.energy_pj - dram_pj(cost)


def training(
    decomposed: nn.Module,
    weights: Mapping[str, Decomposed],
    array: MacArray,
    data: Tensor,
    batches: Sequence[int] = BATCHES,
) -> dict[int, dict[str, TrainingCost]]:
    """What a step of training stores and spends, by its images and by scheme; arguments as those of `inference`."""
    forms = by_matrix(read_network(decomposed, (data[:1],)), weights)
    return {
        batch: {cost.scheme: cost for cost in training_cost(decomposed, array, data, forms, batch=batch)}
        for batch in batches
    }


def training_figures(costs: Mapping[int, Mapping[str, TrainingCost]]) -> list[Figure]:
    """Storage and energy of a step over float32 and 8-bit training, and storage of all but activations.

    The claims stand beside float32 with momentum and `CLAIMED_BATCH` images, or the first batch size without them:
    which baseline and which mini-batch they are of is not known to us.
    """
    claimed = CLAIMED_BATCH if CLAIMED_BATCH in costs else next(iter(costs))
    figures: list[Figure] = []
    for batch, schemes in costs.items():
        *others, ours = schemes.values()
        for other in others:
            if other.scheme == CLAIMED_SCHEME:
                figures += _step_figures(other, ours, claimed=batch == claimed)
            elif batch == claimed:
                figures += _step_figures(other, ours, claimed=False)
    *others, ours = costs[claimed].values()
    figures += [
        _ratio("storage of training, without activations", other.scheme, kept_bytes(other), kept_bytes(ours), "bytes")
        for other in others
    ]
    return figures


def _step_figures(other: TrainingCost, ours: TrainingCost, claimed: bool) -> list[Figure]:
    storage, energy = (value(f"claim_training_{what}") if claimed else None for what in ("storage", "energy"))
    kinds = {"ours_bytes_by_kind": ours.by_kind(), "baseline_bytes_by_kind": other.by_kind()}
    parts = {"ours_pj_by_component": ours.energy_pj, "baseline_pj_by_component": other.energy_pj}
    step = f"a training step of {ours.batch}"
    return [
        _ratio(f"storage of {step}", other.scheme, other.bytes, ours.bytes, "bytes", storage, kinds),
        _ratio(f"energy of {step}", other.scheme, other.total_pj, ours.total_pj, "pj", energy, parts),
    ]


def kept_bytes(cost: TrainingCost) -> float:
    """Of weights, gradients and what the optimiser keeps: all that does not grow with the mini-batch."""
    return cost.bytes - cost.by_kind()["activations"]


def _ratio(
    figure: str,
    baseline: str,
    other: float,
    ours: float,
    unit: str,
    claim: float | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Figure:
    """How many times less ours is than the other."""
    conditions = {f"ours_{unit}": ours, f"baseline_{unit}": other, **(facts or {})}
    return Figure(figure, baseline, other / ours, claim=claim, conditions=conditions)


def _weights(cost: MacArrayCost) -> int:
    return sum(layer.groups * layer.rows * layer.outputs for layer in cost.layers)
