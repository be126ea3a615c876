"""What does a network cost on an array of MACs, in one form of its weights, and beside other forms?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from torch import Tensor, nn

from bale.errors import MappingError
from bale.hardware.call import Digital
from bale.hardware.cost import batches
from bale.hardware.mac_array.activity import activity
from bale.hardware.mac_array.array import MacArray
from bale.hardware.mac_array.counts import Counts, Tally
from bale.hardware.mac_array.rows import RowShape, row_shapes
from bale.hardware.mac_array.traffic import plane_widths, traffic_of, waiting_bits
from bale.hardware.mac_array.weights import (
    DECOMPOSED,
    DENSE,
    UNIFORM,
    Decomposed,
    WeightForm,
    check_names,
    dense_weights,
    equal_byte_weights,
    form_of,
    stored_on,
)
from bale.hardware.network import Network, read_network
from bale.hardware.quantize import IntegerMatrix, calibrate, integer_product, integers, run_in_integers

RESIDUALS = "(residual sums)"  # where is counted what waits in DRAM for a sum of two tensors
_DRAM_MAPS = "DRAM: inputs, outputs"


@dataclass(frozen=True)
class ArrayLayer:
    """One matrix on the array, for one sample: its shape, its weights as stored, its events, and their energy."""

    name: str
    groups: int
    rows: int
    outputs: int
    positions: int
    macs: int
    form: str
    weight_bits: float
    zero_rows: float
    counts: Counts
    energy_pj: dict[str, float]

    @property
    def total_pj(self) -> float:
        return sum(self.energy_pj.values())


@dataclass(frozen=True)
class MacArrayCost:
    """What one sample costs, mean over `samples` of the data; digital operations are listed, and cost nothing.

    Layers run one after another. `waiting_pj`: of maps that wait in DRAM for a residual sum.
    """

    model: str
    array: MacArray
    form: str
    layers: tuple[ArrayLayer, ...]
    digital: tuple[Digital, ...]
    samples: int
    waiting_bits: float
    waiting_pj: float

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bits(self) -> float:
        """Stored, of all matrices."""
        return sum(layer.weight_bits for layer in self.layers)

    @property
    def energy_pj(self) -> float:
        return sum(self.by_layer().values())

    def by_layer(self) -> dict[str, float]:
        """pJ by matrix, and of what waits for sums."""
        waiting = {RESIDUALS: self.waiting_pj} if self.waiting_pj else {}
        return {layer.name: layer.total_pj for layer in self.layers} | waiting

    def by_component(self) -> dict[str, float]:
        """pJ by part of the machine."""
        parts = {name: sum(layer.energy_pj[name] for layer in self.layers) for name in self.layers[0].energy_pj}
        parts[_DRAM_MAPS] += self.waiting_pj
        return parts

    @cached_property
    def cycles(self) -> float:
        return sum(layer.counts.cycles for layer in self.layers) + self.waiting_bits / self.array.dram_bits

    @property
    def latency_ns(self) -> float:
        return self.cycles / self.array.clock_ghz

    @property
    def utilisation(self) -> float:
        """MACs that add a digit, of all MACs in all cycles."""
        return sum(layer.counts.digits for layer in self.layers) / (self.cycles * self.array.all_macs)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it, sums included."""
        return {
            **asdict(self),
            "macs": self.macs,
            "weight_bits": self.weight_bits,
            "total_pj": self.energy_pj,
            "by_component_pj": self.by_component(),
            "by_layer_pj": self.by_layer(),
            "cycles": self.cycles,
            "latency_ns": self.latency_ns,
            "utilisation": self.utilisation,
        }


def energy_of_counts(counts: Counts, array: MacArray) -> dict[str, float]:
    """pJ by component; each event is paid by one."""
    return {
        "DRAM: weights": counts.dram_weight_bits / 8 * array.dram_pj,
        _DRAM_MAPS: (counts.dram_input_bits + counts.dram_output_bits) / 8 * array.dram_pj,
        "input buffer": counts.input_buffer_bits / 8 * array.input_buffer_pj,
        "weight buffer": counts.weight_buffer_bits / 8 * array.buffer_pj,
        "output buffer": counts.output_buffer_bits / 8 * array.buffer_pj,
        "registers": counts.registers * array.register_pj,
        "rebuild engines": counts.shift_adds * array.rebuild_pj,
        "index selector": counts.comparisons * array.compare_pj,
        "MACs": counts.digits * array.digit_pj,
        "sums of lines": counts.line_adds * array.add_pj,
    }


def mac_array_cost(
    model: nn.Module,
    array: MacArray,
    data: Tensor | Sequence[Any],
    weights: Mapping[str, WeightForm] | None = None,
    *,
    form: str = "given",
    samples: int = 4,
    calibration: int = 64,
) -> MacArrayCost:
    """Count what one sample of `data` costs on an array, with weights stored as described.

    Args:
        model: as it is, in evaluation mode; its matrices are read from the first sample.
        array: such as `smartdeal()`.
        data: a tensor [samples, ...] that the model takes in batches, or a sequence of samples.
        weights: the form of each matrix, by name; those not named are dense at 8 bits.
        form: a name of the whole, for tables.
        samples: how many of the data are run for their activations.
        calibration: how many of the data say how large inputs are.

    Activations are those of the model that is given, in the array's integers: give one that has the weights described.
    Each sample fetches its weights anew. Raises `MappingError` for weights that fit no matrix, and without data.

    >>> import torch
    >>> from bale.hardware.mac_array import smartdeal
    >>> cost = mac_array_cost(nn.Linear(6, 4), smartdeal(), torch.ones(2, 6))
    >>> cost.macs, cost.layers[0].counts.dram_weight_bits
    (24, 320.0)
    """
    (cost,) = mac_array_costs(model, array, data, {form: weights or {}}, samples=samples, calibration=calibration)
    return cost


def compare(
    model: nn.Module,
    array: MacArray,
    data: Tensor | Sequence[Any],
    decompositions: Mapping[str, Decomposed],
    *,
    samples: int = 4,
    calibration: int = 64,
) -> tuple[MacArrayCost, MacArrayCost, MacArrayCost]:
    """The costs of dense weights of 8 bits, of uniform ones in as many bytes as decomposed, and of decomposed ones.

    On the same array with the same activations, those of `model`; arguments as those of `mac_array_cost`.
    """
    network = _read(model, data)
    forms: dict[str, Mapping[str, WeightForm]] = {
        DENSE: dense_weights(network),
        UNIFORM: equal_byte_weights(network, decompositions),
        DECOMPOSED: decompositions,
    }
    dense, uniform, decomposed = mac_array_costs(model, array, data, forms, samples=samples, calibration=calibration)
    return dense, uniform, decomposed


def _read(model: nn.Module, data: Tensor | Sequence[Any]) -> Network:
    if not isinstance(data, Tensor | Sequence) or not len(data):
        raise MappingError("data: expected a tensor [samples, ...] or a list of samples, at least one")
    return read_network(model, next(batches(data, 1)))


def mac_array_costs(
    model: nn.Module,
    array: MacArray,
    data: Tensor | Sequence[Any],
    forms: Mapping[str, Mapping[str, WeightForm]],
    *,
    samples: int = 4,
    calibration: int = 64,
) -> tuple[MacArrayCost, ...]:
    """The costs of several forms of the weights, by name, from one run of the data; else as `mac_array_cost`."""
    for name, many in (("samples", samples), ("calibration", calibration)):
        if many < 1:
            raise MappingError(f"{name}: must be at least 1, got {many}")
    network = _read(model, data)
    for weights in forms.values():
        check_names(network, weights)
    shapes = row_shapes(model, network)
    complete = {form: {**dense_weights(network), **weights} for form, weights in forms.items()}
    tallies = {
        form: {
            name: Tally(array, matrix, shapes[name], stored_on(array, matrix, shapes[name], weights[name]))
            for name, matrix in network.matrices.items()
        }
        for form, weights in complete.items()
    }
    matrices = integers(network, array, calibrate(model, network, batches(data[:calibration])))
    ran = _run(model, array, network, matrices, shapes, list(tallies.values()), islice(batches(data, 1), samples))
    name = type(model).__name__
    return tuple(_cost(name, array, network, form, complete[form], tallies[form], ran) for form in tallies)


def _run(
    model: nn.Module,
    array: MacArray,
    network: Network,
    matrices: Mapping[str, IntegerMatrix],
    shapes: Mapping[str, RowShape],
    tallies: Sequence[Mapping[str, Tally]],
    inputs: Iterable[tuple[Any, ...]],
) -> int:
    """Run samples one by one, let every tally count them, and return how many there were."""
    widths = plane_widths(network)

    def multiply(matrix: IntegerMatrix, vectors: Tensor, beyond: int) -> Tensor:
        name = matrix.name
        # A plane may be of another width in a later call, of a model that is used for several.
        width = widths[name] if len(vectors) % widths[name] == 0 else max(1, len(vectors))
        groups = network.matrices[name].groups
        if len(vectors):
            seen = activity(array, shapes[name], vectors.numpy(), groups, width, matrix.signed)
            for by_name in tallies:
                by_name[name].add(seen)
        return integer_product(vectors, matrix.weight, matrix.highest_input)

    return sum(1 for _ in run_in_integers(model, network, matrices, inputs, multiply))


def _cost(
    model: str,
    array: MacArray,
    network: Network,
    form: str,
    weights: Mapping[str, WeightForm],
    tallies: Mapping[str, Tally],
    samples: int,
) -> MacArrayCost:
    traffic = traffic_of(network, array, {name: tally.shape for name, tally in tallies.items()})
    layers = []
    for name, matrix in network.matrices.items():
        counts = tallies[name].counts(traffic[name], samples)
        positions = sum(call.positions for call in network.calls if call.matrix == name)
        layers.append(
            ArrayLayer(
                name=name,
                groups=matrix.groups,
                rows=matrix.rows,
                outputs=matrix.outputs,
                positions=positions,
                macs=matrix.weight.numel() * positions,
                form=form_of(weights[name]),
                weight_bits=tallies[name].stored.bits,
                zero_rows=1 - float(tallies[name].stored.used.mean()),
                counts=counts,
                energy_pj=energy_of_counts(counts, array),
            )
        )
    waiting = waiting_bits(network, array)
    return MacArrayCost(
        model, array, form, tuple(layers), network.digital, samples, waiting, waiting / 8 * array.dram_pj
    )
