"""Where do layers stand on a chip's mesh, and which links are busy? A picture, as a figure of matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bale.hardware import NocEstimate
from bale.report.quantities import BITS, ENERGY, quantity, unit_for

if TYPE_CHECKING:  # matplotlib takes half a second to import, which no other command should wait for
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE, _FONT = 0.95, 9  # inches that a router takes
_HALF = 0.31  # of a router's square; 1 from router to router
_APART = 0.11  # a link from the way back, each from the middle
_STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def draw_noc(estimate: NocEstimate, model: str = "") -> Figure:
    """Draw routers as squares, coloured by layer and labelled with it, and links as arrows, coloured by their bits.

    A torus's links round the rim are drawn as stubs where they leave; they come in at the other end of their row or
    column, where nothing is drawn of them.
    """
    from matplotlib.figure import Figure

    mesh = estimate.mesh
    figure = Figure(figsize=(_SIDE * mesh.columns + 1.6, _SIDE * mesh.rows + 0.9), layout="constrained")
    axes = figure.add_subplot()
    _draw_links(figure, axes, estimate)
    _draw_routers(axes, estimate)
    rim = 0.95 if mesh.torus else 0.5
    axes.set(xlim=(-rim, mesh.columns - 1 + rim), ylim=(mesh.rows - 1 + rim, -rim), aspect="equal")
    axes.set_axis_off()
    figure.suptitle(_title(estimate, model), fontsize=_FONT + 1, x=0.01, ha="left")
    return figure


def _draw_links(figure: Figure, axes: Axes, estimate: NocEstimate) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    mesh, loads = estimate.mesh, estimate.loads
    size, unit = unit_for([float(loads.max())], BITS)
    hues = LinearSegmentedColormap.from_list("loads", colormaps["YlOrRd"](np.linspace(0.3, 1, 64)))  # none too pale
    colours = ScalarMappable(Normalize(0, max(float(loads.max()), 1) / size), hues)
    neighbours = mesh.neighbours()
    for node, direction in np.argwhere(neighbours >= 0):
        row, column = divmod(int(node), mesh.columns)
        along, down = _STEPS[direction]
        inside = 0 <= column + along < mesh.columns and 0 <= row + down < mesh.rows
        length = 1 - 2 * _HALF if inside else 0.35
        start = (column + _HALF * along - _APART * down, row + _HALF * down + _APART * along)
        end = (start[0] + length * along, start[1] + length * down)
        load = loads[node, direction]
        width = 0.8 + 2.4 * load / max(float(loads.max()), 1)
        look = {"arrowstyle": "-|>", "color": colours.to_rgba(load / size) if load else "0.9", "linewidth": width}
        look |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
        axes.annotate("", end, start, arrowprops=look)
    bar = figure.colorbar(colours, ax=axes, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label(f"{unit} a sample on a link", fontsize=_FONT)
    bar.ax.tick_params(labelsize=_FONT - 1)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _draw_routers(axes: Axes, estimate: NocEstimate) -> None:
    from matplotlib.patches import Rectangle

    shades = _shades(estimate.matrices)
    for node, names in enumerate(estimate.layers):
        row, column = divmod(node, estimate.mesh.columns)
        colour = shades[names[0]] if names else "white"
        square = (column - _HALF, row - _HALF), 2 * _HALF, 2 * _HALF
        axes.add_patch(Rectangle(*square, facecolor=colour, edgecolor="0.5" if names else "0.85", linewidth=0.7))
        text = "\n".join(_broken(name) for name in names[:2]) + (f"\n+ {len(names) - 2}" if len(names) > 2 else "")
        longest = max(map(len, text.split("\n")))
        axes.text(column, row, text, ha="center", va="center", fontsize=min(_FONT - 1, 52 / max(longest, 1)))


def _broken(name: str) -> str:
    """A name that is long, on several lines: it breaks at its last point."""
    before, point, last = name.rpartition(".")
    return f"{before}\n{last}" if point and len(name) > 8 else name


def _shades(matrices: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Pale colours, neighbours in the order of layers unlike, so that black letters and red links stand out."""
    from matplotlib import colormaps

    pale = [tuple(0.45 + 0.55 * part for part in colour[:3]) for colour in colormaps["tab10"].colors]  # pyright: ignore[reportAttributeAccessIssue]
    return {name: pale[index % len(pale)] for index, name in enumerate(matrices)}


def _title(estimate: NocEstimate, model: str) -> str:
    mesh, kind = estimate.mesh, "multicast" if estimate.multicast else "unicast"
    where = f"{estimate.chip.name}, a {'torus' if mesh.torus else 'mesh'} of {mesh.columns} x {mesh.rows}"
    bits, energy = quantity(float(estimate.bits.sum()), BITS), quantity(float(estimate.energy_pj.sum()), ENERGY)
    what = f"{model} on {where}" if model else where
    return f"{what}, {estimate.placement}, {kind}: {bits} a sample, {energy}"
