"""The way of the data: samples are traced, the graph folded and scheduled, laid out in memory, and executed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from bale.batching.execute.constants import Columns
from bale.batching.execute.reference import Arenas, Program, Watch, run
from bale.batching.fold import Folded, fold
from bale.batching.graph import WHOLE, Graph
from bale.batching.memory.layout import Layout, make_layout
from bale.batching.schedule import Policy, Schedule, lower_bound, make_schedule
from bale.batching.stats import Stats
from bale.batching.trace.cell_filter import CellFilter
from bale.batching.trace.containers import containers, restore
from bale.batching.trace.mode import TraceMode
from bale.batching.trace.ref import Ref
from bale.batching.trace.shadow import make_shadow
from bale.batching.trace.tracer import Registry, Trace
from bale.batching.trace.writeback import all_shadows, write_back, written_values
from bale.errors import TraceError


@dataclass(frozen=True)
class Settings:
    """How a batched model runs; see `bale.batch`."""

    policy: str | Policy
    executor: str
    check: str
    star: bool
    stacked: bool
    cells: CellFilter


@dataclass(frozen=True, eq=False)
class Traced:
    """What the forwards left behind: the trace, their outputs (Refs inside), and the shadow they ran on."""

    trace: Trace
    outputs: list[Any]
    shadow: Any


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is decided before a number is computed."""

    graph: Graph
    folded: Folded
    schedule: Schedule
    layout: Layout


def trace_samples(
    model: nn.Module, samples: Sequence[Any], kwargs: dict[str, Any], settings: Settings, registry: Registry
) -> Traced:
    """Run the forward of every sample on a shadow of `model`.

    An exception of the user's own carries the sample's index in a note.
    """
    shared = list(model.parameters())
    shared += [leaf for leaf in pytree.tree_leaves(kwargs) if isinstance(leaf, torch.Tensor)]
    trace = Trace(registry, shared)
    shadow = make_shadow(model, trace, settings.cells)
    held = containers(all_shadows(shadow))
    outputs = []
    try:
        with trace, TraceMode(trace):
            for trace.sample, sample in enumerate(samples):
                outputs.append(shadow(*sample, **kwargs) if settings.star else shadow(sample, **kwargs))
        trace.keep_promises()
    except BaseException as error:
        restore(held)  # no lazy value stays behind in the model
        if not isinstance(error, TraceError):
            error.add_note(f"bale: in the forward of sample {trace.sample}")
        raise
    return Traced(trace, outputs, shadow)


def make_plan(traced: Traced, settings: Settings, clock: Callable[[str], None] = lambda stage: None) -> Plan:
    """Fold, schedule and lay out what was traced."""
    trace = traced.trace
    graph = trace.graph
    refs = [leaf for leaf in _result_leaves(traced) if type(leaf) is Ref]
    for ref in refs:
        if ref.trace is not trace:
            raise TraceError("a forward returned a lazy value of an earlier call; return what this call computed")
    gathers = np.array([cell.rung_name == "gather" and bool(cell.node_type.slots) for cell in trace.uses], bool)
    pinned = np.array([ref.value for ref in refs], np.int64)
    folded = fold(graph, gathers, pinned)
    clock("trace")
    schedule = make_schedule(folded.graph, settings.policy)
    clock("schedule")
    layout = make_layout(folded.graph, schedule)
    clock("memory")
    return Plan(graph, folded, schedule, layout)


@dataclass(frozen=True, eq=False)
class Result:
    """The outputs of all samples, what was planned for them, and what it took."""

    outputs: list[Any]
    traced: Traced
    plan: Plan
    stats: Stats


def run_samples(
    model: nn.Module,
    samples: Sequence[Any],
    kwargs: dict[str, Any],
    settings: Settings,
    registry: Registry,
    watch: Watch | None = None,
) -> Result:
    """Trace, plan and run; nothing of the model changes where it fails."""
    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def clock(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage], last = now - last, now

    traced = trace_samples(model, samples, kwargs, settings, registry)
    plan = make_plan(traced, settings, clock)
    # Cells run under the grad mode that they were recorded in; what moves their values about must keep either kind.
    with torch.set_grad_enabled(not torch.is_inference_mode_enabled()):
        arenas = execute(traced, plan, settings, watch)
        settle = Settler(plan, arenas)
        settle.prepare([leaf for leaf in _result_leaves(traced) if type(leaf) is Ref])
    outputs = [_map_leaves(settle, output) for output in traced.outputs]
    write_back(traced.shadow, lambda value: _map_leaves(settle, value))
    clock("execute")
    stats = Stats(
        samples=len(samples),
        nodes=len(plan.folded.graph),
        types=len(plan.folded.graph.types),
        batches=len(plan.schedule),
        bound=lower_bound(plan.folded.graph),
        seconds=seconds,
        policy=plan.schedule.policy,
        executor=settings.executor,
    )
    return Result(outputs, traced, plan, stats)


def execute(traced: Traced, plan: Plan, settings: Settings, watch: Watch | None = None) -> Arenas:
    uses = list(traced.trace.uses.values())
    columns = Columns(uses, plan.folded.kept, plan.graph.sample)
    columns.stack(uses, plan.graph.rows)
    cells = tuple(uses[t].cell for t in plan.folded.type_of)
    return run(Program(plan.folded.graph, cells, columns), plan.schedule, plan.layout, settings.check, watch)


def _map_leaves(settle: Callable[[Any], Any], tree: Any) -> Any:
    # pytree takes a torch.Size apart and puts a tuple together again
    return pytree.tree_map(settle, tree, is_leaf=lambda leaf: isinstance(leaf, torch.Size))


def _result_leaves(traced: Traced) -> list[Any]:
    return pytree.tree_leaves([traced.outputs, written_values(traced.shadow)])


class Settler:
    """Turns Refs into tensors in memory of their own: never views of an arena, the same Ref into the same tensor."""

    def __init__(self, plan: Plan, arenas: Arenas):
        self.plan, self.arenas = plan, arenas
        self.tensors: dict[tuple[Any, ...], torch.Tensor] = {}

    def __call__(self, leaf: Any) -> Any:
        return self.tensors[self._key(leaf)] if type(leaf) is Ref else leaf

    @staticmethod
    def _key(ref: Ref) -> tuple[Any, ...]:
        return ref.value, ref.index, tuple(ref.shape)

    def prepare(self, refs: Sequence[Ref]) -> None:
        """Gather the Refs of one shape together, so that their gradients come back in one piece."""
        groups: dict[tuple[Any, ...], list[Ref]] = {}
        for ref in refs:
            if self._key(ref) not in self.tensors:
                self.tensors[self._key(ref)] = None  # type: ignore[assignment]
                groups.setdefault((ref.shape, ref.dtype, ref.device, ref.requires_grad), []).append(ref)
        for (shape, *_), members in groups.items():
            gathered = self.gather(members, tuple(shape))
            for ref, row in zip(members, gathered.unbind(0), strict=True):
                # a row is a view of what unbind was given; its clone is nobody's
                own = row.clone()
                self.tensors[self._key(ref)] = own if ref.requires_grad else own.detach()

    def gather(self, refs: Sequence[Ref], shape: tuple[int, ...]) -> torch.Tensor:
        """[len(refs), *shape]: the values of `refs`, one after another."""
        layout, folded = self.plan.layout, self.plan.folded
        values = folded.value(self.plan.graph, np.array([ref.value for ref in refs]))
        arena, steps, rows = [], [], []
        for ref, value in zip(refs, values, strict=True):
            inner = layout.arenas[layout.value_arena[value]][0]
            leading = max(len(inner) - len(shape), 0)
            step = int(np.prod(inner[:leading], dtype=np.int64))
            first = int(layout.value_row[value]) * step
            if ref.index == WHOLE:
                found = np.arange(first, first + int(layout.value_rows[value]) * step)
            else:
                found = np.array([first + ref.index])
            rows.append(found)
            arena.append(np.full(found.size, layout.value_arena[value], np.int32))
            steps.append(np.full(found.size, step, np.int32))
        return self.arenas.gather(np.concatenate(arena), np.concatenate(steps), np.concatenate(rows), shape)
