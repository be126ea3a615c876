"""How do calls that need all rows of a value at once share a launch, where these values are not equally long?

Those of equal lengths run together, stacked to one tensor: nothing is padded, so nothing has to be masked, and what
runs is the user's own call at its true lengths.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.call import Kind
from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import OutputLeaf, probe
from bale.batching.cells.program import Program
from bale.batching.cells.rungs import Leading, Operands, ProofError, Rows, Vmap, mismatch, prove
from bale.batching.graph import Mode, NodeType, Spec

Lengths = tuple[int, ...]  # of one call, axis by axis
Chosen = tuple[tuple[int, int], ...]  # results, and of each the axis that is moved to the front
Counts = Sequence["np.ndarray | None"]  # per operand the rows of each node, None where each has one

FURTHER = (1, 6)  # rows more that a program is tried with, to see what differs from call to call


@dataclass(frozen=True)
class Look:
    """What a program returns at some lengths: a Spec for each tensor, plain values, and what shares memory.

    aliases   per result what it is a view of: (0, operand), (step + 1, result of that step), or None
    trained   the real tensors that it reads and that require grad
    """

    tree: Any
    specs: tuple[Spec | None, ...]
    plain: tuple[Any, ...]
    aliases: tuple[tuple[int, int] | None, ...]
    trained: tuple[torch.Tensor, ...]
    random: bool
    asserts: bool


def look(program: Program, lengths: Lengths, last: Callable[..., Any] | None = None, state: Any = ()) -> Look:
    """Run a program on fake tensors, with `last` in place of its last function, which may write to the buffers `state`.

    Raises RefusalError or ProofError where it cannot be recorded, and what torch raises where it fails.
    """
    aliases: list[tuple[tuple[int, int] | None, ...]] = []

    def run(*tensors: torch.Tensor) -> Any:
        before: list[list[Any]] = []
        result = program.run(lengths, tensors, last, before)
        places: dict[int, tuple[int, int]] = {}
        for k, leaves in enumerate([list(tensors), *before]):
            for number, leaf in enumerate(leaves):
                if isinstance(leaf, torch.Tensor):
                    places.setdefault(_storage(leaf), (k, number))
        leaves = pytree.tree_leaves(result)
        aliases.append(tuple([places.get(_storage(t)) if isinstance(t, torch.Tensor) else None for t in leaves]))
        return result

    found = probe(program.as_call(run), [operand.full(lengths) for operand in program.operands], state)
    if found.stateful:
        raise ProofError("it keeps state")
    specs, plain = tuple([o.tensor for o in found.outputs]), tuple([o.plain for o in found.outputs])
    random = bool(found.draws) or not found.liftable
    return Look(found.spec, specs, plain, aliases[-1], found.trained, random, found.asserts)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def varying_axes(looks: Sequence[Look]) -> tuple[tuple[int, ...], ...]:
    """Per result the axes that are not the same at all lengths. Raises ProofError where more than lengths differs."""
    first = looks[0]
    found = []
    for number, spec in enumerate(first.specs):
        axes = () if spec is None else range(len(spec.shape))
        found.append(tuple([k for k in axes if len({_size(each, number, k) for each in looks}) > 1]))
    if not all(differs_in_lengths_only(first, each, found) for each in looks[1:]):
        raise ProofError("what it returns depends on lengths")
    return tuple(found)


def _size(each: Look, number: int, axis: int) -> int:
    spec = each.specs[number] if number < len(each.specs) else None
    return spec.shape[axis] if spec is not None and axis < len(spec.shape) else -1


def differs_in_lengths_only(one: Look, other: Look, varying: Sequence[tuple[int, ...]]) -> bool:
    """Do two looks differ in these axes of their results at most?"""
    if (one.tree, one.plain, one.random) != (other.tree, other.plain, other.random):
        return False
    for a, b, axes in zip(one.specs, other.specs, varying, strict=True):
        if a is None or b is None:
            if a is not b:
                return False
            continue
        if (a.dtype, a.device, a.requires_grad, len(a.shape)) != (b.dtype, b.device, b.requires_grad, len(b.shape)):
            return False
        if any(n != m and k not in axes for k, (n, m) in enumerate(zip(a.shape, b.shape, strict=True))):
            return False
    return True


@dataclass(eq=False)
class ByLength:
    """Runs the calls of a launch, those of equal lengths at once, by the `rung` that was proved.

    `varies` tells of the `chosen` results which have an axis that differs from call to call: the first, once moved.
    """

    program: Program
    chosen: Chosen
    varies: tuple[bool, ...]
    rung: str
    align: bool

    def __call__(self, columns: Sequence[torch.Tensor], counts: Counts) -> list[torch.Tensor]:
        """[rows, *shape] per result, of nodes with `counts` rows of each operand."""
        groups, parts = [], []
        for mine, lengths in self._groups(counts):
            groups.append(mine)
            rung = rung_of(self.rung, self.program, lengths, self.chosen, self.align)
            parts.append(rung(self._take(columns, counts, mine, lengths)))
        return [self._joined(k, groups, [part[k] for part in parts]) for k in range(len(self.chosen))]

    def one(self, columns: Sequence[torch.Tensor], counts: Counts, node: int) -> list[torch.Tensor]:
        """The results of one node, by its own call."""
        mine, lengths = np.array([node]), tuple([int(of[node]) for of in self._lengths(counts)])
        given = [tensor.squeeze(0) for tensor in self._take(columns, counts, mine, lengths)]
        return self.program.call(lengths, self.chosen)(*given)

    def _lengths(self, counts: Counts) -> list[np.ndarray]:
        """int [nodes] per axis."""
        found = [counts[operand] for operand in self.program.axis_of]
        return [of for of in found if of is not None]

    def _groups(self, counts: Counts) -> Iterator[tuple[np.ndarray, Lengths]]:
        """The nodes of equal lengths."""
        kinds, which = np.unique(np.stack(self._lengths(counts), 1), axis=0, return_inverse=True)
        for kind, lengths in enumerate(kinds.tolist()):
            yield np.flatnonzero(which.reshape(-1) == kind), tuple(lengths)

    def _take(
        self, columns: Sequence[torch.Tensor], counts: Counts, mine: np.ndarray, lengths: Lengths
    ) -> list[torch.Tensor]:
        """[nodes, *shape] per operand, of nodes of these lengths."""
        given = []
        for operand, column, count in zip(self.program.operands, columns, counts, strict=True):
            rows = mine
            if count is not None:
                rows = ((np.cumsum(count) - count)[mine][:, None] + np.arange(int(count[mine[0]]))).reshape(-1)
            given.append(_rows(column, rows).reshape(mine.size, *operand.shape(lengths)))
        return given

    def _joined(self, result: int, groups: Sequence[np.ndarray], parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """One result of all groups, in the order of the nodes."""
        if not self.varies[result]:
            return _rows(torch.cat(list(parts)), np.argsort(np.concatenate(groups)))
        owner = [np.repeat(mine, part.shape[1]) for mine, part in zip(groups, parts, strict=True)]
        return _rows(
            torch.cat([part.flatten(0, 1) for part in parts]), np.argsort(np.concatenate(owner), kind="stable")
        )

    def verify(self, columns: Sequence[torch.Tensor], counts: Counts, nodes: int, outputs: Sequence[Any]) -> str:
        """Compare the first and the last node with calls of their own; why they differ, or nothing."""
        columns = [column.detach() for column in columns]
        with warnings.catch_warnings(action="ignore"), self.program.state(), torch.no_grad():
            for node in sorted({0, nodes - 1}):
                for k, want in enumerate(self.one(columns, counts, node)):
                    found = outputs[k].detach()
                    if not self.varies[k]:
                        found = found[node]
                    else:
                        found = found[: want.shape[0]] if node == 0 else found[found.shape[0] - want.shape[0] :]
                    difference = mismatch(found, want)
                    if difference:
                        return difference
        return ""

    def demote(self) -> None:
        self.rung = "vmap" if self.rung == "leading" else "rows"


def _rows(tensor: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    if rows.size == tensor.shape[0] and np.array_equal(rows, np.arange(rows.size)):
        return tensor
    return tensor.index_select(0, torch.from_numpy(rows).to(tensor.device))


def rung_of(name: str, program: Program, lengths: Lengths, chosen: Chosen, align: bool) -> Any:
    """How calls of these lengths run at once: [calls, *shape] in and out."""
    if name == "leading":
        return Leading(program.call(lengths, chosen, leading=1), range(len(chosen)), align)
    call = program.call(lengths, chosen)
    return Vmap(call, call) if name == "vmap" else Rows(call)


def whole_type(
    name: str, program: Program, lengths: Lengths, found: Look, chosen: Chosen, varies: tuple[bool, ...], align: bool,
    asks: bool,
) -> CellType:  # fmt: skip
    """The type of calls of `program`, proved at `lengths`; `found` is what it returns there. `asks`: Python of the
    user's own looks how long its arguments are, and must see their true lengths."""
    specs = [_output(found.specs[k], axis, is_long) for (k, axis), is_long in zip(chosen, varies, strict=True)]
    shared = [leaf[1] for step in program.steps for leaf in step.leaves if isinstance(leaf[1], torch.Tensor)]
    trained = {id(t): t for t in (*found.trained, *shared) if t.requires_grad}
    call = program.call(lengths, chosen)
    full = [operand.full(lengths) for operand in program.operands]
    operands = Operands(full, [Kind.VALUE] * len(full), [None] * len(full), (), list(trained.values()))
    rung, reasons = _proved_rung(program, lengths, chosen, align, operands, asks)
    slots = tuple([Mode.STACK if operand.stacked else Mode.ROW for operand in program.operands])
    node_type = NodeType(name, slots, tuple([operand.spec for operand in program.operands]), tuple(specs))
    return CellType(
        name, node_type, (Kind.VALUE,) * len(full), (False,) * len(full), (None,) * len(full), None,
        tuple(map(OutputLeaf, specs)), ByLength(program, chosen, varies, rung, align), "by length", call, call,
        ragged=any(varies), segments=True, asserts=found.asserts, reasons=tuple(reasons),
        trained=tuple(trained.values()), operands=operands,
    )  # fmt: skip


def _output(spec: Spec | None, axis: int, varies: bool) -> Spec:
    assert spec is not None
    shape = spec.shape[:axis] + spec.shape[axis + 1 :] if varies else spec.shape
    return Spec(shape, spec.dtype, spec.device, spec.requires_grad, ragged=varies)


def _proved_rung(
    program: Program, lengths: Lengths, chosen: Chosen, align: bool, operands: Operands, asks: bool
) -> tuple[str, list[str]]:
    if program.random:
        return "rows", ["one by one: it draws random numbers, each call from a seed of its own"]
    reasons = ["not leading: it asks how many rows there are"] if asks else []
    for name in ("vmap",) if asks else ("leading", "vmap"):
        call = program.call(lengths, chosen)
        try:
            prove(rung_of(name, program, lengths, chosen, align), call, call, operands)
        except ProofError as error:
            reasons.append(f"not {name}: {error}")
        except Exception as error:  # its own call fails on random numbers
            reasons.append(f"not {name}: {type(error).__name__} on random numbers")
        else:
            return name, reasons
    return "rows", reasons
