"""What does a policy look like, and what does a schedule? Pictures of both, as figures of matplotlib."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bale.batching.graph import Graph
from bale.batching.schedule import Policy, Schedule, lower_bound_by_type
from bale.batching.schedule.encoding import describe
from bale.batching.schedule.fingerprint import labels, short_label, type_keys
from bale.batching.schedule.transitions import BEGIN, END, UNSEEN, Place, Transitions, learned_transitions

if TYPE_CHECKING:  # matplotlib and networkx take half a second to import, which no other command should wait for
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sizes on paper, in inches: of the text in a box, of a line and a character of it, and of the space around boxes.
_FONT, _SMALL, _LINE, _CHARACTER = 9, 7, 0.17, 0.082
_BETWEEN_COLUMNS, _BETWEEN_ROWS, _MARGIN, _TITLE = 0.8, 0.45, 0.3, 0.4
_WIDEST = 5.0  # points; the line of the most frequent transition
_BEND, _FARTHEST = 0.2, 1.3  # of arrows, so that one there and one back are two; but how far beside its ends at most
_PAGE, _NARROWEST = 14.0, 6.0


def draw_policy(policy: Policy, transitions: Transitions | None = None, most: int = 24) -> Figure:
    """Draw a policy as the machine that it is: a box for each state, an arrow to each state that ever followed it.

    A box names what runs, and below it the state; its colour is that of the type. Arrows are the thicker the more often
    they were taken, with the number beside them. `transitions` are those of `bale.batching.schedule.transitions`, by
    default those of the last run of learning. States that do not occur in them are counted in the title; where there
    are no transitions at all, every state is drawn, without arrows. Of very many states only the `most` frequent have
    boxes of their own, and the others share one.
    """
    from matplotlib.figure import Figure

    transitions = learned_transitions(policy) if transitions is None else transitions
    met = {place for _, place, _ in transitions if isinstance(place, int)}
    missing = len(policy.states) - len(met) if transitions else 0
    machine = _machine(policy, _joined(transitions, most))
    boxes = {place: _box(policy, place) for place in machine}
    centres, size = _arranged(_bands(_columns(machine), boxes), boxes)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, size[0]), ylim=(0, size[1]))  # a unit is an inch
    axes.set_axis_off()
    title = str(policy) + (f"; {missing} of them not met in this run" if missing else "")
    axes.text(_MARGIN, size[1] - _MARGIN / 2, title, va="top", fontsize=_FONT)
    axes.text(_MARGIN, size[1] - _MARGIN / 2 - _LINE, _legend(machine), va="top", fontsize=_SMALL, color="0.35")
    patches = {place: _draw_box(axes, boxes[place], *centre) for place, centre in centres.items()}
    taken = [_around(patch) for patch in patches.values()]
    most_often = max((count for *_, count in machine.edges(data="count")), default=1)
    for source, target, count in machine.edges(data="count"):
        along = _draw_arrow(axes, patches[source], patches[target], _WIDEST * count / most_often)
        x, y = next((point for point in along if not any(_holds(area, point) for area in taken)), along[0])
        text = axes.text(x, y, str(count), fontsize=_SMALL, ha="center", va="center", zorder=5)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85})
        taken.append((x - 0.15, y - 0.1, x + 0.15, y + 0.1))
    return figure


def draw_schedule(graph: Graph, schedule: Schedule) -> Figure:
    """Draw a schedule of `graph`: a line for each type, from left to right a bar for each batch that runs it.

    Bars are as high as the square root of their rows, so that short ones are still seen; the largest batch of all fills
    its line. Beside the line stand the type's batches, and how many at least any schedule needs.
    """
    from matplotlib.figure import Figure

    names = [short_label(name) for name in labels(type_keys(graph.types))]
    steps, bound = len(schedule), lower_bound_by_type(graph)
    rows = np.array([graph.rows[batch].sum() for batch in schedule], np.float64)  # [batches]
    most = rows.max(initial=1.0)
    tall = 0.86 * np.maximum(np.sqrt(rows / most), 0.06)
    figure = Figure(figsize=(12, 1.1 + 0.45 * max(1, len(names))), layout="constrained")
    axes = figure.add_subplot()
    for kind in range(len(names)):
        ran = np.flatnonzero(schedule.batch_type == kind)
        axes.bar(ran + 0.5, tall[ran], width=0.9, bottom=kind + 0.43 - tall[ran], color=_colour(kind, pale=False))
    axes.set(xlim=(0, max(1, steps)), ylim=(max(1, len(names)) - 0.5, -0.5), xlabel="step")
    axes.set_yticks(range(len(names)), names)
    counts = axes.secondary_yaxis("right")
    ran = np.bincount(schedule.batch_type, minlength=len(names))
    counts.set_yticks(range(len(names)), [f"{mine:,} / {least:,}" for mine, least in zip(ran, bound, strict=True)])
    axes.hlines(np.arange(len(names)) + 0.43, 0, max(1, steps), color="0.8", linewidth=0.5, zorder=0)
    figure.suptitle(
        f"{schedule}; at least {bound.sum()} are needed\n"
        f"A bar: a batch, as high as the square root of its rows (the highest: {most:,.0f}). "
        "On the right: the type's batches / the fewest of any schedule",
        fontsize=_FONT,
        x=0.01,
        ha="left",
    )
    for side in (axes, counts):
        side.tick_params(length=0, labelsize=_FONT)
        side.spines[:].set_visible(False)
    return figure


@dataclass(frozen=True)
class _Box:
    """What stands in the box of a state, or of what stands for none."""

    head: str
    lines: tuple[str, ...]
    colour: Any

    @property
    def width(self) -> float:
        texts = [len(self.head), *(len(line) * _SMALL / _FONT for line in self.lines)]
        return max(0.5, _CHARACTER * max(texts) + 0.2)

    @property
    def height(self) -> float:
        return _LINE * (1 + len(self.lines) * _SMALL / _FONT) + 0.16


def _box(policy: Policy, place: Place) -> _Box:
    names = [short_label(name) for name in labels(policy.types)]
    if isinstance(place, int):
        kind = policy.choices[place]
        return _Box(names[kind], tuple(describe(policy.encoding, policy.states[place], names)), _colour(kind))
    if place.startswith("sure"):
        kind = int(place.split()[1])
        return _Box(names[kind], ("sure",), _colour(kind))
    return _Box("not in the table", ("height chooses",), "white") if place == UNSEEN else _Box(place, (), "white")


def _colour(kind: int, pale: bool = True) -> Any:
    """The colour of a type: strong in bars, pale under text."""
    from matplotlib import colormaps

    if kind < 10:
        return colormaps["tab20"](2 * kind + pale)
    return colormaps["Set3"](kind % 12) if pale else colormaps["tab20b"](3 * kind % 20)


def _joined(transitions: Transitions, most: int) -> Transitions:
    """The same transitions, all places but those most often met as one."""
    met: Counter[Place] = Counter()
    for _, place, count in transitions:
        met[place] += count
    places = [place for place, _ in met.most_common() if place != END]
    rare = set(places[most:]) if len(places) > most + 1 else set()
    joined: Counter[tuple[Place, Place]] = Counter()
    others = f"{len(rare)} rarer states"
    for source, target, count in transitions:
        joined[others if source in rare else source, others if target in rare else target] += count
    return tuple((source, target, count) for (source, target), count in joined.items())


def _machine(policy: Policy, transitions: Transitions) -> nx.DiGraph:
    """The places that occur, in the order of the transitions, with how often each pair of them was met."""
    import networkx as nx

    machine = nx.DiGraph()
    for source, target, count in transitions:
        machine.add_edge(source, target, count=count)
    if not transitions:
        machine.add_nodes_from(range(len(policy.states)))
    return machine


def _columns(machine: nx.DiGraph) -> list[list[Place]]:
    """Where the places stand, from left to right: each right of the first that leads to it, the end last."""
    import networkx as nx

    if BEGIN not in machine:  # nothing leads anywhere
        places = list(machine)
        rows = max(1, round(len(places) ** 0.5))
        return [places[low : low + rows] for low in range(0, len(places), rows)]
    columns: list[list[Place]] = [[place for place in layer if place != END] for layer in nx.bfs_layers(machine, BEGIN)]
    columns = [column for column in columns if column]
    if END in machine:
        columns.append([END])
    for _ in range(4):  # so that arrows cross less: by the mean height of the neighbours, there and back again
        height = {place: (j + 0.5) / len(column) for column in columns for j, place in enumerate(column)}
        for column in columns:
            around = {
                place: np.mean([height[other] for other in (*machine.pred[place], *machine.succ[place])])
                for place in column
            }
            column.sort(key=lambda place, around=around: around[place])
    return columns


def _bands(columns: list[list[Place]], boxes: dict[Place, _Box]) -> list[list[list[Place]]]:
    """The columns from left to right, and a new band of them below wherever one is as wide as a page."""
    bands: list[list[list[Place]]] = []
    room = 0.0
    for column in columns:
        width = _width(column, boxes)
        if not bands or width > room:
            bands.append([])
            room = _PAGE
        bands[-1].append(column)
        room -= width
    return bands


def _width(column: list[Place], boxes: dict[Place, _Box]) -> float:
    """Of a column and the space beside it."""
    return max(boxes[place].width for place in column) + _BETWEEN_COLUMNS


def _arranged(
    bands: list[list[list[Place]]], boxes: dict[Place, _Box]
) -> tuple[dict[Place, tuple[float, float, float]], tuple[float, float]]:
    """The centre of every box and the width of its column; the size of the picture."""
    height = max((box.height for box in boxes.values()), default=0.0) + _BETWEEN_ROWS
    rows = [max(map(len, band)) for band in bands]
    across = max((sum(_width(column, boxes) for column in band) for band in bands), default=_BETWEEN_COLUMNS)
    size = max(_NARROWEST, across - _BETWEEN_COLUMNS + 2 * _MARGIN), sum(rows) * height + 2 * _MARGIN + _TITLE
    centres = {}
    top = size[1] - _TITLE - _MARGIN
    for number, band in enumerate(bands):
        left = _MARGIN
        for column in band:
            width = _width(column, boxes) - _BETWEEN_COLUMNS
            x = left + width / 2
            for k, place in enumerate(column):
                y = top - (k + (rows[number] - len(column) + 1) / 2) * height
                # every other band runs back from the right, so that arrows to the next one are short
                centres[place] = (size[0] - x if number % 2 else x), y, width
            left += width + _BETWEEN_COLUMNS
        top -= rows[number] * height
    return centres, size


def _draw_box(axes: Axes, box: _Box, x: float, y: float, width: float) -> Any:
    from matplotlib.patches import FancyBboxPatch

    patch = FancyBboxPatch(
        (x - width / 2, y - box.height / 2),
        width,
        box.height,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=box.colour,
        edgecolor="0.3",
        zorder=3,
    )
    axes.add_patch(patch)
    top = y + box.height / 2 - 0.08
    axes.text(x, top, box.head, ha="center", va="top", fontsize=_FONT, weight="bold", zorder=4)
    for k, line in enumerate(box.lines):
        below = top - _LINE - k * _LINE * _SMALL / _FONT
        axes.text(x, below, line, ha="center", va="top", fontsize=_SMALL, zorder=4)
    return patch


def _draw_arrow(axes: Axes, source: Any, target: Any, width: float) -> list[tuple[float, float]]:
    """Draw an arrow from box to box; returns points of it where its number may stand, the best first."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    width = max(0.6, width)
    look = {"arrowstyle": "-|>", "mutation_scale": 7 + 2 * width, "linewidth": width, "color": "0.55", "zorder": 2}
    (x0, y0), (x1, y1) = _centre(source), _centre(target)
    if source is target:
        top = y0 + source.get_height() / 2
        corners = [(x0 - 0.2, top), (x0 - 0.35, top + 0.4), (x0 + 0.35, top + 0.4), (x0 + 0.2, top)]
        path = Path(corners, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
        axes.add_patch(FancyArrowPatch(path=path, **look))
        return [(x0, top + 0.3), (x0 - 0.25, top + 0.2), (x0 + 0.25, top + 0.2)]
    ends = {"patchA": source, "patchB": target, "shrinkA": 0, "shrinkB": 1}
    bend = min(_BEND, _FARTHEST / max(1e-3, math.hypot(x1 - x0, y1 - y0)))
    style = f"arc3,rad={bend}"
    axes.add_patch(FancyArrowPatch((x0, y0), (x1, y1), connectionstyle=style, **ends, **look))
    # arc3's curve: of second order, its control point `bend` of the distance beside the middle
    x, y = (x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0)
    return [
        ((1 - t) ** 2 * x0 + 2 * t * (1 - t) * x + t**2 * x1, (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y + t**2 * y1)
        for t in (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8)
    ]


def _centre(patch: Any) -> tuple[float, float]:
    return patch.get_x() + patch.get_width() / 2, patch.get_y() + patch.get_height() / 2


def _around(patch: Any) -> tuple[float, float, float, float]:
    """The area of a box where no number should stand: left, bottom, right, top."""
    x, y = patch.get_x(), patch.get_y()
    return x - 0.1, y - 0.07, x + patch.get_width() + 0.1, y + patch.get_height() + 0.07


def _holds(area: tuple[float, float, float, float], point: tuple[float, float]) -> bool:
    return area[0] < point[0] < area[2] and area[1] < point[1] < area[3]


def _legend(machine: nx.DiGraph) -> str:
    parts = ["A box: what runs, and in which state."]
    known = bool(machine.edges)
    parts.append("An arrow: how often a state followed another." if known else "What follows what is not known.")
    if any(isinstance(place, str) and place.startswith("sure") for place in machine):
        parts.append("Sure: whatever the table says, since it shortens what remains.")
    return " ".join(parts)
