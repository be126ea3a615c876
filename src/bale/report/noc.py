"""How does a network's traffic on its chip read: to a person by layers, to a program as data?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bale import __version__
from bale.hardware import NocEstimate, NocRun, chip_dict
from bale.report.grids import Facts, fact_grid, plain_table, warned
from bale.report.hardware import FORMAT
from bale.report.hardware_texts import plural
from bale.report.quantities import BITS, ENERGY, column, digits, percent, quantity, unit_for

DIRECTIONS = ("east", "west", "south", "north")


def noc_dict(estimate: NocEstimate, run: NocRun | None = None) -> dict[str, Any]:
    """Return one sample's traffic as JSON can hold it: units stand in the keys; latencies are in cycles of a router."""
    return {
        "format": FORMAT,
        "bale": __version__,
        "chip": chip_dict(estimate.chip),
        "mesh": {
            "columns": estimate.mesh.columns,
            "rows": estimate.mesh.rows,
            "torus": estimate.mesh.torus,
        },
        "placement": estimate.placement,
        "multicast": estimate.multicast,
        "tiles": estimate.tiles,
        "routers": {str(node): list(names) for node, names in enumerate(estimate.layers) if names},
        "bits": float(estimate.bits.sum()),
        "bit_hops": estimate.bit_hops,
        "bit_hops_in_snake_order": estimate.snake_bit_hops,
        "energy_pj": float(estimate.energy_pj.sum()),
        "longest_latency_cycles": float(estimate.latency.max(initial=0)),
        "layers": [
            {
                "name": name,
                "bits": float(estimate.bits[own].sum()),
                "energy_pj": float(estimate.energy_pj[own].sum()),
                "longest_latency_cycles": float(estimate.latency[own].max(initial=0)),
            }
            for name, own in _by_layer(estimate)
        ],
        "links": [
            {"from": int(node), "direction": DIRECTIONS[direction], "bits": float(estimate.loads[node, direction])}
            for node, direction in np.argwhere(estimate.loads > 0)
        ],
        "simulated": None if run is None else _run_dict(estimate, run),
    }


def _run_dict(estimate: NocEstimate, run: NocRun) -> dict[str, Any]:
    router = estimate.router
    return {
        "router": {"vcs": router.vcs, "depth": router.depth, "flit_bits": router.flit_bits},
        "packets": len(run.packets),
        "flits": run.injected,
        "flits_delivered": run.delivered,
        "cycles": run.cycles,
        "busiest_link_flits": int(run.link_flits.max()),
        "latency_cycles": {
            "mean": run.mean_latency,
            **{f"p{percent}": run.percentile(percent) for percent in (50, 95, 99)},
            "longest": int(run.latency.max()),
        },
    }


def noc_table(
    estimate: NocEstimate, run: NocRun | None = None, facts: Facts = (), warnings: Sequence[str] = ()
) -> RenderableType:
    """Return one sample's traffic for a rich console; `facts` and `warnings` of the caller's come first."""
    grid = fact_grid([*facts, *_facts(estimate), *([] if run is None else _run_facts(run))])
    return Group(grid, *warned(warnings), Text(), _layer_table(estimate))


def _facts(estimate: NocEstimate) -> Facts:
    mesh, bits = estimate.mesh, float(estimate.bits.sum())
    kind = "torus" if mesh.torus else "mesh"
    saved = 1 - estimate.bit_hops / estimate.snake_bit_hops if estimate.snake_bit_hops else 0.0
    annealed = "" if estimate.placement == "snake" else f", {saved:.1%} fewer bits x links than in snake order"
    node, direction = np.unravel_index(int(estimate.loads.argmax()), estimate.loads.shape)
    busiest = f"{quantity(float(estimate.loads.max()), BITS)}, from router {node} to the {DIRECTIONS[direction]}"
    busiest = busiest if estimate.loads.any() else "none is used"
    return [
        ("chip", f"{estimate.chip.name}: {kind} of {mesh.columns} x {mesh.rows} routers, XY routes"),
        ("placed", f"{estimate.tiles} tile{plural(estimate.tiles)}, {estimate.placement}{annealed}"),
        ("traffic", f"{quantity(bits, BITS)} a sample, {'multicast' if estimate.multicast else 'unicast'}"),
        ("energy", f"{quantity(float(estimate.energy_pj.sum()), ENERGY)} a sample, in routers and on links"),
        ("busiest link", busiest),
        (
            "longest way",
            f"{digits(float(estimate.latency.max(initial=0)))} cycles until all is there, nothing else under way",
        ),
    ]


def _run_facts(run: NocRun) -> Facts:
    load = run.link_flits.max() / run.cycles
    return [
        (
            "simulated",
            f"{len(run.packets):,} packets in {run.cycles:,} cycles, {load:.2f} flits a cycle on the busiest link",
        ),
        (
            "latency",
            f"mean {digits(run.mean_latency)} cycles, 99 % of packets within {run.percentile(99):.0f}, "
            f"longest {run.latency.max()}",
        ),
    ]


def _layer_table(estimate: NocEstimate) -> Table:
    """What each matrix receives, its own partial sums included; cycles until all of its longest way is there."""
    owned = _by_layer(estimate)
    size, unit = unit_for([float(estimate.bits[own].sum()) for _, own in owned], BITS)
    joule, of_energy = unit_for([float(estimate.energy_pj[own].sum()) for _, own in owned], ENERGY)
    table = plain_table(["layer", "tiles", unit, of_energy, "share", "links a bit", "cycles"])
    links, total = estimate.ways.link_counts(estimate.mesh), float(estimate.energy_pj.sum())
    rows = [
        (
            name,
            sum(name in names for names in estimate.layers),
            float(estimate.bits[own].sum()),
            float(estimate.energy_pj[own].sum()),
            float((estimate.bits * links)[own].sum()),
            float(estimate.latency[own].max(initial=0)),
        )
        for name, own in owned
    ]
    received, energy = column([row[2] for row in rows], size), column([row[3] for row in rows], joule)
    for (name, tiles, bits, pj, passed, longest), some, joules in zip(rows, received, energy, strict=True):
        mean = f"{passed / bits:.2f}" if bits else ""
        table.add_row(name, str(tiles), some, joules, percent(pj, total), mean, f"{longest:,.0f}" if bits else "")
    return table


def _by_layer(estimate: NocEstimate) -> list[tuple[str, np.ndarray]]:
    """Each matrix, and which ways lead to it: bool [ways]."""
    return [(name, estimate.matrix == index) for index, name in enumerate(estimate.matrices)]
