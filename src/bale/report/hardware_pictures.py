"""Where does the energy go, and when does which layer work on which image? Pictures, as figures of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bale.hardware import Cost, Simulation
from bale.report.hardware_texts import simulation_labels
from bale.report.quantities import ENERGY, TIME, column, percent, quantity, unit_for

if TYPE_CHECKING:  # matplotlib takes half a second to import, which no other command should wait for
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _ROW, _FONT, _SMALL = 10.0, 0.36, 9, 8
_LEAST = 0.01  # of all energy; a component below it is among the others
_MOST_BARS = 30
_MOST_CALLS = 40  # of more, those of one matrix share a row
_IMAGES = 4
_COLOURS = ("#3B6FB6", "#E08A3C", "#5BA56A", "#B9524F", "#8473B5", "#4FB0BF", "#C9A93F", "#D486B8", "#8A6E5A")
_OTHER = "#C4C7CB"
_SHADES = ("#1F4E8C", "#4F86C6", "#86AFDA", "#B5CEE8")
_GREY = "0.45"


def draw_energy(simulations: Sequence[Simulation]) -> Figure:
    """Draw the energy of a sample by component, counted by events: a bar for each simulation; of one, for each layer.

    Components of less than a hundredth of all are one, and so are the smallest of very many layers.
    """
    from matplotlib.figure import Figure

    bars = _layers(simulations[0].cost) if len(simulations) == 1 else _wholes(simulations)
    components = _components(list(bars.values()))
    size, unit = unit_for([sum(parts.values()) for parts in bars.values()], ENERGY)
    figure = Figure(figsize=(_WIDTH, 1.25 + _ROW * max(len(bars), len(components) * 0.6)), layout="constrained")
    axes = figure.add_subplot()
    left = np.zeros(len(bars))
    colours = (*_COLOURS, *_COLOURS)
    for place, (name, members) in enumerate(components.items()):
        lengths = np.array([sum(parts.get(member, 0.0) for member in members) for parts in bars.values()]) / size
        colour = _OTHER if len(members) > 1 or name not in members else colours[place]
        look = {"label": name, "color": colour, "edgecolor": "white", "linewidth": 0.4}
        axes.barh(range(len(bars)), lengths, left=left, height=0.72, **look)
        left += lengths
    for place, (length, number) in enumerate(zip(left, column(list(left), 1), strict=True)):
        share = f"  {percent(length, left.sum())}" if len(simulations) == 1 else ""
        axes.text(length, place, f"  {number} {unit}{share}", va="center", fontsize=_SMALL)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.set(xlim=(0, left.max() * 1.18 or 1), ylim=(len(bars) - 0.4, -0.6), xlabel=f"{unit} a sample")
    _tidy(axes)
    axes.grid(axis="x", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=_SMALL, borderaxespad=0)
    figure.suptitle(_energy_title(simulations), fontsize=_FONT + 1, x=0.01, ha="left")
    return figure


def draw_pipeline(simulation: Simulation, images: int = _IMAGES) -> Figure:
    """Draw when each call of a matrix works on each of the first `images`, from its first vector to its last result.

    Of very many calls those of one matrix share a row. Where matrices take turns, a line says when a turn's cells are
    written.
    """
    from matplotlib.figure import Figure

    cost = simulation.cost
    drawn = _drawn(cost, images)
    shown = drawn.end.shape[0]
    size, unit = unit_for([drawn.end.max()], TIME)
    figure = Figure(figsize=(_WIDTH, 1.6 + _ROW * len(drawn.names)), layout="constrained")
    axes = figure.add_subplot()
    lane = 0.8 / shown
    for image in range(shown):
        start, end = drawn.start[image] / size, drawn.end[image] / size
        centre = np.arange(len(drawn.names)) - 0.4 + (image + 0.5) * lane
        shade = _SHADES[image * len(_SHADES) // shown]
        axes.barh(centre, end - start, left=start, height=lane * 0.9, color=shade, label=f"image {image + 1}")
    last = drawn.end.max() / size
    for turn, written in enumerate(cost.timeline.written):
        if len(cost.timeline.written) > 1:
            axes.axvline(written / size, color="#B9524F", linewidth=0.8, linestyle="--", zorder=0)
            axes.text(written / size, -0.75, f" turn {turn + 1}", color="#B9524F", fontsize=_SMALL, va="bottom")
    axes.set_yticks(range(len(drawn.names)), drawn.names)
    axes.set(xlim=(0, last * 1.02), ylim=(len(drawn.names) + 0.6, -0.75), xlabel=unit)
    _tidy(axes)
    axes.grid(axis="x", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    _span(axes, 0, drawn.end[0].max() / size, len(drawn.names) - 0.05, f"latency {quantity(cost.latency_ns, TIME)}")
    ends = drawn.end.max(axis=1)
    if shown > 1 and cost.turns == 1 and np.isclose(ends[-1] - ends[-2], cost.interval_ns):  # the pipeline is full
        text = f"an image every {quantity(cost.interval_ns, TIME)} "
        _span(axes, ends[-2] / size, last, len(drawn.names) + 0.32, text, beside=True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=_SMALL, borderaxespad=0)
    figure.suptitle(_pipeline_title(cost, drawn), fontsize=_FONT + 1, x=0.01, ha="left")
    return figure


def _wholes(simulations: Sequence[Simulation]) -> dict[str, Mapping[str, float]]:
    labels = simulation_labels(simulations)
    return {label: simulation.cost.energy.by_unit() for label, simulation in zip(labels, simulations, strict=True)}


def _layers(cost: Cost) -> dict[str, Mapping[str, float]]:
    """Energy by component of each layer; of very many those that take most, the others as one."""
    by_layer: dict[str, dict[str, float]] = {}
    for (layer, unit), energy in cost.energy.parts.items():
        by_layer.setdefault(layer, {})[unit] = energy
    order = sorted(by_layer, key=lambda layer: -sum(by_layer[layer].values()))
    kept = set(order[:_MOST_BARS])
    bars: dict[str, Mapping[str, float]] = {layer: parts for layer, parts in by_layer.items() if layer in kept}
    rest: dict[str, float] = {}
    for layer in order[_MOST_BARS:]:
        for unit, energy in by_layer[layer].items():
            rest[unit] = rest.get(unit, 0.0) + energy
    return {**bars, f"{len(order) - len(kept)} others": rest} if rest else bars


def _components(bars: Sequence[Mapping[str, float]]) -> dict[str, list[str]]:
    """Components and which units they are, the largest first; the small ones are one."""
    sums: dict[str, float] = {}
    for parts in bars:
        for unit, energy in parts.items():
            sums[unit] = sums.get(unit, 0.0) + energy
    order = sorted(sums, key=lambda unit: -sums[unit])
    least = _LEAST * sum(sums.values())
    small = [unit for unit in order if 0 < sums[unit] < least]
    named = {unit: [unit] for unit in order if sums[unit] >= least}
    if len(small) < 2:
        return {**named, **{unit: [unit] for unit in small}}
    return {**named, f"other ({len(small)})": small}


def _energy_title(simulations: Sequence[Simulation]) -> str:
    costs = [simulation.cost for simulation in simulations]
    total = f", {quantity(costs[0].energy.total_pj, ENERGY)} in all" if len(costs) == 1 else ""
    models = list(dict.fromkeys(cost.model for cost in costs))
    chips = list(dict.fromkeys(cost.chip.name for cost in costs))
    what = f"{models[0]}: " if len(models) == 1 else ""
    if len(costs) == 1:
        what = f"{models[0]} on {chips[0]}: "
    return f"{what}energy of a sample by component{total} (counted events)"


@dataclass(frozen=True)
class _Drawn:
    """The rows of a picture: `start`, `end` [images, rows] in ns."""

    names: list[str]
    start: np.ndarray
    end: np.ndarray
    grouped: bool


def _drawn(cost: Cost, images: int) -> _Drawn:
    times = cost.timeline
    start, end = times.start[:images], times.end[:images]
    calls = cost.calls
    if len(calls) <= _MOST_CALLS:
        counted = dict.fromkeys(calls, 0)
        names = []
        for name in calls:
            counted[name] += 1
            names.append(f"{name}, call {counted[name]}" if calls.count(name) > 1 else name)
        return _Drawn(names, start, end, False)
    names = list(dict.fromkeys(calls))
    rows = [[place for place, call in enumerate(calls) if call == name] for name in names]
    return _Drawn(
        names,
        np.stack([start[:, row].min(axis=1) for row in rows], axis=1),
        np.stack([end[:, row].max(axis=1) for row in rows], axis=1),
        True,
    )


def _pipeline_title(cost: Cost, drawn: _Drawn) -> str:
    latency, interval = quantity(cost.latency_ns, TIME), quantity(cost.interval_ns, TIME)
    when = f"latency {latency}, then an image every {interval}"
    if cost.turns > 1:
        when = f"{cost.timeline.images} images in each of {cost.turns} turns: latency {latency}, {interval} an image"
    calls = f"; {len(cost.calls)} calls, by matrix" if drawn.grouped else ""
    first = f"the first {len(drawn.end)} images" if len(drawn.end) > 1 else "the first image"
    return f"{cost.model} on {cost.chip.name}: when each layer works on {first}\n{when}{calls}"


def _span(axes: Axes, low: float, high: float, height: float, text: str, beside: bool = False) -> None:
    """An arrow from time to time with what it says on it, or before it where it is too short."""
    look = {"arrowstyle": "<->", "color": _GREY, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (low, height), (high, height), arrowprops=look)
    label: dict[str, Any] = {"va": "center", "fontsize": _SMALL, "color": "0.25"}
    label["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.text(low if beside else (low + high) / 2, height, text, ha="right" if beside else "center", **label)


def _tidy(axes: Axes) -> None:
    axes.tick_params(length=0, labelsize=_FONT)
    axes.spines[:].set_visible(False)
    axes.xaxis.label.set_fontsize(_FONT)
