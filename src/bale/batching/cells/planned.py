"""Planned: the first rung. Capture a cell, emit its code, prove it against the rows, and say why where that fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from bale.batching.cells.backend import Backend
from bale.batching.cells.call import Kind
from bale.batching.cells.capture import CaptureError, Subject, capture
from bale.batching.cells.celltype import CellType
from bale.batching.cells.emit import Emitted, emit, paired_gradient
from bale.batching.cells.places import Place
from bale.batching.cells.rungs import Operands, ProofError, prove
from bale.errors import CellError


def plan_cell(cell: CellType, backend: Backend) -> Emitted:
    """Code for `cell`, proved in values and gradients on batches of uneven sizes.

    Raises CaptureError with the reason why the cell must stay on the rung that it has.
    """
    if cell.operands is None or cell.call is None or cell.row is None:
        raise CaptureError("it is no call of the user's own")
    if backend.name == "numba" and cell.device.type != "cpu":
        raise CellError(f"{cell.name} runs on {cell.device}, and backend='numba' compiles for the CPU; use 'auto'")
    if cell.stateful or cell.seeded or cell.rung_name == "rows":
        raise CaptureError("its rows run one by one")
    if not cell.node_type.outputs:
        raise CaptureError("it returns no tensor")
    if cell.own_backward:
        raise CaptureError(cell.own_backward)
    grads = tuple(spec.requires_grad and spec.dtype.is_floating_point for spec in cell.node_type.outputs)
    kernels = backend.kernels(cell.device)
    subject = Subject(cell.rung, cell.call.state, cell.operands, cell.trained if any(grads) else (), grads)
    captured = capture(subject)
    try:
        gathered = [kind is Kind.VALUE for kind in cell.kinds]
        emitted = emit(captured, gathered, backend.compiles(cell.device), kernels)
    except CaptureError:
        raise
    except Exception as error:  # a graph that nobody thought of must not end the user's call: the rung is there
        raise CaptureError(f"its code cannot be written: {type(error).__name__}: {error}") from error
    proof = Operands(
        cell.operands.specs, cell.operands.kinds, cell.operands.samples, cell.operands.draws, list(cell.trained)
    )
    try:
        with kernels.on(cell.device):
            prove(_Uneven(emitted, cell), cell.row, cell.call, proof)
            if any(calls.numbers for calls in emitted.calls):
                for joined in (True, False):
                    prove(_Uneven(emitted, cell, early=False, joined=joined), cell.row, cell.call, proof)
    except ProofError as error:
        raise CaptureError(f"its code differs from its rows: {error}") from error
    return emitted


class _Uneven:
    """The code as a rung: the given rows in batches of uneven sizes, so that a sum over one batch alone is noticed."""

    name = "planned"

    def __init__(self, emitted: Emitted, cell: CellType, early: bool = True, joined: bool = True):
        """`early`: whether products that may run once for all batches do; `joined`: whether others may be one call."""
        self.emitted, self.cell, self.early, self.joined = emitted, cell, early, joined
        self.numbers: Sequence[torch.Tensor] = ()

    def __call__(self, columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        # prove() replays its draws around us; the code takes them as operands
        mode = _get_current_dispatch_mode()
        numbers = list(getattr(mode, "numbers", ()))
        assert self.cell.operands is not None
        outputs = _Proof.apply(self, len(columns), *columns, *numbers, *self.emitted.captured.trained)
        return list(outputs)


class _Proof(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rung: _Uneven, columns: int, *inputs: torch.Tensor) -> Any:
        numbers = len(rung.emitted.captured.numbers)
        frame = ProofFrame(rung, inputs[:columns], inputs[columns : columns + numbers])
        run = rung.emitted.open_forward(frame)
        for k in range(len(frame.rows)):
            run(k)
        ctx.frame, ctx.inputs, ctx.columns = frame, len(inputs), columns
        outputs = tuple(frame.results)
        plain = [out for out, spec in zip(outputs, rung.cell.node_type.outputs, strict=True) if not spec.requires_grad]
        ctx.mark_non_differentiable(*plain)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        frame = ctx.frame
        frame.open_gradients(gradients)
        run, weights = frame.emitted.open_backward(frame)
        for k in reversed(range(len(frame.rows))):
            run(k)
        found = frame.column_gradients()
        trained = weights()
        middle = [None] * (ctx.inputs - ctx.columns - len(trained))
        return None, None, *found, *middle, *trained


class ProofFrame:
    """What emitted code reads and writes, standing alone: columns are given whole."""

    def __init__(self, rung: _Uneven, columns: Sequence[torch.Tensor], numbers: Sequence[torch.Tensor]):
        self.emitted, self.cell, self.joined = rung.emitted, rung.cell, rung.joined
        emitted, cell = rung.emitted, rung.cell
        self.backend = Backend()  # nothing is rounded
        self.total = columns[0].shape[0]
        first = self.total // 2
        self.rows = [n for n in (first, self.total - first) if n]
        self.starts = [0, *([first] if first else [])][: len(self.rows)]
        self.kept: dict[str, Any] = {}
        self.early = frozenset(emitted.early if len(self.rows) > 1 and rung.early else ())
        self.reads = emitted.captured.read_tensors
        self.numbers = [n.detach() for n in numbers]
        self.device = cell.node_type.outputs[0].device
        self.buffers = [torch.zeros(self.total, w, device=self.device) for w in emitted.buffers]
        self.columns = [c.detach() for c in columns]
        self.indexed_columns = [self._give(c, access) for c, access in zip(self.columns, emitted.columns, strict=True)]
        self.results = [
            torch.zeros(self.total, *spec.shape, dtype=spec.dtype, device=spec.device)
            for spec in cell.node_type.outputs
        ]
        self.outputs = [out.split(self.rows) for out in self.results]
        self.outputs_memory = [(self._flat(out), self.starts) for out in self.results]

    def split(self, whole: torch.Tensor) -> Any:
        return whole.split(self.rows)

    def pack(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.t()

    def joins(self, numbers: int) -> bool:
        return self.joined

    def _give(self, column: torch.Tensor, access: Any) -> Any:
        if isinstance(access, Place):
            self.buffers[access.home[1]][:, access.column : access.column + access.width] = column
        if access != "index":
            return None
        return self._flat(column.contiguous()), self._rows_from(0), self.starts

    def _give_pairs(self, gradient: torch.Tensor) -> Any:
        """Half of a gradient and the rest of it, so that a sum which leaves one out is noticed."""
        half = gradient / 2
        both = self._flat(torch.cat([half, gradient - half]))
        return both, self._rows_from(0), self.starts, self._rows_from(self.total)

    def _flat(self, tensor: torch.Tensor) -> Any:
        return self.emitted.kernels.array(tensor.view(tensor.shape[0], tensor.numel() // tensor.shape[0]))

    def _rows_from(self, first: int) -> Any:
        return self.emitted.kernels.array(torch.arange(first, first + self.total, device=self.device))

    def open_gradients(self, gradients: Sequence[torch.Tensor]) -> None:
        given = []
        for gradient, spec in zip(gradients, self.cell.node_type.outputs, strict=True):
            given.append(gradient.contiguous() if spec.requires_grad else gradient)
        self.gradients = given
        self.indexed_gradients = [
            None if access is None else self._give(gradient, access)
            for gradient, access in zip(given, self.emitted.gradients, strict=True)
        ]
        paired = paired_gradient(self.emitted.gradients)
        if paired is not None:
            self.indexed_gradients[paired] = self._give_pairs(given[paired])
        assert self.cell.operands is not None
        specs = self.cell.operands.specs
        self.made = [
            torch.zeros(self.total, len(block), *specs[block[0]].shape, dtype=specs[block[0]].dtype,
                        device=specs[block[0]].device)
            for block in self.emitted.blocks
        ]  # fmt: skip
        self.blocks = [
            (made.view(self.total, -1) if len(block) > 1 else made.squeeze(1)).split(self.rows)
            for made, block in zip(self.made, self.emitted.blocks, strict=True)
        ]
        self.blocks_memory = [(self._flat(made), self.starts) for made in self.made]

    def whole_block(self, number: int) -> torch.Tensor:
        return self.made[number].view(self.total, -1)

    def column_gradients(self) -> list[torch.Tensor | None]:
        found: list[torch.Tensor | None] = [None] * len(self.columns)
        for made, block in zip(self.made, self.emitted.blocks, strict=True):
            for k, column in enumerate(block):
                found[column] = made[:, k]
        return found
