"""What do the lines of the systems say? A table of ours beside the claims, and a picture of those that have a claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from rich.table import Table

from benchmarks.codesign.lines import SYSTEMS
from benchmarks.codesign.networks import NETWORKS

Line = dict[str, Any]

TITLES = {"reboc": "ReBoc", "tinyadc": "TinyADC", "cannon": "CANNON", "smartdeal": "SmartDeal"}
NETWORK_TITLES = {"lenet5": "LeNet-5", "vgg8": "VGG-8", "resnet20": "ResNet-20", "lstm": "LSTM"}
_COLOURS = {"lenet5": "#1f5f99", "vgg8": "#c2407f", "resnet20": "#2e7d4f", "lstm": "#d99a2b"}


def table_of(lines: Sequence[Line]) -> Table:
    """A row for each figure and baseline, a column for each network.

    In brackets: points of accuracy that the network of the figure is above (+) or below (-) the dense one.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), caption_justify="left")
    table.caption = "in brackets: points of accuracy against the dense network; -: not measured"
    table.add_column("system", no_wrap=True)
    table.add_column("figure", overflow="fold")
    table.add_column("baseline", overflow="fold")
    table.add_column("claim", justify="right", no_wrap=True)
    networks = _networks(lines)
    for network in networks:
        table.add_column(NETWORK_TITLES[network], justify="right", no_wrap=True)
    last = None
    for (system, figure, baseline), row in rows(lines).items():
        if last not in (system, None):
            table.add_section()
        some = next(iter(row.values()))
        claim = "" if some["claim"] is None else number_text(some["claim"], some["conditions"]["unit"])
        cells = [_cell(row[network]) if network in row else "-" for network in networks]
        table.add_row(TITLES[system] if system != last else "", figure, baseline, claim, *cells)
        last = system
    return table


def rows(lines: Sequence[Line]) -> dict[tuple[str, str, str], dict[str, Line]]:
    """Lines by system, figure and baseline, then by network."""
    found: dict[tuple[str, str, str], dict[str, Line]] = {}
    for system in SYSTEMS:
        for line in (line for line in lines if line["system"] == system):
            found.setdefault((system, line["figure"], line["baseline"]), {})[line["network"]] = line
    return found


def number_text(number: float | None, unit: str) -> str:
    """A ratio as 3.12x, a share in per cent, any other number with its unit; None is not known.

    >>> number_text(3.117, "x"), number_text(0.25, "share"), number_text(1234.5, "uJ")
    ('3.12x', '25%', '1,234 uJ')
    """
    if number is None:
        return "not known"
    if unit == "share":
        return f"{100 * number:.4g}%"
    digits = f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"
    return f"{number:.2f}x" if unit == "x" and abs(number) < 100 else f"{digits}{'x' if unit == 'x' else ' ' + unit}"


def draw(lines: Sequence[Line]) -> Figure:
    """A panel for each system that has claims: the paper's number as a line, ours as points, on a scale of ratios."""
    claimed = {key: row for key, row in rows(lines).items() if any(line["claim"] is not None for line in row.values())}
    systems = [system for system in SYSTEMS if any(key[0] == system for key in claimed)]
    many = {system: sum(key[0] == system for key in claimed) for system in systems}
    picture = Figure(figsize=(8.5, 0.9 + sum(0.45 * many[system] + 0.75 for system in systems)), layout="constrained")
    panels = picture.subplots(
        max(1, len(systems)), squeeze=False, height_ratios=[many[system] + 0.8 for system in systems] or None
    )
    for axes, system in zip(panels.flat, systems, strict=False):
        mine = [(key, row) for key, row in claimed.items() if key[0] == system]
        for place, (_, row) in enumerate(mine):
            claim = next(line["claim"] for line in row.values() if line["claim"] is not None)
            axes.plot([claim, claim], [place - 0.32, place + 0.32], color="0.25", linewidth=2.5, zorder=2)
            for network, line in row.items():
                axes.plot([line["ours"]], [place], "o", markersize=7, alpha=0.85, color=_COLOURS[network], zorder=3)
        axes.axvline(1, color="0.8", linewidth=0.9, zorder=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
        axes.tick_params(axis="x", labelsize=8)
        axes.set_yticks(range(len(mine)), [_label(*key[1:]) for key, _ in mine], fontsize=8)
        axes.set_ylim(len(mine) - 0.5, -0.5)
        axes.set_title(TITLES[system], fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    named = [panels.flat[0].plot([], [], color="0.25", linewidth=2.5, label="claimed")[0]]
    for network in _networks(lines):
        named += panels.flat[0].plot([], [], "o", color=_COLOURS[network], label=NETWORK_TITLES[network])
    picture.legend(handles=named, loc="outside lower center", ncols=len(named), frameon=False, fontsize=8)
    return picture


def _label(figure: str, baseline: str) -> str:
    return f"{figure}\nover {baseline}" if baseline else figure


def _networks(lines: Sequence[Line]) -> list[str]:
    return [network for network in NETWORKS if any(line["network"] == network for line in lines)]


def _cell(line: Line) -> str:
    points = 100 * (line["accuracy"] - line["accuracy_dense"])
    return f"{number_text(line['ours'], line['conditions']['unit'])} ({points:+.1f})"
