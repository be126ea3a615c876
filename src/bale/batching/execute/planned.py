"""The planned executor: one autograd function for the whole mini-batch, over memory that was laid out beforehand.

Forward, every batch of the schedule writes a slice of the arenas; backward runs the same schedule in reverse, gathers
each value's gradient from the blocks of its readers, and sums the gradients of weights once per type.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]

from bale.batching.cells.backend import Backend
from bale.batching.cells.capture import CaptureError
from bale.batching.cells.celltype import CellType
from bale.batching.cells.emit import Emitted
from bale.batching.cells.hooks import REENTRANT, unseen, without_hooks
from bale.batching.cells.planned import plan_cell
from bale.batching.execute import reference
from bale.batching.execute.captured_frame import CapturedFrame, DemotedError, captured_blocks, rows_added
from bale.batching.execute.frame import Frame, Gradients, Site
from bale.batching.execute.launch import Program, Watch, blame
from bale.batching.execute.memory import CallMemory, device_of, numel
from bale.batching.execute.outputs import Group
from bale.batching.execute.plain_frame import PlainFrame, plain_blocks
from bale.batching.graph import Graph, Mode
from bale.batching.memory.adjoint import Adjoint, Block, Reads, make_adjoint
from bale.batching.memory.early import early_slots
from bale.batching.memory.layout import Layout
from bale.batching.schedule.schedule import Schedule
from bale.errors import BaleError

# How often a type's rung serves it before it is captured. A type may never come again, and capturing takes long.
CALLS_BEFORE_CAPTURE = {"lazy": 1, "eager": 0}
_capturing = threading.Lock()


def can_plan(program: Program) -> bool:
    """Is this call one for the planned executor? State kept in trace order, function transforms and forward-mode
    derivatives are the reference executor's."""
    if any(cell.stateful or cell.own_backward == REENTRANT for cell in program.cells):
        return False
    if _functorch.peek_interpreter_stack() is not None:
        return False
    return torch.autograd.forward_ad._current_level < 0


def run_planned(call: PlannedCall, watch: Watch | None = None) -> list[torch.Tensor]:
    """The outputs, group by group, each a tensor in memory of its own."""
    while True:
        call.settle()
        inputs = call.inputs if torch.is_grad_enabled() and call.wants_gradients else []
        try:
            if not inputs:
                return call.run(gradients=False, watch=watch)
            return list(_Planned.apply(call, watch, *inputs))
        except DemotedError:
            continue  # the cell that differed has given up its code


def _settle(cell: CellType, calls: int, backend: Backend) -> None:
    """Capture the cell if it is time to."""
    if cell.emitted is None and not cell.not_planned and cell.calls >= calls:
        with _capturing:
            try:
                if cell.emitted is not None or cell.not_planned:
                    pass  # another thread was faster
                elif cell.rung_name == "gather" or cell.segments:
                    cell.not_planned = "its work is done by its operands, or length by length"
                else:
                    with without_hooks(cell.trained), unseen():
                        cell.emitted, cell.batches_run = plan_cell(cell, backend), 0
            except CaptureError as error:
                cell.give_up_capture(str(error))
    cell.calls += 1


@dataclass(eq=False)
class PlannedCall:
    """One call: what is planned, and, while its graph lives, the memory that it fills."""

    program: Program
    schedule: Schedule
    layout: Layout
    groups: Sequence[Group]
    check: str
    capture: str = "lazy"
    backend: Backend = field(default_factory=Backend)
    emitted: list[Emitted | None] = field(default_factory=list)
    filled: Filled | None = None

    @property
    def graph(self) -> Graph:
        return self.program.graph

    @property
    def wants_gradients(self) -> bool:
        return any(group.requires_grad for group in self.groups)

    def settle(self) -> None:
        """Capture the cells whose time has come, and decide which code runs: once a call, whatever other threads do."""
        for cell in dict.fromkeys(self.program.cells):
            _settle(cell, CALLS_BEFORE_CAPTURE[self.capture], self.backend)
        self.emitted = [
            None if any(mode is Mode.MAX for mode in t.slots) else cell.emitted
            for t, cell in zip(self.graph.types, self.program.cells, strict=True)
        ]

    @property
    def inputs(self) -> list[torch.Tensor]:
        """Everything that the outputs can be differentiated by: weights, and the samples' own tensors, stacked."""
        found = {id(t): t for cell in self.program.cells for t in cell.trained if t.requires_grad}
        found |= {id(t): t for t in self.program.columns.trained()}
        return list(found.values())

    def run(self, gradients: bool, watch: Watch | None = None) -> list[torch.Tensor]:
        """Forward; keeps the filled memory in `self.filled` where gradients are wanted."""
        blocks = self.blocks() if gradients else []
        adjoint = self.adjoint(blocks) if gradients else None
        memory = self.memory(adjoint)
        filled = Filled(self, memory, blocks, watch)
        filled.forward()
        self.filled = filled if gradients else None
        return [row for group in self.groups for row in group.rows(memory)]

    def memory(self, adjoint: Adjoint | None) -> CallMemory:
        kernels = self.backend.kernels(device_of(self.layout))
        return CallMemory(self.graph, self.schedule, self.layout, adjoint, kernels)

    def blocks(self) -> list[tuple[Block, ...]]:
        return [
            plain_blocks(cell, node_type) if emitted is None else captured_blocks(cell, emitted)
            for cell, emitted, node_type in zip(self.program.cells, self.emitted, self.graph.types, strict=True)
        ]

    def early_slots(self) -> list[frozenset[int]]:
        """Per type; none where no code asks."""
        if not any(emitted is not None and emitted.early for emitted in self.emitted):
            return [frozenset()] * len(self.emitted)
        return early_slots(self.graph, self.schedule)

    def adjoint(self, blocks: Sequence[Sequence[Block]]) -> Adjoint:
        wanted = [group for group in self.groups if group.requires_grad]

        def joined(name: str, dtype: Any) -> np.ndarray:
            return np.concatenate([getattr(group, name) for group in wanted] or [np.zeros(0)]).astype(dtype)

        start = np.concatenate([[0], np.cumsum(joined("count", np.int64))])
        reads = Reads(joined("arena", np.int32), joined("step", np.int32), joined("row", np.int64), start)
        kernels = [
            [0] * len(t.outputs) if emitted is None else rows_added(emitted.gradients)
            for t, emitted in zip(self.graph.types, self.emitted, strict=True)
        ]
        return make_adjoint(self.graph, self.schedule, self.layout, blocks, reads, kernels)

    def reference_gradients(
        self, inputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        """By plain autograd, recomputed from the inputs: can be differentiated again where grad mode is on."""
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            arenas = reference.run(self.program, self.schedule, self.layout, "off")
            outputs = [row for group in self.groups for row in group.rows_of(arenas)]
        pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
        asked = [t for t in inputs if t.requires_grad]
        if not pairs or not asked:
            return [None] * len(inputs)
        found = iter(
            torch.autograd.grad(
                [o for o, _ in pairs], asked, [g for _, g in pairs], create_graph=again, allow_unused=True
            )
        )
        return [next(found) if t.requires_grad else None for t in inputs]


class Filled:
    """The memory of one call after its forward run, and what runs backward over it."""

    def __init__(self, call: PlannedCall, memory: CallMemory, blocks: Sequence[Sequence[Block]], watch: Watch | None):
        self.memory, self.call = memory, call
        self.inputs: Sequence[torch.Tensor] = ()
        self.spent = False  # does it no longer hold all that a backward run reads?
        self.frames: list[Frame | None] = [None] * len(call.graph.types)
        self.turn: list[int] = []  # per batch its number among those of its type
        sites = _sites(call.graph, call.schedule, call.layout, memory.adjoint)
        early = call.early_slots()
        with torch.set_grad_enabled(not torch.is_inference_mode_enabled()):
            for site in sites:
                cell, emitted = call.program.cells[site.kind], call.emitted[site.kind]
                given = (cell, site, memory, call.program, call.check, watch)
                self.frames[site.kind] = (
                    PlainFrame(*given, blocks=blocks[site.kind] if blocks else ())
                    if emitted is None
                    else CapturedFrame(*given, emitted=emitted, early_slots=early[site.kind], backend=call.backend)
                )
        seen = [0] * len(call.graph.types)
        self.kinds: list[int] = call.schedule.batch_type.tolist()
        for kind in self.kinds:
            self.turn.append(seen[kind])
            seen[kind] += 1

    def forward(self) -> None:
        frames = self.frames
        # hooks of the user's own (checkpointing, say) are for what the whole call saves
        with torch.no_grad(), unseen(), self.memory.kernels.on(self.memory.device):
            for kind, k in zip(self.kinds, self.turn, strict=True):
                frame = frames[kind]
                assert frame is not None
                try:
                    frame.forward(k)
                except (BaleError, DemotedError):
                    raise
                except Exception as error:
                    error.add_note(blame(self.call.program, frame.cell, frame.nodes(k)))
                    raise
        for frame in frames:
            if frame is not None:
                frame.close_forward()

    def backward(self, gradients: Sequence[torch.Tensor | None], keep: bool) -> Gradients:
        """Unless `keep`, what is not read any more is released type by type, and this was the only time."""
        self.spent = True  # until it is restored, also where the run is broken off
        frames = [frame for frame in self.frames if frame is not None] if keep else []
        copies = [(tensor, tensor.clone()) for frame in frames for tensor in frame.destroyed()]
        self.memory.open_gradients()
        self._write_output_gradients(gradients)
        trained = {id(t): t for cell in self.call.program.cells for t in cell.trained}
        with without_hooks(trained.values()), self.memory.kernels.on(self.memory.device):
            found = self._run_backward(keep)
        if keep:
            for tensor, copy in copies:
                tensor.copy_(copy)
            self.spent = False
        return found

    def _run_backward(self, keep: bool) -> Gradients:
        found: list[Gradients] = [[] for _ in self.frames]
        for kind, k in zip(reversed(self.kinds), reversed(self.turn), strict=True):
            frame = self.frames[kind]
            assert frame is not None
            try:
                frame.backward(k, keep)
            except Exception as error:
                error.add_note(blame(self.call.program, frame.cell, frame.nodes(k)))
                raise
            if k == 0:  # the last of its type
                found[kind] = frame.weights(keep)
                self.frames[kind] = frame if keep else None
        return [pair for pairs in found for pair in pairs]

    def _write_output_gradients(self, gradients: Sequence[torch.Tensor | None]) -> None:
        memory, given, first = self.memory, iter(gradients), 0
        assert memory.adjoint is not None
        for group in self.call.groups:
            mine = [next(given) for _ in range(group.members)]
            if group.requires_grad:
                bases = memory.adjoint.output_base[first : first + group.members]
                first += group.members
                flat = memory.gradients[memory.memory_of(group.dtype, group.device)]
                _write_rows(flat, bases, group.shapes, mine)


def _write_rows(
    flat: torch.Tensor, bases: np.ndarray, shapes: Sequence[tuple[int, ...]], gradients: Sequence[torch.Tensor | None]
) -> None:
    """Write `gradients` to where they begin in `flat`: at once where they lie side by side."""
    order, sizes = np.argsort(bases, kind="stable"), np.array([numel(shape) for shape in shapes])
    ends = bases + sizes
    in_order = [gradients[k] for k in order.tolist()]
    side_by_side = (ends[order[:-1]] == bases[order[1:]]).all()
    if side_by_side and sizes.all() and all(gradient is not None for gradient in in_order):
        low, high = int(bases[order[0]]), int(ends[order[-1]])
        torch.cat([gradient.reshape(-1) for gradient in in_order], out=flat[low:high])  # type: ignore[union-attr]
        return
    for base, shape, gradient in zip(bases.tolist(), shapes, gradients, strict=True):
        row = flat[base : base + numel(shape)].view(shape)
        row.zero_() if gradient is None else row.copy_(gradient)


def _sites(graph: Graph, schedule: Schedule, layout: Layout, adjoint: Adjoint | None) -> list[Site]:
    kinds = schedule.batch_type
    slots = np.array([len(t.slots) for t in graph.types], np.int64)
    column = np.concatenate([[0], np.cumsum(slots[kinds])])
    counts = np.diff(schedule.batch_start)
    sites = []
    for kind in np.unique(kinds).tolist():
        batches = np.flatnonzero(kinds == kind)
        rows, mine = layout.batch_rows[batches], counts[batches]
        nodes = np.concatenate([schedule.order[schedule.batch_start[b] : schedule.batch_start[b + 1]] for b in batches])
        blocks = adjoint.block_start[batches].tolist() if adjoint is not None else [0] * batches.size
        sites.append(
            Site(
                kind, batches.tolist(), rows.tolist(), (np.cumsum(rows) - rows).tolist(), mine.tolist(),
                (np.cumsum(mine) - mine).tolist(), nodes, column[batches].tolist(), blocks,
            )
        )  # fmt: skip
    return sites


def _keeps_graph() -> bool:
    """May the backward run that is going on be repeated? Taken for true where this torch does not say."""
    autograd = getattr(torch._C, "_autograd", None)
    asked = getattr(autograd, "_get_current_graph_task_keep_graph", None)
    return True if asked is None else asked()


class _Planned(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: PlannedCall, watch: Watch | None, *inputs: torch.Tensor) -> Any:
        outputs = call.run(gradients=True, watch=watch)
        # The filled memory hangs on a saved tensor, so that it goes when autograd lets go of what was saved.
        carrier = torch.empty(0)
        assert call.filled is not None
        call.filled.inputs = inputs
        carrier.filled, call.filled = call.filled, None  # type: ignore[attr-defined]
        ctx.save_for_backward(*inputs, carrier)
        ctx.call, ctx.inputs = call, inputs
        ctx.set_materialize_grads(False)
        flags = [group.requires_grad for group in call.groups for _ in range(group.members)]
        ctx.mark_non_differentiable(*(out for out, flag in zip(outputs, flags, strict=True) if not flag))
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if all(gradient is None for gradient in gradients):  # what led here was cut off, and may be spent long ago
            return None, None, *[None] * len(ctx.inputs)
        carrier = ctx.saved_tensors[-1]  # asking also checks that no weight was changed in place meanwhile
        inputs = ctx.inputs  # hooks on saved tensors (checkpointing) may have given copies back
        filled: Filled | None = getattr(carrier, "filled", None)
        if torch.is_grad_enabled() or filled is None or filled.spent:
            return None, None, *ctx.call.reference_gradients(inputs, gradients)
        own = filled.inputs  # of the same call run again where it is checkpointed: equal, one by one
        place = {id(tensor): k for k, tensor in enumerate(own)}
        stacked = filled.call.program.columns.trained()
        found: list[torch.Tensor | None] = [None] * len(inputs)
        for tensor, gradient in filled.backward(gradients, keep=_keeps_graph()):
            pairs = [(tensor, gradient)] if id(tensor) in place else _through_stacking(tensor, gradient, stacked)
            for owner, part in pairs:
                k = place[id(owner)]
                before = found[k]
                found[k] = part if before is None else before + part
        return None, None, *found


def _through_stacking(column: torch.Tensor, gradient: torch.Tensor, stacked: Sequence[torch.Tensor]) -> Gradients:
    """From the rows of constants in the order of the batches to the constants as they were stacked.

    And no further: a weight that was among them gets its part from what was stacked, which autograd does.
    """
    found = torch.autograd.grad(column, stacked, gradient, allow_unused=True, retain_graph=True)
    return [(tensor, part) for tensor, part in zip(stacked, found, strict=True) if part is not None]
