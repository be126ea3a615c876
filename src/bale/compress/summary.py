"""What did compression do to each layer? A report, as data, and as a text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bale.compress.code import Code
from bale.compress.config import Config
from bale.compress.packed import pack
from bale.compress.packing import pack_code
from bale.compress.weights import all_weights, coded_weights, count_parameters


@dataclass(frozen=True)
class WeightReport:
    """A weight after compression.

    name, shape   the layer's name, with the weight's where it has several; the shape that the plain layer has
    parameters    numbers of the weight as it was
    kept          numbers that are stored of it
    bits          of a stored number
    packed_bytes  in a packed file, with bitmap and scales
    macs          multiply-accumulates of the product with one vector (one position of a convolution's output, one step)
    macs_before   the same of the weight as it was, all its numbers counted
    error         Frobenius norm of the difference to the weight as it was, relative to that weight's norm; None: it has
                  fewer outputs or inputs now
    facts         what a method adds, such as `adc_bits`
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    kept: int
    bits: int
    packed_bytes: int
    macs: int
    macs_before: int
    error: float | None
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Bytes of the weight as it was, in 32 bits, over those packed."""
        return 4 * self.parameters / self.packed_bytes


@dataclass(frozen=True)
class Report:
    """A model after compression; `print(report)` shows it as a table.

    configs       the methods, in order
    weights       what was compressed, by layers in the order of registration
    skipped       layers and weights that were not, and why
    parameters    numbers of the whole model as it was before this compression, biases and norms too
    packed_bytes  of the whole model, as `save_packed` writes it with the configs
    """

    configs: tuple[Config, ...]
    weights: tuple[WeightReport, ...]
    skipped: Mapping[str, str]
    parameters: int
    packed_bytes: int

    @property
    def dense_bytes(self) -> int:
        """Of the model before, 4 for each parameter."""
        return 4 * self.parameters

    @property
    def ratio(self) -> float:
        return self.dense_bytes / self.packed_bytes

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        weights = [
            {**{k: v for k, v in vars(weight).items() if k != "facts"}, "shape": list(weight.shape)}
            | {"ratio": weight.ratio}
            | dict(weight.facts)
            for weight in self.weights
        ]
        return {
            "configs": [config.to_dict() for config in self.configs],
            "parameters": self.parameters,
            "dense_bytes": self.dense_bytes,
            "packed_bytes": self.packed_bytes,
            "ratio": self.ratio,
            "weights": weights,
            "skipped": dict(self.skipped),
        }

    def __str__(self) -> str:
        facts = list(dict.fromkeys(name for weight in self.weights for name in weight.facts))
        head = ["weight", "shape", "parameters", "kept", "bits", "bytes", "ratio", "macs", "error", *facts]
        rows = [
            [
                weight.name,
                " x ".join(map(str, weight.shape)),
                f"{weight.parameters:,}",
                f"{weight.kept:,}",
                str(weight.bits),
                f"{weight.packed_bytes:,}",
                f"{weight.ratio:.1f}",
                f"{weight.macs / weight.macs_before:.1%}",
                "-" if weight.error is None else f"{weight.error:.3f}",
                *(f"{weight.facts[name]:g}" if name in weight.facts else "" for name in facts),
            ]
            for weight in self.weights
        ]
        methods = [
            f"{config.method} ({', '.join(f'{name} {value}' for name, value in config.numbers().items())})"
            for config in self.configs
        ]
        total = f"{self.dense_bytes:,} bytes -> {self.packed_bytes:,} packed, {self.ratio:.1f} times less"
        skipped = [f"left as it is: {name}, {reason}" for name, reason in self.skipped.items()]
        return "\n".join([*methods, "", *_aligned([head, *rows]), "", total, *skipped])


@dataclass(frozen=True, eq=False)
class Before:
    """A model as it was: its weights by their names, and how many numbers it had."""

    weights: Mapping[str, Tensor]
    parameters: int

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module) -> Before:
        """Copy the weights."""
        return cls({name: weight.clone() for name, weight in all_weights(model).items()}, count_parameters(model))


@torch.no_grad()
def report_of(
    model: nn.Module, before: Before, configs: tuple[Config, ...], changed: Collection[str], skipped: Mapping[str, str]
) -> Report:
    """Say of each weight that was changed how it is now, compared with the model as it was before the methods."""
    codes = {weight.name: weight.code for weight in coded_weights(model)}
    rows = tuple(
        _row(name, weight, before.weights[name], codes.get(name), configs)
        for name, weight in all_weights(model).items()
        if name in changed
    )
    return Report(configs, rows, skipped, before.parameters, len(pack(model, configs)))


def _row(name: str, weight: Tensor, was: Tensor, code: Code | None, configs: tuple[Config, ...]) -> WeightReport:
    shape, size = tuple(weight.shape), weight.element_size()
    error = _error(weight, was) if weight.shape == was.shape else None
    if code is None:
        many = weight.numel()
        return WeightReport(name, shape, was.numel(), many, 8 * size, many * size, many, was.numel(), error)
    facts = {fact: value for config in configs for fact, value in config.facts_of(name, code).items()}
    packed = len(pack_code(code)[1])
    return WeightReport(name, shape, was.numel(), code.kept, code.bits, packed, code.macs, was.numel(), error, facts)


def _error(weight: Tensor, was: Tensor) -> float:
    norm = was.norm()
    return float((weight - was).norm() / norm) if norm else 0.0


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns: the first two begin at their left, numbers end at their right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
