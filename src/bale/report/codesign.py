"""What did a search over methods and chips find? A table for people, a dict for programs, a picture."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale.codesign.search import Budgets, Candidate, Finished, Front, Nearest, pareto
from bale.codesign.search.budgets import DROP, UNITS
from bale.codesign.search.space import config_text
from bale.report.grids import Facts, fact_grid, plain_table, titled, warned
from bale.report.quantities import digits

if TYPE_CHECKING:  # matplotlib takes half a second to import, which no other command should wait for
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT, _FONT, _SMALL = 8.5, 5.0, 9, 8
_GREY, _BOX, _LINE = "0.72", "#5BA56A", "0.35"
_ABOUT = (
    "energy of an image by counted events; area of the tiles in use; latency of one image alone; ADC: the fewest bits "
    "that lose nothing; w/in: bits of weights and inputs; drop: how much less accurate on its chip than the dense "
    "network in floating point, of {validation:,} images of training that were held out, by which designs were chosen, "
    "and of {samples:,} of the test, by which they were not"
)


def codesign_dict(model: str, found: Front, budgets: Budgets) -> dict[str, Any]:
    """Return a search as JSON can hold it: its front, all that it tried, and what is nearest where nothing is enough.

    Energies in uJ, areas in mm2, latencies in us. Accuracies are shares: of images held out, and of the test.
    """
    return {
        "model": model,
        "budgets": asdict(budgets),
        "dense": {
            "accuracy": found.dense_accuracy,
            "test_accuracy": found.dense_test,
            "validation_images": found.validation,
            "test_images": found.samples,
        },
        "front": [_finished_dict(each) for each in found.designs],
        "nearest": None
        if found.nearest is None
        else {"number": found.nearest.candidate.number, "excess": found.nearest.excess},
        "tried": [_candidate_dict(each) for each in found.candidates],
    }


def codesign_table(
    model: str, found: Front, budgets: Budgets, facts: Facts = (), warnings: Sequence[str] = ()
) -> RenderableType:
    """Return a search for a rich console: what was searched, and the Pareto front, what keeps the budgets first."""
    tried = [each for each in found.candidates if each.copy_of is None]
    complete = sum(each.outcome.complete for each in tried)
    lines = [
        ("model", model),
        *facts,
        ("budgets", str(budgets)),
        (
            "tried",
            f"{len(tried)} designs: {complete} run on their chips, {len(tried) - complete} beyond a budget before "
            "training, or impossible",
        ),
        (
            "dense",
            f"accuracy {found.dense_accuracy:.2%} in floating point, of the images held out; {found.dense_test:.2%} "
            f"of the test{_dense_costs(tried)}",
        ),
    ]
    parts: list[RenderableType] = [fact_grid(lines), *warned([*warnings, *_missed(found)])]
    if found.designs:
        about = _ABOUT.format(validation=found.validation, samples=found.samples)
        parts += [Text(), titled("Pareto front", _front_table(found, budgets), Text(about, style="dim"))]
        parts += [Text(), titled("their methods, and chips", _design_grid(found.designs))]
    return Group(*parts)


def nearest_text(nearest: Nearest) -> str:
    """Which design comes nearest to the budgets, and by how much it exceeds which."""
    worst = sorted(nearest.excess.items(), key=lambda item: -item[1])
    by = ", ".join(f"{name} by {_excess(share)}" for name, share in worst)
    untrained = "" if nearest.candidate.outcome.complete else " (not trained)"
    return f"design {nearest.candidate.number}{untrained} comes nearest: it exceeds {by}"


def design_command(model: str, each: Finished, options: str = "") -> str:
    """How a design is simulated by itself, from its files; `options` say which images and how wide the network is."""
    mapping = each.mapping
    room = "--no-copies" if mapping.get("copy") is False else f"--crossbars {mapping['crossbars']}"
    stored = "" if mapping["circulant"] is None else f" --circulant {mapping['circulant']}"
    files = f"--weights {shlex.quote(str(each.packed))} --chip {shlex.quote(str(each.chip))}"
    lossless = f"--adc-bits {mapping['adc_bits']}"
    return f"bale simulate {shlex.quote(model)} {files} {lossless}{stored} {room}{options}"


def draw_front(model: str, found: Front, budgets: Budgets) -> Figure:
    """Draw energy against area of every design that has costs: the colour is its accuracy drop, a ring what is chosen.

    The line joins designs that no other betters in both; a box is what the budgets of both allow, and grey crosses are
    designs that were not trained.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    done = [each for each in found.candidates if each.outcome.complete and each.copy_of is None]
    left = [each for each in found.candidates if not each.outcome.complete and each.outcome.costs is not None]
    left = [each for each in left if each.copy_of is None]
    if left:
        axes.plot(*_areas_energies(left), "x", color=_GREY, markersize=5, label="not trained", zorder=2)
    if done:
        _draw_done(figure, axes, done, [each.candidate for each in found.designs])
    axes.set(xlabel="area of the tiles in use, mm2", ylabel="energy of an image, uJ")
    if done or left:
        axes.set(xscale="log", yscale="log")
    _draw_box(axes, budgets)
    if done or left:
        _plain_ticks(axes)
    axes.grid(color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", length=0, labelsize=_SMALL)
    axes.legend(loc="best", frameon=False, fontsize=_SMALL)
    figure.suptitle(
        f"{model}: {len(done) + len(left)} designs, {len(found.designs)} on the front (numbered)",
        fontsize=_FONT + 1,
        x=0.01,
        ha="left",
    )
    return figure


def _draw_done(figure: Figure, axes: Axes, done: list[Candidate], chosen: list[Candidate]) -> None:
    areas, energies = _areas_energies(done)
    order = sorted(pareto(list(zip(areas, energies, strict=True))), key=lambda place: areas[place])
    axes.plot(areas[order], energies[order], color=_LINE, linewidth=1, drawstyle="steps-post", zorder=1,
              label="no other is smaller and takes less")  # fmt: skip
    drops = np.array([100 * (each.outcome.drop or 0.0) for each in done])
    points = axes.scatter(areas, energies, c=drops, cmap="viridis_r", s=34, zorder=3)
    axes.scatter(*_areas_energies(chosen), s=95, facecolors="none", edgecolors="0.15", linewidths=0.9, zorder=4,
                 label="on the front of energy, area and accuracy")  # fmt: skip
    # Designs of the same costs share a label.
    places: dict[tuple[float, float], list[str]] = {}
    for each, area, energy in zip(chosen, *_areas_energies(chosen), strict=True):
        places.setdefault((float(area), float(energy)), []).append(str(each.number))
    for place, numbers in places.items():
        axes.annotate(", ".join(numbers), place, (6, 6), textcoords="offset points", fontsize=_SMALL, color="0.25")
    bar = figure.colorbar(points, ax=axes, pad=0.02)
    bar.set_label("accuracy drop, points", fontsize=_FONT)
    bar.ax.tick_params(length=0, labelsize=_SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _draw_box(axes: Axes, budgets: Budgets) -> None:
    """What the budgets allow, to the ends of the picture where there is none."""
    if budgets.area is None and budgets.energy is None:
        return
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    right, high = max(right, 1.05 * (budgets.area or 0)), max(high, 1.05 * (budgets.energy or 0))
    left, low = min(left, 0.9 * (budgets.area or left)), min(low, 0.9 * (budgets.energy or low))
    axes.set(xlim=(left, right), ylim=(low, high))
    end, top = budgets.area or right, budgets.energy or high
    axes.fill_between([left, end], low, top, color=_BOX, alpha=0.10, linewidth=0, zorder=0, label="within budgets")
    if budgets.area is not None:
        axes.plot([end, end], [low, top], color=_BOX, linewidth=1, linestyle="--", zorder=1)
    if budgets.energy is not None:
        axes.plot([left, end], [top, top], color=_BOX, linewidth=1, linestyle="--", zorder=1)


def _plain_ticks(axes: Axes) -> None:
    """Numbers without exponents, on logarithmic axes of less than a decade too; of many decades not so many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        decades = np.log10(high / low)
        subs = (1, 1.5, 2, 3, 5, 7) if decades < 1.5 else (1, 3) if decades < 4 else (1,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(FuncFormatter(lambda value, _: digits(value, 2)))
        axis.set_minor_formatter(NullFormatter())


def _areas_energies(candidates: Sequence[Candidate]) -> tuple[np.ndarray, np.ndarray]:
    costs = [each.outcome.costs for each in candidates if each.outcome.costs is not None]
    return np.array([each.area for each in costs]), np.array([each.energy for each in costs])


def _dense_costs(tried: Sequence[Candidate]) -> str:
    """What the first dense design costs, the one to compare with."""
    dense = next((each for each in tried if not each.design.methods and each.outcome.costs is not None), None)
    if dense is None or dense.outcome.costs is None:
        return ""
    costs = ", ".join(f"{digits(getattr(dense.outcome.costs, name))} {unit}" for name, unit in UNITS.items())
    return f"\ndesign {dense.number}, dense on {dense.design.chip_text}: {costs}"


def _missed(found: Front) -> list[str]:
    if found.nearest is None:
        return [] if found.designs else ["nothing was evaluated"]
    return [f"nothing keeps all budgets; {nearest_text(found.nearest)}"]


def _excess(share: float) -> str:
    return f"{100 * share:.3g} %"


def _front_table(found: Front, budgets: Budgets) -> Table:
    limited = budgets != Budgets()
    table = plain_table(
        ["design", "drop\npoints", "of the\ntest", "energy\nuJ", "area\nmm2", "latency\nus", "ADC\nbits", "bits\nw/in",
         *(["within\nbudgets"] if limited else [])]
    )  # fmt: skip
    for each in found.designs:
        outcome, structure = each.candidate.outcome, each.candidate.design.structure
        costs = outcome.costs
        assert costs is not None and outcome.drop is not None  # it is on the front
        table.add_row(
            str(each.candidate.number),
            f"{100 * outcome.drop:.2f}",
            f"{100 * (found.dense_test - each.test_accuracy):.2f}",
            digits(costs.energy),
            digits(costs.area),
            digits(costs.latency),
            str(costs.adc_bits),
            f"{structure.weight_bits}/{structure.input_bits}",
            *(["yes" if each.meets else _over(each, budgets)] if limited else []),
        )
    return table


def _over(each: Finished, budgets: Budgets) -> str:
    """The names of the budgets that a design exceeds."""
    outcome = each.candidate.outcome
    excess = budgets.excess(outcome.costs, outcome.drop)
    return ", ".join("accuracy" if name == DROP else name for name, share in excess.items() if share > 0)


def _design_grid(designs: Sequence[Finished]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for _ in range(3):
        grid.add_column(overflow="fold")  # methods are to be copied: none may end in dots
    for each in designs:
        design = each.candidate.design
        grid.add_row(str(each.candidate.number), Text(design.methods_text), Text(design.chip_text))
    return grid


def _finished_dict(each: Finished) -> dict[str, Any]:
    return {
        **_candidate_dict(each.candidate),
        "within_budgets": each.meets,
        "test_accuracy": each.test_accuracy,
        "files": {"packed": str(each.packed), "chip": str(each.chip)},
        "mapping": each.mapping,
    }


def _candidate_dict(each: Candidate) -> dict[str, Any]:
    outcome, design = each.outcome, each.design
    costs = outcome.costs
    return {
        "number": each.number,
        "methods": [config_text(config) for config in design.methods],
        "chip": design.chip_text,
        **design.to_dict()["structure"],
        "room": design.room,
        **(
            {}
            if costs is None
            else {
                **{f"{name}_{unit}".lower(): getattr(costs, name) for name, unit in UNITS.items()},
                "crossbars": costs.crossbars,
                "tiles": costs.tiles,
                "adc_bits": costs.adc_bits,
            }
        ),
        "accuracy": outcome.accuracy,
        "drop": outcome.drop,
        "refused": outcome.refused,
        "copy_of": each.copy_of,
    }
