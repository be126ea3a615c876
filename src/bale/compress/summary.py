"""What did compression do to each layer? A report, as data, and as a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bale.compress.config import Config, Outcome
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
    error         Frobenius norm of the difference to the weight as it was, relative to that weight's norm
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
    error: float
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Bytes of the weight as it was, in 32 bits, over those packed."""
        return 4 * self.parameters / self.packed_bytes


@dataclass(frozen=True)
class Report:
    """A model after compression; `print(report)` shows it as a table.

    weights       what was compressed, by layers in the order of registration
    skipped       layers and weights that were not, and why
    parameters    numbers of the whole model as it was before this compression, biases and norms too
    packed_bytes  of the whole model, as `save_packed` writes it
    """

    config: Config
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
            "config": self.config.to_dict(),
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
                f"{weight.error:.3f}",
                *(f"{weight.facts[name]:g}" if name in weight.facts else "" for name in facts),
            ]
            for weight in self.weights
        ]
        method = ", ".join(f"{name} {value}" for name, value in self.config.to_dict().items() if name != "method")
        total = f"{self.dense_bytes:,} bytes -> {self.packed_bytes:,} packed, {self.ratio:.1f} times less"
        skipped = [f"left as it is: {name}, {reason}" for name, reason in self.skipped.items()]
        return "\n".join([f"{self.config.method} ({method})", "", *_aligned([head, *rows]), "", total, *skipped])


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
def report_of(model: nn.Module, config: Config, outcome: Outcome, before: Before) -> Report:
    """Say of each weight that a method has changed how it is now."""
    return Report(config, tuple(_rows(model, outcome, before)), outcome.skipped, before.parameters, len(pack(model)))


def _rows(model: nn.Module, outcome: Outcome, before: Before) -> Iterator[WeightReport]:
    codes = {weight.name: weight.code for weight in coded_weights(model)}
    for name, weight in all_weights(model).items():
        if name not in outcome.changed:
            continue
        was, code = before.weights[name], codes.get(name)
        yield WeightReport(
            name,
            tuple(weight.shape),
            was.numel(),
            weight.numel() if code is None else code.kept,
            8 * weight.element_size() if code is None else code.bits,
            weight.numel() * weight.element_size() if code is None else len(pack_code(code)[1]),
            weight.numel() if code is None else code.macs,
            was.numel(),
            _error(weight, was),
            outcome.changed[name],
        )


def _error(weight: Tensor, was: Tensor) -> float:
    """Relative to the weight as it was; where outputs or inputs were removed, what they were is the difference."""
    norm = was.norm()
    if not norm:
        return 0.0
    if weight.shape == was.shape:
        return float((weight - was).norm() / norm)
    return float((1 - (weight.norm() / norm).square()).clamp(min=0).sqrt())


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
