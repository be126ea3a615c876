"""The way of the data: samples are traced, the graph reduced and scheduled, laid out in memory, and executed."""

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
from bale.batching.execute.launch import Program, Watch
from bale.batching.execute.outputs import group_results
from bale.batching.execute.planned import PlannedCall, can_plan, run_planned
from bale.batching.execute.reference import run
from bale.batching.fold import Folded, fold
from bale.batching.graph import Graph
from bale.batching.memory.arrange import arrange
from bale.batching.memory.layout import Layout, make_layout
from bale.batching.merge import Merged, merge, mergeable_types
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
from bale.batching.trace.tracer import Registry, Trace
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
    star: bool
    stacked: bool
    cells: CellFilter


@dataclass(frozen=True, eq=False)
class Traced:
    """What the forwards left behind: the trace, their outputs (Refs inside), and the shadow they ran on.

    `held` is what the lists, dicts and sets of the model's attributes held before.
    """

    trace: Trace
    outputs: list[Any]
    shadow: Any
    held: list[tuple[Any, Any]]


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
    trace = Trace(registry, shared)
    shadow = make_shadow(model, trace, settings.cells)
    held = containers(all_shadows(shadow))
    outputs = []
    try:
        with trace, TraceMode(trace):
            for trace.sample, sample in enumerate(samples):
                outputs.append(shadow(*sample, **kwargs) if settings.star else shadow(sample, **kwargs))
            if trace.deferrals:
                for ref in deferred_in([outputs, written_values(shadow)]):
                    settle_result(trace, ref)
        trace.keep_promises()
    except BaseException as error:
        restore(held)  # no lazy value stays behind in the model
        if not isinstance(error, TraceError):
            error.add_note(f"bale: in the forward of sample {trace.sample}")
        raise
    return Traced(trace, outputs, shadow, held)


def results_of(traced: Traced) -> list[Ref]:
    """The lazy values that the forwards left behind, each value once."""
    leaves = pytree.tree_leaves([traced.outputs, written_values(traced.shadow)])
    refs = list({_key(leaf): leaf for leaf in leaves if type(leaf) is Ref}.values())
    for ref in refs:
        if ref.trace is not traced.trace:
            raise TraceError("a forward returned a lazy value of an earlier call; return what this call computed")
    return refs


def make_plan(
    traced: Traced, refs: Sequence[Ref], settings: Settings, clock: Callable[[str], None] = lambda stage: None
) -> Plan:
    """Reduce, schedule and lay out what was traced; `refs` are the results."""
    reduced = reduce(traced.trace, refs, settings)
    graph = reduced.folded.graph
    clock("trace")
    schedule = make_schedule(graph, settings.policy)
    clock("schedule")
    schedule = arrange(graph, schedule)
    layout = make_layout(graph, schedule)
    clock("memory")
    return Plan(reduced, schedule, layout)


def reduce(trace: Trace, refs: Sequence[Ref], settings: Settings) -> Reduced:
    """Merge equal computations, leave out what nobody needs, fold reductions into gathers; `refs` are the results."""
    cells, graph = list(trace.formats), trace.graph
    mergeable = mergeable_types(cells) if settings.merge else np.zeros(len(cells), bool)
    merged = merge(graph, mergeable, *trace.constant_ids())
    results = merged.value(graph, trace.values_of(refs)[0])
    needed = needed_nodes(merged.graph, types_that_run_unread(cells), results)
    gathers = np.array([cell.rung_name == "gather" and bool(cell.node_type.slots) for cell in cells], bool)
    return Reduced(graph, merged, needed, fold(merged.graph, gathers, results, needed))


def graph_of(
    model: nn.Module, samples: Sequence[Any], kwargs: dict[str, Any], settings: Settings, registry: Registry
) -> Graph:
    """The graph that a mini-batch is scheduled as; nothing is computed, nothing of the model changes."""
    traced = trace_samples(model, samples, kwargs, settings, registry)
    try:
        return reduce(traced.trace, results_of(traced), settings).folded.graph
    finally:
        restore(traced.held)  # what forwards left there will never be computed


@dataclass(frozen=True, eq=False)
class Result:
    """The outputs of all samples, what was planned for them, and what it took."""

    outputs: list[Any]
    traced: Traced
    plan: Plan
    call: PlannedCall
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
    refs = results_of(traced)
    plan = make_plan(traced, refs, settings, clock)
    results = execute(traced, plan, refs, settings, watch)
    tensors = {_key(ref): _shaped(ref, tensor) for ref, tensor in zip(refs, results.tensors, strict=True)}

    def settle(leaf: Any) -> Any:
        return tensors[_key(leaf)] if type(leaf) is Ref else leaf

    outputs = [_map_leaves(settle, output) for output in traced.outputs]
    write_back(traced.shadow, lambda value: _map_leaves(settle, value))
    clock("execute")
    stats = Stats(
        samples=len(samples),
        nodes=len(plan.graph),
        types=len(plan.graph.types),
        batches=len(plan.schedule),
        bound=lower_bound(plan.graph),
        seconds=seconds,
        policy=plan.schedule.policy,
        unseen=plan.schedule.unseen,
        executor=results.executor,
    )
    return Result(outputs, traced, plan, results.call, stats)


@dataclass(frozen=True)
class Results:
    """A tensor for each result that was asked for, in memory of its own, and which executor made them."""

    tensors: list[torch.Tensor]
    executor: str
    call: PlannedCall


def execute(traced: Traced, plan: Plan, refs: Sequence[Ref], settings: Settings, watch: Watch | None = None) -> Results:
    """Run the plan; `refs` are the results."""
    uses = list(traced.trace.uses.values())
    # Cells run under the grad mode that they were recorded in; what moves their values about must keep either kind.
    with torch.set_grad_enabled(not torch.is_inference_mode_enabled()):
        reduced = plan.reduced
        columns = Columns(uses, reduced.traced_node, reduced.graph.sample)
        columns.stack(uses, reduced.graph.rows)
        program = Program(plan.graph, tuple(uses[t].cell for t in reduced.folded.type_of), columns)
        values, index = traced.trace.values_of(refs)
        kinds = [(ref.home.spec, ref.home.length) for ref in refs]
        groups, order = group_results(plan.layout, reduced.value(values), index, kinds)
        call = PlannedCall(program, plan.schedule, plan.layout, groups, settings.check, settings.capture)
        executor = settings.executor if can_plan(program) else "reference"
        if executor == "planned":
            rows = run_planned(call, watch)
        else:
            arenas = run(program, plan.schedule, plan.layout, settings.check, watch)
            rows = [row for group in groups for row in group.rows_of(arenas)]
    placed: list[Any] = [None] * len(refs)
    for k, row in zip(order, rows, strict=True):
        placed[k] = row
    return Results(placed, executor, call)


def _shaped(ref: Ref, tensor: torch.Tensor) -> torch.Tensor:
    return tensor if ref.home.shape is None else tensor.view(ref.home.shape)


def _key(ref: Ref) -> tuple[Any, ...]:
    return ref.part, ref.home


def _map_leaves(settle: Callable[[Any], Any], tree: Any) -> Any:
    if type(tree) is Ref:
        return settle(tree)
    # pytree takes a torch.Size apart and puts a tuple together again
    return pytree.tree_map(settle, tree, is_leaf=lambda leaf: isinstance(leaf, torch.Size))
