"""CellType: everything that must agree for calls to share a launch, and how such a launch runs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from bale.batching.cells.call import PER_ROW, Call, Kind
from bale.batching.cells.draws import Draw, Replay
from bale.batching.cells.hooks import own_backward
from bale.batching.cells.probe import OutputLeaf, RefusalError, probe
from bale.batching.cells.rungs import Leading, Operands, ProofError, Rows, Vmap, make_row, mismatch, prove
from bale.batching.graph import Mode, NodeType, Spec
from bale.errors import CellError


@dataclass(eq=False)
class CellType:
    """A cell with the shapes, dtypes and static arguments of one kind of call.

    node_type   its face in the Graph
    kinds       where each column comes from: VALUE (a slot), CONST or NUMBER
    row         the call for one row, on the tensors of `kinds`; the definition of right
    rung        how many rows run at once
    ragged      a node is several rows: the length of its ragged operands
    """

    name: str
    node_type: NodeType
    kinds: tuple[Kind, ...]
    ragged_columns: tuple[bool, ...]
    number_dtypes: tuple[torch.dtype | None, ...]
    out_spec: Any
    outputs: tuple[OutputLeaf, ...]
    rung: Any
    rung_name: str
    row: Callable[..., list[torch.Tensor]] | None = None
    call: Call | None = None
    draws: tuple[Draw, ...] = ()
    seeded: bool = False
    stateful: bool = False
    ragged: bool = False
    segments: bool = False
    asserts: bool = False  # it holds an assertion on values
    reasons: tuple[str, ...] = ()
    module: torch.nn.Module | None = None
    trained: tuple[torch.Tensor, ...] = ()  # what it reads besides its operands and carries gradients
    operands: Operands | None = None  # random columns for proofs
    batches_run: int = field(default=0)
    calls: int = field(default=0)  # of the batched model that used the type
    emitted: Any = None  # the code of its first rung, once it was captured
    not_planned: str = ""  # why it has none
    key: Any = None  # by which the tracer finds it again
    program: Any = None  # where it is several calls on values of unlike lengths

    @cached_property
    def straight(self) -> bool:
        """Every output is a new tensor, or a view of a computed one, and no call depends on another: what the fast way
        of recording may take."""
        return not self.stateful and bool(self.outputs) and all(
            leaf.tensor is not None
            and leaf.same_as is None
            and (leaf.view_of is None or self.kinds[leaf.view_of] is Kind.VALUE)
            for leaf in self.outputs
        )  # fmt: skip

    @cached_property
    def views(self) -> tuple[int | None, ...]:
        """Of each output the number, among the operands that are computed, of that whose memory it shares."""
        return tuple([
            None if leaf.view_of is None else self.kinds[: leaf.view_of].count(Kind.VALUE) for leaf in self.outputs
        ])  # fmt: skip

    @cached_property
    def constants(self) -> int:
        """How many of its columns are not read from other nodes."""
        return sum(kind is not Kind.VALUE for kind in self.kinds)

    @cached_property
    def returns_tuple(self) -> bool:
        return (
            self.out_spec is not None
            and self.out_spec.type is tuple
            and all(child.is_leaf() for child in self.out_spec.children())
        )

    @property
    def device(self) -> torch.device:
        return self.node_type.outputs[0].device

    @property
    def tensor_outputs(self) -> list[OutputLeaf]:
        return [leaf for leaf in self.outputs if leaf.tensor is not None]

    @property
    def pure(self) -> bool:
        return self.row is not None and not self.stateful and not self.seeded

    def run(self, columns: Sequence[torch.Tensor], rows: int, numbers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Outputs [rows, *shape] of one batch. `columns` [rows, *shape] in the order of `kinds`."""
        assert self.call is not None and self.row is not None
        with self.call.state():
            if self.seeded:
                return self._run_seeded(columns, numbers[0])
            if numbers and (self.rung_name == "rows" or not columns):
                each = [self._replayed([number[k] for number in numbers], self.row) for k in range(rows)]
                return Rows.collect([run(*(column[k] for column in columns)) for k, run in enumerate(each)])
            if not columns:  # only parameters: the same for every row
                return [out.unsqueeze(0).expand(rows, *out.shape) for out in self.row()]
            return self._replayed(numbers, self.rung)(columns)

    def _run_seeded(self, columns: Sequence[torch.Tensor], seeds: torch.Tensor) -> list[torch.Tensor]:
        # every call draws from a seed of its own, so that its numbers do not depend on the schedule
        assert self.row is not None
        results = []
        with torch.random.fork_rng(devices=[]):
            for k, seed in enumerate(seeds.tolist()):
                torch.manual_seed(seed)
                results.append(self.row(*(column[k] for column in columns)))
        return Rows.collect(results)

    def _replayed(self, numbers: Sequence[torch.Tensor], run: Callable[..., Any]) -> Callable[..., Any]:
        if not numbers:
            return run

        def replay(*args: Any) -> Any:
            with Replay(numbers):
                return run(*args)

        return replay

    def verify(
        self,
        columns: Sequence[torch.Tensor],
        numbers: Sequence[torch.Tensor],
        outputs: Sequence[torch.Tensor],
        which: Iterable[int] = (),
        tolerance: float | None = None,
    ) -> str:
        """Compare `which` rows of a batch (its first and last) with the per-row call; why they differ, or nothing."""
        assert self.call is not None and self.row is not None
        count = columns[0].shape[0] if columns else outputs[0].shape[0]
        with warnings.catch_warnings(action="ignore"), self.call.state(), torch.no_grad():
            for k in which or sorted({0, count - 1}):
                run = self._replayed([number[k] for number in numbers], self.row)
                wanted = run(*(column[k].detach() for column in columns))
                for out, want in zip(outputs, wanted, strict=True):
                    difference = mismatch(out[k].detach(), want, tolerance)
                    if difference:
                        return difference
        return ""

    @cached_property
    def own_backward(self) -> str:
        """A backward in Python that captured code would not run and that merged nodes would run once, or nothing."""
        if self.row is None or self.call is None or self.operands is None:
            return ""
        if not any(spec.requires_grad for spec in self.node_type.outputs):
            return ""
        columns = self.operands.columns(1, positive=True)
        for column, spec in zip(columns, self.operands.specs, strict=True):
            column.requires_grad_(spec.requires_grad and spec.dtype.is_floating_point)
        numbers = [number[0] for number in self.operands.numbers(1)]
        return own_backward(self.module, self.row, self.call.state, [column[0] for column in columns], numbers)

    @cached_property
    def runs_unread(self) -> bool:
        """Must its calls run though nobody reads what they return? Where the loop would notice if they did not.

        It would notice a buffer that is not written, and an assertion that is not looked at. A call that draws has its
        numbers drawn in any case, in trace order; it runs too, since a distribution may refuse its parameters. Whole
        numbers that the sample brings are mostly positions (a word's number), and the loop fails where one is out of
        range: such a call costs little and hides a mistake if it is left out. What else may fail on values (a Cholesky
        factor of a matrix that has none) is not looked for: unread, it does not run, as under torch.compile.
        """
        return (
            self.stateful or bool(self.draws) or self.seeded or self.asserts
            or not self.node_type.outputs  # it is there for what it does
            or self._takes_positions
        )  # fmt: skip

    @property
    def _takes_positions(self) -> bool:
        if self.operands is None:  # a gather, or a sample's tensor as it is
            return False
        given = zip(self.kinds, self.operands.specs, strict=True)
        return any(kind is Kind.CONST and _counts(spec.dtype) for kind, spec in given)

    @property
    def shown_rung(self) -> str:
        return "planned" if self.emitted is not None else self.rung_name

    def give_up_capture(self, reason: str) -> None:
        """Stay on the rung that the cell has; `explain` says why."""
        self.emitted, self.not_planned = None, reason
        self.reasons = (*self.reasons, f"not planned: {reason}")

    def demote(self, reason: str) -> None:
        """Go one rung down after a batch differed from its rows.

        Raises CellError where the rows themselves differ from run to run: the cell is no function of its inputs.
        """
        assert self.call is not None and self.row is not None
        self.reasons = (*self.reasons, f"{self.rung_name}: {reason}")
        if self.rung_name == "rows" or (self.segments and self.rung.rung == "rows"):
            raise CellError(
                f"cell {self.name} gives other values each time it is run on the same inputs ({reason}); "
                "bale runs a cell later than it was called, so it must be a function of its arguments. "
                "Pass what changes as an argument, or keep it out of the cells with bale.batch(..., cells=...)."
            )
        if self.segments:
            self.rung.demote()
            return
        self.rung = Vmap(self.row, self.call) if self.rung_name == "leading" else Rows(self.row)
        self.rung_name = self.rung.name


def build(
    name: str,
    call: Call,
    watched: Call,
    specs: Sequence[Spec],
    lengths: Sequence[int],
    samples: Sequence[torch.Tensor | None],
    number_dtypes: Sequence[torch.dtype | None],
    *,
    align: bool,
    only_rows: str = "",
    lend_state: Callable[[], Any],
    module: torch.nn.Module | None = None,
) -> CellType:
    """The type of a call whose per-row operands have `specs` (ragged ones without their first axis, of `lengths`).

    `watched` is the same call on a shadow of the module, for the probe; `only_rows` a reason to stay on that rung.
    Raises RefusalError, or ProofError for a ragged call that is not row-wise.
    """
    kinds = tuple(leaf.kind for leaf in call.leaves if leaf.kind in PER_ROW)
    ragged_columns = tuple(spec.ragged for spec in specs)
    ragged = any(ragged_columns)
    length = next((n for n, spec in zip(lengths, specs, strict=True) if spec.ragged), 1)
    full = [_full(spec, length) for spec in specs]
    with lend_state() as state:
        try:
            result = probe(watched, full, state)
        except (RefusalError, ProofError):
            raise
        except Exception:
            _repeat_on_numbers(watched, full, samples)
            raise
    outputs = tuple(_ragged_output(leaf, length) for leaf in result.outputs) if ragged else result.outputs
    draws = tuple(_ragged_draw(draw, length) for draw in result.draws) if ragged else result.draws
    chosen = [k for k, leaf in enumerate(outputs) if leaf.tensor is not None]
    row = make_row(call, ragged_columns, chosen)
    trained = [leaf.payload for leaf in call.leaves if leaf.kind is Kind.SHARED]
    trained += [] if module is None else list(module.parameters())
    trained += result.trained
    trained = list({id(p): p for p in trained if p.requires_grad}.values())
    operands = Operands(specs, kinds, samples, draws, trained)
    if ragged:
        if result.stateful or not result.liftable:
            raise ProofError("it keeps state or draws numbers that depend on values")
        _prove_row_wise(call, row, operands, chosen)
    stateful, seeded = result.stateful, not result.liftable
    reasons: list[str] = []
    if stateful:
        only_rows = "it writes to its buffers, so its calls run one by one, in trace order"
    elif seeded:
        only_rows = "its random numbers depend on values, so each call draws from a seed of its own"
    rung = _choose(call, row, operands, chosen, align, only_rows, reasons)
    slots = tuple(
        (Mode.STACK if spec.ragged else Mode.ROW) for spec, kind in zip(specs, kinds, strict=True) if kind is Kind.VALUE
    )
    value_specs = tuple(spec for spec, kind in zip(specs, kinds, strict=True) if kind is Kind.VALUE)
    if stateful:
        slots, value_specs = (*slots, Mode.AFTER), (*value_specs, Spec((), torch.float32, torch.device("cpu")))
    node_type = NodeType(name, slots, value_specs, tuple(leaf.tensor for leaf in outputs if leaf.tensor is not None))
    return CellType(
        name, node_type, kinds, ragged_columns, tuple(number_dtypes), result.spec, outputs, rung, rung.name, row, call,
        draws, seeded, stateful, ragged, asserts=result.asserts, reasons=tuple(reasons), module=module,
        trained=tuple(trained), operands=operands,
    )  # fmt: skip


def _counts(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool)


def _repeat_on_numbers(call: Call, specs: Sequence[Spec], samples: Sequence[torch.Tensor | None]) -> None:
    """A call that fails on shapes alone fails on numbers too, in torch's own words."""
    real = [
        torch.zeros(spec.shape, dtype=spec.dtype, device=spec.device) if sample is None else sample.detach()
        for spec, sample in zip(specs, samples, strict=True)
    ]
    with torch.no_grad(), call.state(), torch.no_grad():
        call.raw(*real)


def _choose(
    call: Call, row: Any, operands: Operands, chosen: Sequence[int], align: bool, only_rows: str, reasons: list[str]
) -> Any:
    """The first rung that proves itself."""
    rows = Rows(row)
    if only_rows:
        reasons.append(f"rows: {only_rows}")
        return rows
    if not operands.specs:
        return rows  # nothing per row: CellType.run runs it once
    rungs: list[Any] = [Leading(call, chosen, align)]
    if any(leaf.kind is Kind.SHARED for leaf in call.leaves):
        rungs.append(Leading(call, chosen, align, expand_shared=True))
    failed: dict[str, str] = {}
    for rung in [*rungs, Vmap(row, call)]:
        try:
            prove(rung, row, call, operands)
        except ProofError as error:
            failed[rung.name] = f"not {rung.name}: {error}"
        else:
            reasons += [reason for name, reason in failed.items() if name != rung.name]
            return rung
    reasons += failed.values()
    return rows


def _prove_row_wise(call: Call, row: Any, operands: Operands, chosen: Sequence[int]) -> None:
    # the user's own call, on whole ragged operands and single rows of the others, against the per-row call
    ragged = [spec.ragged for spec in operands.specs]

    def whole(columns: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        outputs = call(*(c if r else c[0] for c, r in zip(columns, ragged, strict=True)))
        return [outputs[k] for k in chosen]

    operands = copy.copy(operands)
    operands.alike = [not r for r in ragged]
    prove(whole, row, call, operands)


def _full(spec: Spec, length: int) -> Spec:
    return Spec((length, *spec.shape), spec.dtype, spec.device, spec.requires_grad) if spec.ragged else spec


def _ragged_output(leaf: OutputLeaf, length: int) -> OutputLeaf:
    if leaf.tensor is None:
        return leaf
    spec = leaf.tensor
    if not spec.shape or spec.shape[0] != length:
        raise ProofError(f"from {length} rows it makes shape {spec.shape}")
    row = Spec(spec.shape[1:], spec.dtype, spec.device, spec.requires_grad, ragged=True)
    return replace(leaf, tensor=row)


def _ragged_draw(draw: Draw, length: int) -> Draw:
    if not draw.shape or draw.shape[0] != length:
        raise ProofError("it draws random numbers that do not belong to its rows")
    return Draw(draw.distribution, draw.parameters, draw.shape[1:], draw.dtype, draw.device)
