"""What do the lines of a study say? A table of means and spreads, and a picture of accuracy against bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.compression.runs import CONTROL, NETWORKS, SETTINGS, WANTED, WIDER, Run, Wanted

Line = dict[str, Any]

_COLOURS = {
    "smartdeal": "#c2407f",
    "communication-aware": "#3aa6a0",
    "block-circulant": "#1f5f99",
    "block-circulant + uniform": "#66a3d2",
    "adc-aware": "#2e7d4f",
    "structured + adc-aware": "#8fbf8a",
    "structured + uniform": "#d99a2b",
    "magnitude": "#b5483a",
    "uniform": "#6f4fa0",
    CONTROL: "0.55",
}
_DROP = 0.01  # the line that is drawn
_TICKS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # kB
_TITLES = {
    "lenet5": "LeNet-5",
    "lstm": "LSTM-128",
    "vgg8": "VGG-8, width 16",
    "resnet20": "ResNet-20, width 8",
    "vgg8-64": "VGG-8, width 64",
    "resnet20-16": "ResNet-20, width 16",
}


@dataclass(frozen=True)
class Spread:
    """Mean, least and largest."""

    mean: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(fmean(values), min(values), max(values))

    @property
    def half(self) -> float:
        return (self.most - self.least) / 2


@dataclass(frozen=True)
class Summary:
    """The runs of one network by one setting, from all its seeds.

    control        the mean accuracy of the control
    communication  what is left of the cost C of the dense network's traffic, in the mean; None: it was not asked for
    """

    model: str
    setting: str
    method: str
    seeds: int
    dense: Spread
    accuracy: Spread
    drop: Spread
    dense_bytes: int
    packed_bytes: Spread
    adc_bits: int
    train_s: float
    control: float | None
    communication: float | None

    @property
    def to_control(self) -> float | None:
        """How much less accurate than the control, in the mean; None: there is none, or this is it."""
        return None if self.control is None or self.method == CONTROL else self.control - self.accuracy.mean

    @property
    def ratio(self) -> float:
        return self.dense_bytes / self.packed_bytes.mean

    @property
    def wanted(self) -> Wanted | None:
        """What is asked of it; None: nothing."""
        wanted = WANTED.get(self.setting)
        return wanted if wanted is not None and self.model in wanted.models else None

    @property
    def met(self) -> bool | None:
        """Is it as wanted? None: nothing is."""
        if self.wanted is None:
            return None
        left = 1.0 if self.communication is None else self.communication
        enough = self.ratio >= self.wanted.ratio and left <= self.wanted.communication
        return enough and self.drop.mean <= self.wanted.drop


def summaries(lines: Sequence[Line]) -> list[Summary]:
    """By network, then by setting, in the order of the study; lines of one amount."""
    assert len({Run.of(line).amount for line in lines}) <= 1
    keys = dict.fromkeys((line["model"], line["setting"]) for line in lines)
    models, settings = [*NETWORKS, *WIDER], list(SETTINGS)
    order = sorted(keys, key=lambda key: (models.index(key[0]), settings.index(key[1])))
    groups = {key: [line for line in lines if (line["model"], line["setting"]) == key] for key in order}
    return [_summary(groups[key], groups.get((key[0], CONTROL), [])) for key in order]


def _summary(lines: Sequence[Line], controls: Sequence[Line]) -> Summary:
    first = lines[0]
    return Summary(
        first["model"],
        first["setting"],
        first["method"],
        len({line["seed"] for line in lines}),
        Spread.of(line["dense_accuracy"] for line in lines),
        Spread.of(line["accuracy"] for line in lines),
        Spread.of(line["dense_accuracy"] - line["accuracy"] for line in lines),
        first["dense_bytes"],
        Spread.of(line["packed_bytes"] for line in lines),
        max(line["adc_bits"] for line in lines),
        fmean(line["train_s"] for line in lines),
        fmean(line["accuracy"] for line in controls) if controls else None,
        fmean(left) if (left := [line["communication"] for line in lines if line.get("communication")]) else None,
    )


def table_of(lines: Sequence[Line]) -> Table:
    """A row for each network and setting; +- is half of what lies between the seeds' extremes.

    Drops are to the dense network; "to control", to the one that was trained for as many epochs more.
    """
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("network", "setting"):
        table.add_column(heading, no_wrap=True)
    numbers = (
        "seeds",
        "dense %",
        "accuracy %",
        "drop",
        "wanted",
        "to control",
        "bytes",
        "ratio",
        "ADC",
        "C %",
        "train s",
    )
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    last = ""
    for row in summaries(lines):
        table.add_row(
            row.model if row.model != last else "",
            row.setting,
            str(row.seeds),
            f"{100 * row.dense.mean:.2f}",
            f"{100 * row.accuracy.mean:.2f} +- {100 * row.accuracy.half:.2f}",
            f"{100 * row.drop.mean:.2f}",
            _said(row),
            "" if row.to_control is None else f"{100 * row.to_control:.2f}",
            f"{row.packed_bytes.mean:,.0f}",
            f"{row.ratio:.1f}",
            str(row.adc_bits),
            "" if row.communication is None else f"{100 * row.communication:.1f}",
            f"{row.train_s:,.0f}",
        )
        last = row.model
    return table


def _said(row: Summary) -> str:
    """What was wanted, and whether that is met."""
    if row.wanted is None:
        return ""
    ratio = f", {row.wanted.ratio:g}x" if row.wanted.ratio > 1 else ""
    left = f", {100 * row.wanted.communication:g}% of C" if row.wanted.communication < 1 else ""
    return f"<= {100 * row.wanted.drop:g}{ratio}{left}: {'met' if row.met else 'MISSED'}"


def draw(lines: Sequence[Line]) -> Figure:
    """A panel for each network: accuracy against bytes, both of the packed file; bars are the seeds' extremes."""
    rows = summaries(lines)
    models = [model for model in (*NETWORKS, *WIDER) if any(row.model == model for row in rows)]
    figure = Figure(figsize=(4.6 * min(2, len(models)) + 1.9, 3.3 * -(-len(models) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(models) // 2), min(2, len(models)), squeeze=False)
    for place, (axes, model) in enumerate(zip(panels.flat, models, strict=False)):
        mine = [row for row in rows if row.model == model]
        for method, colour in _COLOURS.items():
            points = sorted((row for row in mine if row.method == method), key=lambda row: row.packed_bytes.mean)
            if not points:
                continue
            x = [row.packed_bytes.mean / 1000 for row in points]
            y = [100 * row.accuracy.mean for row in points]
            bars = [
                [100 * (row.accuracy.mean - row.accuracy.least) for row in points],
                [100 * (row.accuracy.most - row.accuracy.mean) for row in points],
            ]
            label = "not compressed, trained on" if method == CONTROL else method
            axes.errorbar(x, y, bars, color=colour, marker="o", markersize=5, linewidth=1, capsize=2, label=label)
        dense = 100 * Spread.of(row.dense.mean for row in mine).mean
        size = mine[0].dense_bytes / 1000
        axes.scatter([size], [dense], marker="*", s=110, color="0.25", zorder=3, label="dense, float32")
        axes.axhline(dense - 100 * _DROP, color="0.6", linewidth=0.9, linestyle="--", label="1 point below dense")
        axes.set_xscale("log")
        axes.set_title(_TITLES[model], fontsize=10)
        axes.set_xlabel("kB in the packed file" if place >= len(models) - 2 else "")
        axes.set_ylabel("accuracy, %" if place % 2 == 0 else "")
        axes.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axes.set_xlim(0.8 * min(row.packed_bytes.least for row in mine) / 1000, 1.25 * size)
        axes.minorticks_off()
        axes.tick_params(axis="both", which="both", labelsize=8)
        axes.grid(color="0.92", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(panels.flat)[len(models) :]:
        axes.set_visible(False)
    named: dict[str, Any] = {}
    for axes in panels.flat:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside right center", frameon=False, fontsize=8)
    return figure
