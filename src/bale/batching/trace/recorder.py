"""How does a call whose type is known record itself, asking as little as possible?

A recorder is made for one call: it compares the homes of its arguments with those of the call that made it, by
identity, and writes the record. Any other call goes to the next recorder, and at last to the long way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import OutputLeaf
from bale.batching.graph import Spec
from bale.batching.trace import recording
from bale.batching.trace.arguments import leaves_of
from bale.batching.trace.nodes import share_among
from bale.batching.trace.ref import Memory, Ref
from bale.batching.trace.tracer import Home, Lengths, Tracer
from bale.batching.uses import is_exact

MAX_LEAVES = 16  # of the arguments; what is asked of more would cost more than it saves
_PLAIN = (bool, type(None), str, int, float, torch.dtype)  # arguments that may be compared by type and value

Question = tuple[Any, ...]  # see recording.py


@dataclass(slots=True)
class Pattern:
    """What a recorder must ask of a call's arguments."""

    trace: Tracer
    ragged: bool  # is a node several rows, as many as its ragged arguments have?
    one_long: bool = False  # is there but one argument whose first axis can be ragged?
    knows_length: bool = False  # does a question tell how many rows a call has?

    def of_call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], numbers_are_data: bool
    ) -> tuple[tuple[Question, ...], tuple[Question, ...]] | None:
        """The questions for arguments by position and by name; None where there is no telling."""
        leaves = leaves_of(args, kwargs)
        if len(leaves) > MAX_LEAVES:
            return None
        if self.ragged:
            own = [leaf for leaf in leaves if type(leaf) is Ref or type(leaf) is torch.Tensor]
            self.one_long = len(own) == 1 or sum(type(leaf) is Ref or leaf.dim() > 0 for leaf in own) == 1
        positional = [self.of(arg, numbers_are_data) for arg in args]
        named = [self.of(arg) for arg in kwargs.values()]
        known = tuple([asked for asked in positional if asked]), tuple([asked for asked in named if asked])
        whole = len(known[0]) + len(known[1]) == len(args) + len(kwargs)
        return known if whole else None

    def of(self, argument: Any, number_is_data: bool = False) -> Question | None:
        """The question whether an argument is like this one."""
        kind = type(argument)
        if kind is Ref:
            return self._of_home(argument.home) if argument.home.trace is self.trace else None
        if id(argument) in self.trace.shared:
            return "same", argument
        if kind is torch.Tensor:
            return self._of_constant(argument)
        if kind is tuple or kind is list:
            inside = tuple([self.of(item, number_is_data) for item in argument])
            return None if None in inside else ("items", kind, inside)
        if number_is_data and kind in (bool, int, float):
            numbers = self.trace.constants
            return "number", numbers.exact[kind], numbers.number, kind
        if kind in _PLAIN and (kind is not float or is_exact(argument)):
            return "plain", kind, argument
        return None

    def _of_home(self, home: Home) -> Question:
        if not (self.ragged and home.length):
            return "home", home
        self.knows_length = True
        return "rows", home.spec

    def _of_constant(self, tensor: torch.Tensor) -> Question | None:
        kind = self.trace.constants.kind_of(tensor)
        spec = kind.spec
        if not (self.ragged and spec.shape):
            return "constant", kind.indices, kind.see, None
        if not self.one_long:
            return None  # whether it is ragged depends on how long the others are
        row = Spec(spec.shape[1:], spec.dtype, spec.device, spec.requires_grad, ragged=True)
        kind = self.trace.constants.kind(row)
        self.knows_length = True
        return "constant", kind.indices, kind.see, kind.lengths


def _share_first(outputs: Sequence[OutputLeaf], wrap: Callable[..., Any], flat: list[Any]) -> Any:
    share_among(outputs, flat)
    return wrap(flat)


def make_recorder(
    trace: Tracer,
    cell: CellType,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    otherwise: Callable[..., Any],
    numbers_are_data: bool = False,
    still: Callable[[], bool] | None = None,
) -> Callable[..., Any] | None:
    """What records calls like `cell(*args, **kwargs)` and hands all others to `otherwise`, or None.

    None where such calls need a second look. The recorder is for this trace, and for the grad mode of now without
    autocast. `numbers_are_data`: Python numbers among `args` differ from call to call. `still` must hold where a call
    is recorded, if it is given.
    """
    if not cell.straight or torch._C._is_any_autocast_enabled():
        return None
    pattern, layout, outputs = Pattern(trace, cell.ragged), trace.format(cell), cell.node_type.outputs
    asked = pattern.of_call(args, kwargs, numbers_are_data)
    if asked is None or not (layout.fixed or pattern.knows_length):
        return None
    if cell.out_spec.is_leaf():
        wrap: Any = None
    else:
        wrap = tuple if cell.returns_tuple else partial(pytree.tree_unflatten, treespec=cell.out_spec)
        if any(leaf.beside is not None for leaf in cell.outputs):
            wrap = partial(_share_first, cell.outputs, wrap)
    return recording.Recorder(
        Ref,
        trace.stream,
        layout.type,
        layout.fixed,
        torch.is_grad_enabled(),
        asked[0],
        tuple(kwargs),
        asked[1],
        tuple([Lengths(trace, spec) if spec.ragged else trace.home(spec) for spec in outputs]),
        tuple([spec.ragged for spec in outputs]),
        wrap,
        cell.views,
        Memory,
        otherwise,
        still,
        torch.is_grad_enabled,
        torch._C._is_any_autocast_enabled,
    )
