"""What does a network compute on a chip, bit by bit, how accurate is that, and what does it cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from bale.errors import MappingError
from bale.hardware.bitserial import Converted, CrossbarMatrix
from bale.hardware.chip import Chip
from bale.hardware.cost import Cost, OnChip, batches, cost_on_chip, put_on_chip
from bale.hardware.evaluating import evaluating
from bale.hardware.noise import Noise
from bale.hardware.quantize import IntegerMatrix, integer_product, run_in_integers
from bale.hardware.workers import workers

# vectors of each matrix, and of a call of it, that run both ways where a product stands in for conversions
_BOTH_WAYS, _AT_A_TIME = 256, 64


@dataclass
class LayerRun:
    """What one matrix's conversions did to its sums, over all samples.

    `wrong` of `sums` are not the quantised network's integers for the same inputs; `largest_error` is how far at
    most, `relative_error` the root of their squares' sum over that of the exact sums. `stood_in`: every conversion is
    lossless by the exact bound, and an integer product stood in for them, but for `both_ways` vectors, which ran both
    ways. Of its `inputs` so many were `beyond` the range that calibration has seen, and became its end.
    """

    name: str
    stood_in: bool
    converted: Converted = field(default_factory=Converted)
    sums: int = 0
    wrong: int = 0
    largest_error: int = 0
    both_ways: int = 0
    squared_error: float = 0.0
    squared: float = 0.0
    inputs: int = 0
    beyond: int = 0

    @property
    def relative_error(self) -> float:
        return (self.squared_error / self.squared) ** 0.5 if self.squared else 0.0

    def compare(self, got: Tensor, exact: Tensor) -> None:
        """Count how sums differ from the exact ones."""
        error = (got - exact).abs()
        self.sums += got.numel()
        self.wrong += int(error.count_nonzero())
        self.largest_error = max(self.largest_error, int(error.max())) if error.numel() else self.largest_error
        self.squared_error += float(error.double().square().sum())
        self.squared += float(exact.double().square().sum())


@dataclass(frozen=True)
class Run:
    """A network's results on a chip, trial after trial of devices drawn anew.

    Accuracies are shares of `samples`; None without labels. `agreement`: samples whose largest output is that of the
    quantised network, None where results are not [samples, classes]; `output_error`: the largest difference of
    outputs from it. Of the trials: means, and the spread of accuracies, a standard deviation.
    """

    samples: int
    accuracy_float: float | None
    accuracy_quantised: float | None
    accuracies: tuple[float, ...]
    agreement: float | None
    output_error: float
    layers: tuple[LayerRun, ...]
    noise: Noise
    seed: int
    trials: int

    @property
    def accuracy(self) -> float | None:
        """The mean over trials."""
        return sum(self.accuracies) / len(self.accuracies) if self.accuracies else None

    @property
    def spread(self) -> float:
        """The standard deviation over trials; 0 of one."""
        return float(torch.tensor(self.accuracies).std()) if len(self.accuracies) > 1 else 0.0

    @property
    def clipped(self) -> int:
        return sum(layer.converted.clipped for layer in self.layers)

    @property
    def exact(self) -> bool:
        """Were all sums the quantised network's integers?"""
        return not any(layer.wrong for layer in self.layers)


@dataclass(frozen=True)
class Simulation:
    """What a network costs on a chip, and what it computed there."""

    cost: Cost
    run: Run


def simulate(
    model: nn.Module,
    chip: Chip | str | PathLike[str],
    data: Tensor | Sequence[Any],
    labels: Tensor | None = None,
    *,
    noise: Noise | None = None,
    seed: int = 0,
    trials: int = 1,
    every_conversion: bool = False,
    images: int = 16,
    on_samples: Callable[[int], None] | None = None,
    **options: Any,
) -> Simulation:
    """Map a PyTorch model as it is on a chip, run `data` through its crossbars bit by bit, and count what that costs.

    `model` is called in evaluation mode and left as it was; `data` is a tensor [samples, ...] or a sequence of
    samples; with `labels` [samples], of classes that the model's results [samples, classes] rank, accuracies are
    reported. `chip`: a `Chip`, a preset's name or a YAML file. Where the exact bound proves every conversion of a
    matrix lossless an integer product stands in for them, and some vectors run both ways; `every_conversion=True`
    makes them all. `noise` draws devices `trials` times, from `seed`. `on_samples` is told how many samples were
    done.

    Options: `weight_bits`, `input_bits` (the chip's by default), `adc_bits` (of the converters: a number, bits by
    matrix, or those of a lossless bound, "exact" or "a priori"; see `with_converters`), `calibration` (samples),
    `crossbars` (a budget), `copy=False` (one copy of each matrix), `multiplex=True` (turns, on a chip that is too
    small), `strict=True` (refuse products that stay digital), `circulant` (`CirculantMapping`, or k:
    circulant blocks of k x k are stored once). `images` go through the pipeline.

    Raises `ChipError`, which names the chip's field, and `MappingError`, which names the layer.
    """
    on_chip = put_on_chip(model, chip, data, **options)
    return Simulation(
        cost_on_chip(on_chip, model, data, images=images),
        run_on_chip(
            on_chip,
            model,
            data,
            labels,
            noise=noise,
            seed=seed,
            trials=trials,
            every_conversion=every_conversion,
            on_samples=on_samples,
        ),
    )


def run_on_chip(
    on_chip: OnChip,
    model: nn.Module,
    data: Tensor | Sequence[Any],
    labels: Tensor | None = None,
    *,
    noise: Noise | None = None,
    seed: int = 0,
    trials: int = 1,
    every_conversion: bool = False,
    on_samples: Callable[[int], None] | None = None,
) -> Run:
    """The functional part of `simulate`."""
    noise = Noise() if noise is None else noise
    if trials < 1:
        raise MappingError(f"trials: must be at least 1, got {trials}")
    with evaluating(model):
        floats = [model(*given) for given in batches(data)]
    ranked = _check_results(model, floats, len(data))
    if labels is not None:
        labels = _check_labels(labels, len(data), ranked)
    quantised = list(run_in_integers(model, on_chip.network, on_chip.integers, batches(data), _exactly))
    layers: dict[str, LayerRun] = {}
    every = every_conversion or bool(noise)
    results = [_trial(on_chip, model, data, noise, seed + index, every, layers, on_samples) for index in range(trials)]
    return Run(
        samples=len(data),
        accuracy_float=None if labels is None else _accuracy(floats, labels),
        accuracy_quantised=None if labels is None else _accuracy(quantised, labels),
        accuracies=() if labels is None else tuple(_accuracy(result, labels) for result in results),
        agreement=sum(_accuracy(r, _classes(quantised)) for r in results) / trials if ranked else None,
        output_error=max(_difference(result, quantised) for result in results),
        layers=tuple(layers.values()),
        noise=noise,
        seed=seed,
        trials=trials,
    )


def _trial(
    on_chip: OnChip,
    model: nn.Module,
    data: Tensor | Sequence[Any],
    noise: Noise,
    seed: int,
    every: bool,
    layers: dict[str, LayerRun],
    on_samples: Callable[[int], None] | None,
) -> list[Tensor]:
    """The results of all data, of devices drawn from one seed; what conversions did is added to `layers`."""
    crossbars = {
        name: CrossbarMatrix.program(
            name,
            mapped.blocks,
            on_chip.chip,
            mapped.signed,
            adc_bits=on_chip.converters[name],
            noise=noise,
            seed=seed,
            circulant=mapped.circulant,
        )
        for name, mapped in on_chip.placement.matrices.items()
    }
    results = []
    with workers() as pool:
        multiply = _Multiply(crossbars, every, layers, pool)
        for result in run_in_integers(model, on_chip.network, on_chip.integers, batches(data), multiply):
            results.append(result)
            if on_samples is not None:
                on_samples(len(result) if isinstance(data, Tensor) else 1)
    for name, crossbar in crossbars.items():
        layers[name].converted.add(crossbar.converted)
    return results


class _Multiply:
    """Multiplies in crossbars, and compares with the exact sums."""

    def __init__(
        self, crossbars: dict[str, CrossbarMatrix], every: bool, layers: dict[str, LayerRun], pool: Executor | None
    ) -> None:
        self.crossbars = crossbars
        self.layers = layers
        self.pool = pool
        for name, crossbar in crossbars.items():
            layers.setdefault(name, LayerRun(name, crossbar.lossless and not every))

    def __call__(self, matrix: IntegerMatrix, inputs: Tensor, beyond: int) -> Tensor:
        layer, crossbar = self.layers[matrix.name], self.crossbars[matrix.name]
        layer.inputs += inputs.numel()
        layer.beyond += beyond
        exact = _exactly(matrix, inputs)
        if not layer.stood_in:
            got = crossbar.multiply(inputs, self.pool)
            layer.compare(got, exact)
            return got
        if layer.both_ways < _BOTH_WAYS:
            apart = slice(None, None, max(1, -(-len(inputs) // _AT_A_TIME)))  # windows side by side are much alike
            got = crossbar.multiply(inputs[apart])
            layer.both_ways += len(got)
            assert torch.equal(got, exact[apart]), f"{matrix.name}: a conversion proved lossless was not"
        layer.sums += exact.numel()
        return exact


def _exactly(matrix: IntegerMatrix, inputs: Tensor, beyond: int = 0) -> Tensor:
    return integer_product(inputs, matrix.weight, matrix.highest_input)


def _check_results(model: nn.Module, results: Sequence[Any], samples: int) -> bool:
    """Do results rank classes: a row of two or more for each sample? Raises `MappingError` for what is no tensor."""
    for result in results:
        if not isinstance(result, Tensor):
            raise MappingError(
                f"{type(model).__name__}: gives a {type(result).__name__}; wrap it so that it gives a tensor, "
                "[samples, classes] where its accuracy is asked for"
            )
    rows = [result.shape[0] if result.dim() == 2 else 1 for result in results]
    return sum(rows) == samples and all(result.dim() in (1, 2) and result.shape[-1] > 1 for result in results)


def _check_labels(labels: Any, samples: int, ranked: bool) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.shape != (samples,):
        raise MappingError(f"labels: expected one class for each of {samples} samples, got shape {tuple(labels.shape)}")
    if not ranked:
        raise MappingError(
            "labels: the model's results are not [samples, classes] with two classes or more; leave them out"
        )
    return labels


def _classes(results: Iterable[Tensor]) -> Tensor:
    """The class of each sample, of results [samples, classes] or, of one sample, [classes]."""
    return torch.cat([result.argmax(-1).reshape(-1) for result in results])


def _accuracy(results: Iterable[Tensor], labels: Tensor) -> float:
    """The share of samples whose largest output is that of their label."""
    return float((_classes(results) == labels.to(torch.int64)).double().mean())


def _difference(results: Iterable[Tensor], others: Iterable[Tensor]) -> float:
    """The largest difference of any output."""
    pairs = zip(results, others, strict=True)
    return max(float((result - other).abs().max()) for result, other in pairs)
