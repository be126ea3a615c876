"""The way of the data: samples are traced, the graph reduced and scheduled, laid out in memory, and executed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from bale.batching.cells.backend import Backend
from bale.batching.execute.constants import Columns
from bale.batching.execute.launch import Program, Watch
from bale.batching.execute.outputs import Group, group_results
from bale.batching.execute.planned import PlannedCall, can_plan, run_planned
from bale.batching.execute.reference import run
from bale.batching.fold import Folded, fold
from bale.batching.graph import Graph
from bale.batching.memory.arrange import arrange
from bale.batching.memory.layout import Layout, make_layout
from bale.batching.merge import Merged, merge, mergeable_types
from bale.batching.plans import Plans
from bale.batching.prune import needed_nodes, types_that_run_unread
from bale.batching.schedule import PolicyFunction, Schedule, lower_bound, make_schedule
from bale.batching.stats import Stats
from bale.batching.trace.cell_filter import CellFilter
from bale.batching.trace.containers import containers, restore
from bale.batching.trace.deferred import deferred_in
from bale.batching.trace.identity import parameters_of
from bale.batching.trace.mode import TraceMode
from bale.batching.trace.ref import Ref
from bale.batching.trace.shadow import make_shadow
from bale.batching.trace.trace import Result, Trace, map_leaves
from bale.batching.trace.tracer import Registry, Tracer
from bale.batching.trace.whole import settle_result
from bale.batching.trace.writeback import all_shadows, write_back, written_values
from bale.errors import TraceError


@dataclass(frozen=True)
class Settings:
    """How a batched model runs; see `bale.batch`."""

    policy: str | PolicyFunction
    executor: str
    check: str
    merge: bool
    capture: str
    reuse_plans: bool
    backend: Backend
    star: bool
    stacked: bool
    cells: CellFilter


@dataclass(frozen=True, eq=False)
class Traced:
    """What the forwards left behind: their trace, and the shadow of the model that they ran on.

    `refs` are the lazy values that the trace has results for; `held` is what the lists, dicts and sets of the model's
    attributes held before.
    """

    trace: Trace
    refs: dict[tuple[Any, ...], int]
    shadow: Any
    held: list[tuple[Any, Any]]

    def write_back(self, tensors: Sequence[torch.Tensor]) -> None:
        """Carry over to the model what the forwards wrote to its attributes, from a tensor for each result."""
        write_back(self.shadow, lambda value: map_leaves(Ref, lambda ref: tensors[self.refs[_key(ref)]], value))


@dataclass(frozen=True, eq=False)
class Reduced:
    """What was traced, and what of it runs: equal computations once, nothing unread, reductions inside gathers."""

    graph: Graph  # as it was traced
    merged: Merged
    needed: np.ndarray  # bool [merged nodes]
    folded: Folded  # what runs: the needed nodes of the merged graph, with reductions inside gathers

    @property
    def traced_node(self) -> np.ndarray:
        """int [nodes]: the traced node of every node that runs."""
        return self.merged.kept[self.folded.kept]

    def value(self, traced: np.ndarray) -> np.ndarray:
        """The ids of traced values, all of them results, in the graph that runs."""
        return self.folded.value(self.merged.graph, self.merged.value(self.graph, traced))


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is decided before a number is computed."""

    reduced: Reduced
    schedule: Schedule
    layout: Layout
    groups: list[Group]  # of results that look alike
    order: list[int]  # the number, among the results, of each of their members

    @property
    def graph(self) -> Graph:
        """What runs."""
        return self.reduced.folded.graph


def trace_samples(
    model: nn.Module, samples: Sequence[Any], kwargs: dict[str, Any], settings: Settings, registry: Registry
) -> Traced:
    """Run the forward of every sample on a shadow of `model`.

    An exception of the user's own carries the sample's index in a note.
    """
    shared = parameters_of(model)
    shared += [leaf for leaf in pytree.tree_leaves(kwargs) if isinstance(leaf, torch.Tensor)]
    tracer = Tracer(registry, shared)
    shadow = make_shadow(model, tracer, settings.cells)
    held = containers(all_shadows(shadow))
    outputs = []
    try:
        with tracer, TraceMode(tracer):
            for tracer.sample, sample in enumerate(samples):
                outputs.append(shadow(*sample, **kwargs) if settings.star else shadow(sample, **kwargs))
                _settle(tracer, outputs[-1])
            _settle(tracer, written_values(shadow))
        tracer.keep_promises()
    except BaseException as error:
        restore(held)  # no lazy value stays behind in the model
        if not isinstance(error, TraceError):
            error.add_note(f"bale: in the forward of sample {tracer.sample}")
        raise
    refs: dict[tuple[Any, ...], tuple[int, Ref]] = {}  # each value once

    def result(ref: Ref) -> Result:
        if ref.trace is not tracer:
            raise TraceError("a forward returned a lazy value of an earlier call; return what this call computed")
        return Result(refs.setdefault(_key(ref), (len(refs), ref))[0])

    outputs = [map_leaves(Ref, result, output) for output in outputs]
    map_leaves(Ref, result, written_values(shadow))
    piece = tracer.piece(outputs, [ref for _, ref in refs.values()])
    return Traced(Trace((piece,)), {key: number for key, (number, _) in refs.items()}, shadow, held)


Laid = tuple[Schedule, Layout]


def _settle(tracer: Tracer, tree: Any) -> None:
    """Record what a forward returns, or leaves in the model, and has not recorded yet."""
    if tracer.deferrals:
        for ref in deferred_in([tree]):
            settle_result(tracer, ref)


def make_plan(
    trace: Trace, settings: Settings, plans: Plans[Plan, Laid], clock: Callable[[str], None] = lambda stage: None
) -> Plan:
    """Reduce, schedule and lay out what was traced; or take what `plans` has for a graph that looks the same."""
    reduced = reduce(trace, settings)
    graph = reduced.folded.graph
    clock("trace")

    def lay_out() -> Laid:
        schedule = make_schedule(graph, settings.policy)
        clock("schedule")
        schedule = arrange(graph, schedule)
        return schedule, make_layout(graph, schedule)

    schedule, layout = plans.of_graph(graph, lay_out) if settings.reuse_plans else lay_out()
    values, index = trace.results
    groups, order = group_results(layout, reduced.value(values), index, trace.kinds)
    clock("memory")
    return Plan(reduced, schedule, layout, groups, order)


def reduce(trace: Trace, settings: Settings) -> Reduced:
    """Merge equal computations, leave out what nobody needs, fold reductions into gathers."""
    cells, graph = trace.cells, trace.graph
    mergeable = mergeable_types(cells) if settings.merge else np.zeros(len(cells), bool)
    merged = merge(graph, mergeable, *trace.constant_ids())
    results = merged.value(graph, trace.results[0])
    needed = needed_nodes(merged.graph, types_that_run_unread(cells), results)
    gathers = np.array([cell.rung_name == "gather" and bool(cell.node_type.slots) for cell in cells], bool)
    return Reduced(graph, merged, needed, fold(merged.graph, gathers, results, needed))


def graph_of(
    model: nn.Module, samples: Sequence[Any], kwargs: dict[str, Any], settings: Settings, registry: Registry
) -> Graph:
    """The graph that a mini-batch is scheduled as; nothing is computed, nothing of the model changes."""
    traced = trace_samples(model, samples, kwargs, settings, registry)
    try:
        return reduce(traced.trace, settings).folded.graph
    finally:
        restore(traced.held)  # what forwards left there will never be computed


def run_samples(
    model: nn.Module,
    samples: Sequence[Any],
    kwargs: dict[str, Any],
    settings: Settings,
    registry: Registry,
    plans: Plans[Plan, Laid] | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trace, plan and run; nothing of the model changes where it fails. `plans`: those that may be used again."""
    clock = Clock()
    traced = trace_samples(model, samples, kwargs, settings, registry)
    plan = make_plan(traced.trace, settings, Plans() if plans is None else plans, clock)
    run = run_plan(traced.trace, plan, settings, clock, watch)
    traced.write_back(run.tensors)
    return run


def run_trace(trace: Trace, settings: Settings, plans: Plans[Plan, Laid]) -> Run:
    """Plan and run what was traced, maybe not for the first time."""
    clock = Clock()
    plan = plans.of_trace(trace, lambda: make_plan(trace, settings, plans, clock))
    return run_plan(trace, plan, settings, clock)


class Clock:
    """Seconds by stage. Called at the end of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(("trace", "schedule", "memory", "execute"), 0.0)
        self.last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.last = now


def run_plan(trace: Trace, plan: Plan, settings: Settings, clock: Clock, watch: Watch | None = None) -> Run:
    """Compute what was planned."""
    tensors, executor, call = execute(trace, plan, settings, watch)
    outputs = trace.outputs(tensors)
    clock("execute")
    stats = Stats(
        samples=len(outputs),
        nodes=len(plan.graph),
        types=len(plan.graph.types),
        batches=len(plan.schedule),
        bound=lower_bound(plan.graph),
        seconds=clock.seconds,
        policy=plan.schedule.policy,
        unseen=plan.schedule.unseen,
        executor=executor,
    )
    return Run(outputs, tensors, trace, plan, call, stats)


@dataclass(frozen=True, eq=False)
class Run:
    """The outputs of all samples and the tensor of each result, what was planned for them, and what it took."""

    outputs: list[Any]
    tensors: list[torch.Tensor]
    trace: Trace
    plan: Plan
    call: PlannedCall
    stats: Stats


def execute(
    trace: Trace, plan: Plan, settings: Settings, watch: Watch | None = None
) -> tuple[list[torch.Tensor], str, PlannedCall]:
    """Run the plan: a tensor for each result, in memory of its own; which executor made them, and how it was called."""
    call = make_call(trace, plan, settings)
    # Cells run under the grad mode that they were recorded in; what moves their values about must keep either kind.
    with torch.set_grad_enabled(not torch.is_inference_mode_enabled()):
        executor = settings.executor if can_plan(call.program) else "reference"
        if executor == "planned":
            rows = run_planned(call, watch)
        else:
            arenas = run(call.program, plan.schedule, plan.layout, settings.check, watch)
            rows = [row for group in call.groups for row in group.rows_of(arenas)]
    placed: list[Any] = [None] * len(rows)
    for k, row in zip(plan.order, rows, strict=True):
        placed[k] = row
    for k, shape in trace.shapes.items():
        placed[k] = placed[k].view(shape)
    return placed, executor, call


def make_call(trace: Trace, plan: Plan, settings: Settings) -> PlannedCall:
    """What the plan runs on the constants of the samples. A trace that was made with gradients may be run without."""
    uses, reduced = list(trace.uses.values()), plan.reduced
    groups = plan.groups
    if trace.with_gradients and not torch.is_grad_enabled():
        groups = [replace(group, requires_grad=False) for group in groups]
    with torch.set_grad_enabled(not torch.is_inference_mode_enabled()):
        columns = Columns(uses, reduced.traced_node, reduced.graph.sample)
        columns.stack(uses, reduced.graph.rows)
    program = Program(plan.graph, tuple(uses[t].cell for t in reduced.folded.type_of), columns)
    how = settings.check, settings.capture, settings.backend
    return PlannedCall(program, plan.schedule, plan.layout, groups, *how)


def _key(ref: Ref) -> tuple[Any, ...]:
    return ref.part, ref.home
