"""Trace: what the forwards of some samples asked for, as data. It can be kept, joined with others, pickled and run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.call import ModeState
from bale.batching.cells.celltype import CellType
from bale.batching.cells.purity import Key
from bale.batching.graph import WHOLE, Graph, Spec
from bale.batching.schedule.frontier import group
from bale.batching.trace.portable import PackedConstants, TypeName, name_type, portable_model
from bale.batching.trace.stream import CODE, Decoded, Format, cut, decode_pieces
from bale.batching.uses import Constants, TypeUse
from bale.errors import TraceError

Leaf = TypeVar("Leaf")


@dataclass(frozen=True, slots=True)
class Result:
    """Stands in a sample's output for a tensor: its number among the results of the piece."""

    number: int


@dataclass(frozen=True)
class Origin:
    """What else the forwards saw: the model as it was, the modes, and the keyword arguments that all samples share."""

    model: Key
    state: ModeState
    kwargs: Hashable


@dataclass(frozen=True, eq=False)
class Piece:
    """What was recorded in one go, or one sample of it.

    cells         its types, by number
    stream        int64 [..]: see stream.py; parts, types and entries count from the beginning of the piece
    sample_start  int64 [samples]: where in the stream each sample begins
    results       int64 [results]: a part for each tensor in the outputs; `kinds` their Specs and, ragged, lengths;
                  `shapes` what some of them are given when they are computed, by number
    outputs       per sample what its forward returned, with a Result for each tensor that is to be computed

    One that comes from another process has `names` of types instead of cells, and instead of an origin a description
    of the `model` and the `state`: see portable.py.
    """

    origin: Origin | None
    cells: tuple[CellType, ...]
    stream: np.ndarray
    sample_start: np.ndarray
    constants: Constants
    results: np.ndarray
    kinds: tuple[tuple[Spec, int | None], ...]
    shapes: dict[int, tuple[int, ...]]
    outputs: tuple[Any, ...]
    names: tuple[TypeName, ...] | None = None
    model: Any = None
    state: ModeState | None = None

    def __reduce__(self) -> Any:
        names, model, state = self.names, self.model, self.state
        if names is None:
            if self.origin is None:
                raise TraceError("this trace belongs to one call; make one that can be kept with `batched.trace`")
            names, model, state = self._portable_names(), portable_model(self.origin.model), self.origin.state
        packed = PackedConstants.of(self.constants)
        results = self.results, self.kinds, self.shapes, self.outputs
        return _unpack, (self.stream, self.sample_start, packed, *results, names, model, state)

    def _portable_names(self) -> tuple[TypeName, ...]:
        assert self.origin is not None
        trace = Trace((self,))
        names = []
        for use in trace.uses.values():
            length = int(trace.graph.rows[use.nodes[0]])
            names.append(name_type(use.cell, length, tuple(use.constants[:, 0].tolist()), self.origin.model))
        return tuple(names)

    def samples(self) -> list[Piece]:
        """Each sample as a piece of its own. Raises TraceError where one reads what another computed."""
        formats = [Format.of(cell, number) for number, cell in enumerate(self.cells)]
        pieces = cut(self.stream, self.sample_start, formats, len(self.constants.entries))
        ends = np.append(self.sample_start, self.stream.size)
        found = []
        for sample, output in enumerate(self.outputs):
            low, high = ends[sample : sample + 2].tolist()
            chosen: dict[int, Result] = {}
            output = map_leaves(Result, lambda result: chosen.setdefault(result.number, Result(len(chosen))), output)  # noqa: B023
            results = self.results[list(chosen)] - low
            if pieces.foreign == sample or ((results & CODE) >= high - low).any() or (results < 0).any():
                raise TraceError(
                    f"sample {sample} uses a lazy value that another sample's forward made, so its trace cannot be "
                    "kept by itself; compute it in each forward, or trace without a key"
                )
            types = pieces.types[slice(*pieces.type_start[sample : sample + 2])]
            entries = pieces.entries[slice(*pieces.entry_start[sample : sample + 2])]
            found.append(
                replace(
                    self,
                    cells=tuple(map(self.cells.__getitem__, types)),
                    stream=pieces.stream[low:high].copy(),
                    sample_start=np.zeros(1, np.int64),
                    constants=self.constants.chosen(entries.tolist()),
                    results=results,
                    kinds=tuple(map(self.kinds.__getitem__, chosen)),
                    shapes={k: self.shapes[old] for k, old in enumerate(chosen) if old in self.shapes},
                    outputs=(output,),
                )
            )
        return found


def _unpack(stream: np.ndarray, sample_start: np.ndarray, constants: PackedConstants, *rest: Any) -> Piece:
    return Piece(None, (), stream, sample_start, constants.unpack(), *rest)


@dataclass(frozen=True, eq=False)
class Trace:
    """What the forwards of some samples asked for. Made by `batched.trace`, run by `batched(trace)`."""

    pieces: tuple[Piece, ...]

    @classmethod
    def join(cls, traces: Iterable[Trace]) -> Trace:
        """The samples of several traces of one model, one after another. Nothing is traced, nothing copied."""
        return cls(tuple(chain.from_iterable(trace.pieces for trace in traces)))

    def __len__(self) -> int:
        """How many samples it holds."""
        return sum(len(piece.outputs) for piece in self.pieces)

    def __repr__(self) -> str:
        unbound = any(piece.names is not None for piece in self.pieces)
        return f"Trace of {len(self)} samples: {'from another process' if unbound else self.graph}"

    def __reduce__(self) -> Any:
        return Trace, (self.pieces,)

    @property
    def with_gradients(self) -> bool:
        """Was it made to be kept, with gradients on?"""
        return any(piece.origin is not None and piece.origin.state.grad for piece in self.pieces)

    @cached_property
    def _numbers(self) -> dict[CellType, int]:
        numbers: dict[CellType, int] = {}
        for piece in self.pieces:
            for cell in piece.cells:
                numbers.setdefault(cell, len(numbers))
        return numbers

    @cached_property
    def cells(self) -> tuple[CellType, ...]:
        """The types of its calls, by number."""
        return tuple(self._numbers)

    @cached_property
    def formats(self) -> list[Format]:
        return [Format.of(cell, number) for cell, number in self._numbers.items()]

    @cached_property
    def stream_start(self) -> np.ndarray:
        """int64 [pieces + 1]"""
        return np.cumsum([0, *(piece.stream.size for piece in self.pieces)])

    @cached_property
    def decoded(self) -> Decoded:
        """All streams as arrays."""
        numbers = self._numbers
        types = [[numbers[cell] for cell in piece.cells] for piece in self.pieces]
        entries = np.cumsum([0, *(len(piece.constants.entries) for piece in self.pieces)])[:-1]
        return decode_pieces([piece.stream for piece in self.pieces], types, entries, self.formats)  # type: ignore[arg-type]

    @cached_property
    def graph(self) -> Graph:
        """The calls as they were recorded."""
        arrays = self.decoded
        starts = [piece.sample_start + low for piece, low in zip(self.pieces, self.stream_start, strict=False)]
        start = np.concatenate(starts or [np.zeros(0, np.int64)])
        return Graph(
            types=tuple(cell.node_type for cell in self.cells),
            type=arrays.type,
            rows=arrays.rows,
            sample=(np.searchsorted(start, arrays.position, side="right") - 1).astype(np.int32),
            slot_start=arrays.slot_start,
            part_start=arrays.part_start,
            part_value=arrays.part_value,
            part_index=arrays.part_index,
            value_start=arrays.value_start,
        )

    @cached_property
    def constants(self) -> Constants:
        return Constants.joined([piece.constants for piece in self.pieces])

    @cached_property
    def uses(self) -> dict[CellType, TypeUse]:
        """The types, each with its nodes and their constants."""
        arrays = self.decoded
        start, order = group(arrays.type, len(self.cells))
        uses = {}
        for form, cell in zip(self.formats, self.cells, strict=True):
            nodes = order[start[form.type] : start[form.type + 1]]
            columns = arrays.constant_start[nodes] + np.arange(form.constants)[:, None]
            uses[cell] = TypeUse(form.type, cell, nodes, arrays.constant[columns], self.constants)
        return uses

    def constant_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [nodes + 1], int64 [..]: for every node the ids of its constants, in the order of its columns.

        Where ids are equal the constants surely are: one tensor at one version, or equal whole numbers of one dtype
        and device without grad. Constants that require grad are compared by identity alone.
        """
        return self.decoded.constant_start, self.constants.equal[self.decoded.constant]

    @cached_property
    def results(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 [results] each: the numbers in the graph of what the outputs hold, and WHOLE or the rows of it."""
        parts = [piece.results + low for piece, low in zip(self.pieces, self.stream_start, strict=False)]
        part = np.concatenate(parts or [np.zeros(0, np.int64)])
        return self.decoded.value_at[part & CODE].astype(np.int64), (part >> 32) + WHOLE

    @cached_property
    def kinds(self) -> list[tuple[Spec, int | None]]:
        """Spec and, where ragged, length of each result."""
        return [kind for piece in self.pieces for kind in piece.kinds]

    @cached_property
    def shapes(self) -> dict[int, tuple[int, ...]]:
        """What some results are given when they are computed, by number."""
        found: dict[int, tuple[int, ...]] = {}
        first = 0
        for piece in self.pieces:
            found |= {first + k: shape for k, shape in piece.shapes.items()}
            first += len(piece.kinds)
        return found

    def outputs(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        """The outputs of all samples, from a tensor for each result."""
        found, first = [], 0
        for piece in self.pieces:
            here = tensors[first : first + len(piece.kinds)] if len(self.pieces) > 1 else tensors
            first += len(piece.kinds)
            found += [map_leaves(Result, lambda result: here[result.number], output) for output in piece.outputs]  # noqa: B023
        return found


def map_leaves(kind: type[Leaf], settle: Callable[[Leaf], Any], tree: Any) -> Any:
    """The same structure, with something else for every leaf of this kind."""
    if type(tree) is kind:
        return settle(tree)
    # pytree takes a torch.Size apart and puts a tuple together again
    return pytree.tree_map(
        lambda leaf: settle(leaf) if type(leaf) is kind else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, torch.Size),
    )
