"""explain: what became a cell and what did not and why, how many batches against the bound, and where time went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from bale.batching.api import Batched, as_samples, batch
from bale.batching.cells.call import Kind
from bale.batching.cells.traffic import Traffic
from bale.batching.engine import Run, run_samples
from bale.batching.execute.account import TypeAccount, account
from bale.batching.schedule import lower_bound_by_type
from bale.batching.stats import Stats
from bale.batching.trace import recording

MANY_VALUES = 16  # distinct values of one static argument above which it probably should be a tensor


@dataclass(frozen=True)
class TypeLine:
    """One type: its cell and rung, and how its nodes met in batches.

    `traffic` is the planned executor's; None where the reference executor ran, whose memory is autograd's own. `inside`
    is what a captured cell does with a batch, and what it would do unplanned.
    """

    name: str
    operands: str
    rung: str
    nodes: int
    batches: int
    bound: int
    rows: tuple[int, int, int]  # fewest, median, most rows per batch
    traffic: TypeAccount | None
    inside: Traffic | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What `bale.explain` prints.

    traced_nodes   calls that were recorded; of them stay `merged_nodes` when equal ones are merged, `needed_nodes` of
                   these when what nothing needs is left out, and stats.nodes when stacks and reductions are folded
    peak_bytes     the planned executor's; None where the reference executor ran
    """

    stats: Stats
    traced_nodes: int
    types: tuple[TypeLine, ...]
    merged_nodes: int
    needed_nodes: int
    peak_bytes: int | None
    descended: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        stats = self.stats
        lines = [
            f"{stats.samples} samples: {self.traced_nodes} nodes traced, {stats.nodes} run "
            f"({self.traced_nodes - self.merged_nodes} merged with equal ones, "
            f"{self.merged_nodes - self.needed_nodes} unread, {self.needed_nodes - stats.nodes} folded into gathers), "
            f"{stats.types} types",
            f"{stats.batches} batches by {stats.policy}"
            + (f" ({stats.unseen} choices left to height)" if stats.unseen else "")
            + f", lower bound {stats.bound}; executor {stats.executor}",
            "",
            *_table(self.types),
        ]
        for line in self.types:
            lines += [f"  {line.name}: {reason}" for reason in line.reasons]
        if self.peak_bytes is not None:
            lines += ["", *_traffic_table(self.types), *_inside_table(self.types)]
            lines += ["", f"memory for values and gradients: {_bytes(self.peak_bytes)}"]
        if self.descended:
            lines += ["", "descended into (Python, not cells):"]
            lines += [f"  {name}: {reason}" for name, reason in self.descended]
        lines += [""] + [f"warning: {warning}" for warning in self.warnings]
        lines.append("milliseconds: " + ", ".join(f"{stage} {1e3 * s:.1f}" for stage, s in stats.seconds.items()))
        return "\n".join(lines)


def _table(types: tuple[TypeLine, ...]) -> list[str]:
    """What runs."""
    head = ("type", "operands", "rung", "nodes", "batches", "bound", "rows per batch")
    body = [
        (t.name, t.operands, t.rung, str(t.nodes), str(t.batches), str(t.bound), "{} / {} / {}".format(*t.rows))
        for t in types
    ]
    return _aligned(head, body, left=3)


def _traffic_table(types: tuple[TypeLine, ...]) -> list[str]:
    """What copies write. An operand of a batch is a view (read where it lies) or a gather (copied together first)."""
    head = ("type", "views", "gathers", "forward", "backward", "launches")
    counted = [(t.name, t.traffic) for t in types if t.traffic is not None]
    body = [
        (name, str(t.views), str(t.gathers), _bytes(t.forward.written), _bytes(t.backward.written), str(t.launches))
        for name, t in counted
    ]
    return _aligned(head, body, left=1)


def _inside_table(types: tuple[TypeLine, ...]) -> list[str]:
    """What one batch of a captured cell does, forward / backward, as planned and naively; see Traffic."""
    counted = ("launches", "copies", "bytes")
    head = ("in a batch, forward / backward", "operations", "launches", "copies", "bytes per row", "naive launches",
            "naive copies", "naive bytes")  # fmt: skip
    body = []
    for line in types:
        if line.inside is not None:
            before, after = line.inside.before, line.inside.after
            pairs = [(after, "ops"), *((after, name) for name in counted), *((before, name) for name in counted)]
            cells = [f"{getattr(run.forward, name)} / {getattr(run.backward, name)}" for run, name in pairs]
            body.append((line.name, *cells))
    return ["", *_aligned(head, body, left=1)] if body else []


def _bytes(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count} B"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.3g} GB"


def _aligned(head: tuple[str, ...], body: list[tuple[str, ...]], left: int) -> list[str]:
    """Columns of one width each; the first `left`, names, stand left, the numbers right."""
    widths = [max(len(row[k]) for row in (head, *body)) for k in range(len(head))]
    rows = [head, tuple("-" * width for width in widths), *body]
    return [
        "  ".join(
            c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def explain(model: nn.Module, samples: Iterable[Any], **kwargs: Any) -> Explanation:
    """Run `samples` once to settle the types and once to count and time, and print what happened.

    Prints cells, rungs, modules descended into and why, types, nodes, batches per type against the lower bound, rows
    per batch (fewest / median / most) and milliseconds per stage; returns the same as data.
    """
    batched = model if isinstance(model, Batched) else batch(model)
    given = as_samples(samples, batched.settings.star)
    if not given:
        raise ValueError("explain needs at least one sample")
    run_samples(batched.inner, given, kwargs, batched.settings, batched.registry)
    result = run_samples(batched.inner, given, kwargs, batched.settings, batched.registry)
    explanation = _explain(result, batched)
    print(explanation)
    return explanation


def _explain(result: Run, batched: Batched) -> Explanation:
    reduced, schedule, layout = result.plan.reduced, result.plan.schedule, result.plan.layout
    graph = result.plan.graph
    uses = list(result.trace.uses.values())
    bounds = lower_bound_by_type(graph)
    emitted = result.call.emitted  # none is settled where the reference executor ran
    counted = account(result.call) if result.stats.executor == "planned" else None
    lines = []
    for t, node_type in enumerate(graph.types):
        cell = uses[reduced.folded.type_of[t]].cell
        rows = np.sort(layout.batch_rows[schedule.batch_type == t])
        operands = [
            f"{mode.value} {spec}" if mode.value != "row" else str(spec)
            for mode, spec in zip(node_type.slots, node_type.slot_specs, strict=True)
        ]
        constants = sum(kind is not Kind.VALUE for kind in cell.kinds)
        lines.append(
            TypeLine(
                node_type.name,
                ", ".join(operands + [f"{constants} constant" + "s" * (constants > 1)] * bool(constants)) or "-",
                "planned" if counted is not None and emitted[t] is not None else cell.rung_name,
                int((graph.type == t).sum()),
                int(rows.size),
                int(bounds[t]),
                (int(rows[0]), int(np.median(rows)), int(rows[-1])),
                counted.types[t] if counted is not None else None,
                None if counted is None or (code := emitted[t]) is None else code.traffic,
                cell.reasons,
            )
        )
    descended = tuple(sorted(batched.registry.descended.items()))
    return Explanation(
        result.stats, len(reduced.graph), tuple(lines), len(reduced.merged.graph), int(reduced.needed.sum()),
        counted.peak_bytes if counted is not None else None, descended, tuple(_warnings(batched)),
    )  # fmt: skip


IN_PYTHON = (
    "calls are recorded in Python, since no C compiler was found when bale was installed; install one and bale again, "
    "and they are recorded several times as fast"
)


def _warnings(batched: Batched) -> list[str]:
    """Static arguments with so many values that they should be data, and what is slower than it need be."""
    slow = [IN_PYTHON] * (recording.Recorder is recording.PythonRecorder)
    return slow + _many_values(batched)


def _many_values(batched: Batched) -> list[str]:
    values: dict[tuple[str, int], set[Any]] = {}
    for cell in batched.registry.cell_types():
        if cell.call is None:
            continue
        for position, leaf in enumerate(cell.call.leaves):
            if leaf.kind is Kind.STATIC:
                values.setdefault((cell.name, position), set()).add(leaf.payload)
    return [
        f"argument {position} of {name} has {len(found)} values, each of which makes a type of its own; "
        "pass it as a tensor if it is data"
        for (name, position), found in sorted(values.items())
        if len(found) > MANY_VALUES
    ]
