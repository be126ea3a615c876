"""What does a step of training store and spend, with dense weights and with coefficients and bases?

Counted are the matrices' weights, their gradients, what an optimiser keeps of them, and the activations that stay until
the backward pass: inputs of matrices, of normalisations, and what gates gave. Left out, for all alike: biases and
norms' parameters, places of maxima in pools, and the errors that travel back, of which none stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from bale.errors import MappingError
from bale.hardware.cost import batches
from bale.hardware.layers import Matrix
from bale.hardware.mac_array.array import MacArray, mac_energy_pj
from bale.hardware.mac_array.counts import Traffic
from bale.hardware.mac_array.rows import RowShape, row_shapes
from bale.hardware.mac_array.traffic import plane_widths, traffic_of
from bale.hardware.mac_array.weights import Decomposed, DenseWeights, Stored, check_names, stored_on
from bale.hardware.network import Network, read_network

TensorKind = Literal["weights", "gradients", "optimiser", "activations"]

_KEPT = frozenset(("batch_norm", "group_norm", "instance_norm", "layer_norm", "gates"))
# How often a tensor passes DRAM in a step. Weights: for forward, for backward, and into the update and out of it.
_PASSES: dict[TensorKind, int] = {"weights": 4, "gradients": 2, "optimiser": 2, "activations": 2}


@dataclass(frozen=True)
class Optimiser:
    """What an optimiser keeps of each weight, and the multiply-accumulates of its update (ours: a root counts as one).

    SGD with momentum: m = b m + g, w = w - r m. Adam: two moments, of which the second squares; root, quotient, step.
    """

    name: str
    moments: int
    macs: int


MOMENTUM, ADAM = Optimiser("momentum", 1, 2), Optimiser("Adam", 2, 8)


@dataclass(frozen=True)
class DenseTraining:
    """Training with dense weights; bits of a weight, a gradient or error, a moment, an activation."""

    name: str
    optimiser: Optimiser
    weight_bits: int = 32
    gradient_bits: int = 32
    moment_bits: int = 32
    activation_bits: int = 32


@dataclass(frozen=True)
class SmartDealTraining:
    """Training of coefficients and bases, in the variant that switches buckets, on a frozen mask.

    A coefficient that is not zero has its stored bits, and a counter of `counter_bits` (our inference) for the signs of
    its large updates; no latent number. A basis is trained as dense weights are, in 8 bits. Matrices that are not
    decomposed are dense, of 8 bits.
    """

    name: str = "SmartDeal"
    optimiser: Optimiser = MOMENTUM
    counter_bits: int = 8
    gradient_bits: int = 8
    moment_bits: int = 8
    activation_bits: int = 8


Scheme = DenseTraining | SmartDealTraining

SCHEMES: tuple[Scheme, ...] = (
    DenseTraining("float32, momentum", MOMENTUM),
    DenseTraining("float32, Adam", ADAM),
    DenseTraining("8 bit, momentum", MOMENTUM, 8, 8, 8, 8),
    SmartDealTraining(),
)


@dataclass(frozen=True)
class TrainingTensor:
    """A tensor that is there during a step: whose, what of it, how many numbers of how many bits in the mean."""

    layer: str
    name: str
    kind: TensorKind
    numbers: int
    bits: float

    @property
    def total_bits(self) -> float:
        return self.numbers * self.bits


@dataclass(frozen=True)
class TrainingCost:
    """What a step of training with `batch` samples stores, tensor by tensor, and spends, by component in pJ."""

    scheme: str
    batch: int
    tensors: tuple[TrainingTensor, ...]
    energy_pj: dict[str, float]

    @property
    def bytes(self) -> float:
        return sum(self.by_kind().values())

    @property
    def total_pj(self) -> float:
        return sum(self.energy_pj.values())

    def by_kind(self) -> dict[TensorKind, float]:
        """Bytes."""
        return {kind: sum(t.total_bits for t in self.tensors if t.kind == kind) / 8 for kind in _PASSES}

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {**asdict(self), "bytes": self.bytes, "bytes_by_kind": self.by_kind(), "total_pj": self.total_pj}


def training_cost(
    model: nn.Module,
    array: MacArray,
    data: Tensor | Sequence[Any],
    decompositions: Mapping[str, Decomposed],
    *,
    batch: int = 64,
    schemes: Sequence[Scheme] = SCHEMES,
) -> tuple[TrainingCost, ...]:
    """What a step with `batch` samples like the first of `data` stores and spends, for each scheme.

    A step is three products for each matrix: outputs; errors of its inputs, but for those that come from outside;
    gradients of its weights. Rows of weights without coefficients are left out of all three; zeros of activations are
    not. Operands are read from the buffers as often as inference reads them, weights once for a pass and inputs
    once for the slices at work; every batch fetches weights once for each product. A MAC costs what `mac_energy_pj`
    says of its widths, on an array that would have such MACs. Raises `MappingError` for weights that fit no matrix.
    """
    if batch < 1:
        raise MappingError(f"batch: must be at least 1, got {batch}")
    network = read_network(model, next(batches(data, 1)))
    check_names(network, decompositions)
    shapes = row_shapes(model, network)
    traffic, widths = traffic_of(network, array, shapes), plane_widths(network)
    costs = []
    for scheme in schemes:
        forms = decompositions if isinstance(scheme, SmartDealTraining) else {}
        parts = [
            _Part(array, scheme, batch, network, matrix, shapes[name], traffic[name], widths[name], forms.get(name))
            for name, matrix in network.matrices.items()
        ]
        tensors = [tensor for part in parts for tensor in part.tensors()] + _kept_maps(network, scheme, batch)
        energy: dict[str, float] = {}
        for part in parts:
            for component, pj in part.energy().items():
                energy[component] = energy.get(component, 0.0) + pj
        moved = sum(tensor.total_bits * _PASSES[tensor.kind] for tensor in tensors)
        energy["DRAM"] = energy.get("DRAM", 0.0) + moved / 8 * array.dram_pj
        energy["buffers"] += moved / 8 * array.buffer_pj
        costs.append(TrainingCost(scheme.name, batch, tuple(tensors), energy))
    return tuple(costs)


def _kept_maps(network: Network, scheme: Scheme, batch: int) -> list[TrainingTensor]:
    """Activations that functions keep which are no matrices."""
    return [
        TrainingTensor(op.layer, op.function, "activations", op.elements * batch, scheme.activation_bits)
        for op in network.digital
        if op.function in _KEPT
    ]


@dataclass(frozen=True, eq=False)
class _Part:
    """One matrix in a step of training."""

    array: MacArray
    scheme: Scheme
    batch: int
    network: Network
    matrix: Matrix
    shape: RowShape
    traffic: Traffic
    width: int
    form: Decomposed | None

    @property
    def weight_bits(self) -> int:
        """Of a weight as it is multiplied."""
        return self.scheme.weight_bits if isinstance(self.scheme, DenseTraining) else self.array.weight_bits

    def tensors(self) -> list[TrainingTensor]:
        """Of the matrix, and its inputs."""
        inputs = self._tensor("inputs", "activations", self.traffic.inputs * self.batch, self.scheme.activation_bits)
        if self.form is None:
            return [*self._trained("weights", self.matrix.weight.numel(), self.weight_bits), inputs]
        size = self.shape.size
        many, numbers = int(np.count_nonzero(self.form.coefficients)), self.form.pieces * size * size
        assert isinstance(self.scheme, SmartDealTraining)
        entries = self.form.coefficients.size
        return [
            self._tensor("coefficients", "weights", many, self.form.coefficient_bits),
            self._tensor("index", "weights", entries, self.form.index_bits_total / entries),
            self._tensor("gradients of coefficients", "gradients", many, self.scheme.gradient_bits),
            self._tensor("counters of buckets", "optimiser", many, self.scheme.counter_bits),
            *self._trained("bases", numbers, self.form.basis_bits_total / numbers),
            inputs,
        ]

    def _trained(self, name: str, numbers: int, bits: float) -> list[TrainingTensor]:
        """Numbers with a gradient and an optimiser's moments."""
        moments = [f"moment {place + 1} of {name}" for place in range(self.scheme.optimiser.moments)]
        return [
            self._tensor(name, "weights", numbers, bits),
            self._tensor(f"gradients of {name}", "gradients", numbers, self.scheme.gradient_bits),
            *(self._tensor(moment, "optimiser", numbers, self.scheme.moment_bits) for moment in moments),
        ]

    def _tensor(self, name: str, kind: TensorKind, numbers: int, bits: float) -> TrainingTensor:
        return TrainingTensor(self.matrix.name, name, kind, numbers, bits)

    @property
    def stored(self) -> Stored:
        form = DenseWeights(self.array.weight_bits, scale_bits=0) if self.form is None else self.form
        return stored_on(self.array, self.matrix, self.shape, form)

    def energy(self) -> dict[str, float]:
        """pJ of products, update, rebuilding, buffers, and of DRAM for maps that do not fit."""
        scheme, array, form = self.scheme, self.array, self.stored
        share = float((form.used * self.shape.taps).sum()) / self.matrix.weight.numel()
        positions = self.traffic.outputs // self.matrix.width * self.batch
        macs = self.matrix.weight.numel() * positions * share
        to_inputs = macs * (not self._from_outside())
        weight, error, value = self.weight_bits, scheme.gradient_bits, scheme.activation_bits
        weight_loads = (macs + to_inputs) / min(array.sums, self.width)
        stored_bits = form.bits / self.matrix.weight.numel() if self.form is not None else weight
        input_loads = (macs * (value + error) + to_inputs * error) / min(array.slices, self.matrix.outputs)
        # Gradients stay in the accumulators for as many positions as outputs do; the errors come row by row.
        error_loads = macs / min(array.sums, self.width) * error
        results = self.traffic.outputs * self.batch * value + self.traffic.inputs * self.batch * error * (to_inputs > 0)
        rebuilds = positions / min(array.sums, self.width) * (1 + (to_inputs > 0)) * (self.form is not None)
        small = weight_loads * min(stored_bits, weight) + error_loads + 2 * results
        return {
            "forward": macs * mac_energy_pj(weight, value),
            "backward to inputs": to_inputs * mac_energy_pj(weight, error),
            "backward to weights": macs * mac_energy_pj(value, error),
            "gradients of Ce and B": self._projected_pj(form),
            "update": self._update_pj(),
            "rebuild engines": float(form.shift_adds.sum()) * rebuilds * array.rebuild_pj,
            "buffers": small / 8 * array.buffer_pj + input_loads / 8 * array.input_buffer_pj,
            "DRAM": self._spilled_bits() / 8 * array.dram_pj,
        }

    def _from_outside(self) -> bool:
        calls = [call for call in self.network.calls if call.matrix == self.matrix.name]
        return all(not call.inputs and not call.use.of_state for call in calls)

    def _projected_pj(self, form: Stored) -> float:
        """dC = dW B^T where coefficients are not zero: S MACs each. dB = C^T dW: as many shifts-and-adds."""
        if self.form is None:
            return 0.0
        each = mac_energy_pj(self.weight_bits, self.scheme.gradient_bits) + self.array.add_pj
        return float(form.shift_adds.sum()) * each

    def _update_pj(self) -> float:
        """Of weights or bases by the optimiser; a counter of coefficients takes an addition."""
        numbers = sum(t.numbers for t in self.tensors() if t.kind == "weights" and t.name in ("weights", "bases"))
        counted = sum(t.numbers for t in self.tensors() if t.name == "coefficients")
        each = self.scheme.optimiser.macs * mac_energy_pj(self.weight_bits, self.weight_bits)
        return numbers * each + counted * self.array.add_pj

    def _spilled_bits(self) -> float:
        """Of maps and errors too large for the buffer: inputs are read once more, errors go out and come in."""
        fits = 8 * self.array.input_buffer / 2
        inputs, outputs = (
            many * self.scheme.activation_bits > fits for many in (self.traffic.inputs, self.traffic.outputs)
        )
        again = self.traffic.inputs * self.scheme.activation_bits * inputs
        errors = 2 * self.traffic.outputs * self.scheme.gradient_bits * outputs
        return float(again + errors) * self.batch
