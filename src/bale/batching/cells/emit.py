"""Emit: the parts of a captured cell become straight-line Python over memory that is made once a call.

The source defines `open_forward(frame)`, which runs the prologue, takes all views of a type's memory at once and
returns `forward(k)` for batch k of the type; and `open_backward(frame)`, which returns `backward(k)`, and `weights()`
for the gradients of what is trained.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from bale.batching.cells.capture import SPLITS, Captured, CaptureError, Rows
from bale.batching.cells.kernels import Kernels, Load
from bale.batching.cells.kinds import is_cheap_on_rows, width
from bale.batching.cells.overlay import overlay
from bale.batching.cells.places import Place, Places, find_places, place_of
from bale.batching.cells.pointwise import NUMBA
from bale.batching.cells.products import Calls, Products
from bale.batching.cells.split import Pieces, row_axis, split
from bale.batching.cells.traffic import BothWays, Count, Traffic, is_view, naive, row_bytes
from bale.batching.cells.unpack import unpack
from bale.batching.cells.weights import WeightGradients

aten = torch.ops.aten
Run = Callable[[int], None]
Weights = Callable[[], list[torch.Tensor | None]]


@dataclass(frozen=True, eq=False)
class Emitted:
    """A cell as code, and what its frame must provide.

    buffers    the width of each float32 buffer of the type; `overwritten` are those that a backward run destroys
    columns    per column "rows", "index", a Place in a buffer, or None where nothing reads it
    gradients  the same per output gradient; one of those read through an index is a sum (see paired_gradient)
    blocks     columns whose gradients lie side by side, row by row
    calls      of products; which of them run once for all batches, and which are one, hangs on the call
    fills      how many columns of buffers are filled once a call
    traffic    what a batch launches and copies inside the cell
    by_kernels  the columns that kernels read from a tensor of all batches' rows
    kernels    what its elementwise operations were compiled by
    """

    source: str
    open_forward: Callable[[Any], Run]
    open_backward: Callable[[Any], tuple[Run, Weights]]
    captured: Captured
    buffers: tuple[int, ...]
    overwritten: tuple[int, ...]
    columns: tuple[Any, ...]
    gradients: tuple[Any, ...]
    blocks: tuple[tuple[int, ...], ...]
    calls: tuple[Calls, ...]
    fills: int
    traffic: Traffic
    by_kernels: frozenset[int]
    kernels: Kernels

    @property
    def launches(self) -> tuple[int, int]:
        """Calls per batch, forward and backward: products (of `calls` one each), kernels and others."""
        return self.traffic.after.forward.launches, self.traffic.after.backward.launches

    @property
    def early(self) -> tuple[int, ...]:
        """The columns of products, forward or backward, that can run once for the rows of all batches."""
        return tuple(column for calls in self.calls for column in calls.columns if column is not None)

    def launches_of(self, batches: int, early: frozenset[int]) -> int:
        """All launches, forward and backward, where these columns are there for all batches before the first."""
        others = sum(self.launches) - len(self.calls)
        return others * batches + self.fills + sum(calls.count(batches, early) for calls in self.calls)


def emit(captured: Captured, gathered: Sequence[bool], fast: bool, kernels: Kernels = NUMBA) -> Emitted:
    """Code for `captured`; see find_places for the arguments. `kernels` compile what is elementwise, where it is fast.

    Raises CaptureError where a part cannot be split off.
    """
    captured = unpack(captured) if fast else captured
    pieces = split(captured, is_cheap_on_rows if fast else lambda node: False)
    places = find_places(pieces, fast, gathered)
    overlay(places)
    return Emitter(pieces, places, kernels).emit()


def paired_gradient(accesses: Sequence[Any]) -> int | None:
    """The output whose gradient is read as the sum of two rows: the first that is read through an index.

    An LSTM's h is read by the next step and by what is made of it, and one sum costs a kernel less than summing them
    first. Two sums in one kernel cost up to a third of it, so a second gradient is read as one row.
    """
    return accesses.index("index") if "index" in accesses else None


class Emitter:
    def __init__(self, pieces: Pieces, places: Places, kernels: Kernels):
        self.pieces, self.places, self.captured, self.kernels = pieces, places, pieces.captured, kernels
        self.setup: dict[str, str] = {}  # name -> the expression that makes it, once a call
        self.scope: dict[str, Any] = {
            "torch": torch,
            "empty_list": lambda rows: [None] * len(rows),
            "array": kernels.array,  # what a kernel is handed for a tensor
        }
        self.names: dict[fx.Node, str] = {}
        self.saved: set[fx.Node] = set()
        self.part = ""
        self.local: set[fx.Node] = set()
        self.launches = self.calls_before = 0
        self.copied: dict[tuple[fx.Node, Place], int] = {}  # bytes of a row, one call each
        self.stored_twice: list[int] = []  # the same, by kernels
        self.used: set[fx.Node] = set()  # of the prologue
        self.by_kernels: set[int] = set()  # columns
        self.products = Products(self)
        self.gathered: dict[str, str] = {}  # what the weights' gradients read of all batches
        for group, letter in ((self.captured.columns, "c"), (self.captured.numbers, "m")):
            self.names |= {node: f"{letter}{k}" for k, node in enumerate(group)}
        self.names |= {node: f"r{k}" for k, node in enumerate(self.captured.reads)}
        self.names |= {node: f"g{k}" for k, node in enumerate(self.captured.output_gradients) if node is not None}
        self.names |= {node: f"v_{node.name}" for node in pieces.prologue}
        self.prologue = set(pieces.prologue)
        self._find_saved()

    def _find_saved(self) -> None:
        later = self.pieces.between((*self.pieces.backward, *self.pieces.weights))
        computed = {*self.pieces.forward}
        self.saved = {n for n in later if n in computed}
        self.saved |= {n for n in self.pieces.between(self.pieces.weights) if n in set(self.pieces.backward)}

    def emit(self) -> Emitted:
        forward = self._batch("forward", self.captured.columns + self.captured.numbers)
        in_forward, forward_setup = self._count("forward"), self.setup
        read_forward, self.used, self.setup = self.used, set(), {}
        backward = self._batch("backward", tuple(node for node in self.captured.output_gradients if node is not None))
        in_backward = self._count("backward")
        weights, self.part, self.local = WeightGradients(self).lines(), "", set()
        # a packed weight that only the forward run reads goes with that
        kept = [self.names[node] for node in self.pieces.prologue if node in self.used]
        kept += [name for name in forward_setup if name.startswith("s_") or (name[0] == "j" and name in self.setup)]
        self.used |= read_forward
        prologue = self._prologue()
        head = ["    rows, starts, N = frame.rows, frame.starts, frame.total"]
        head += ["    mm, addmm, whole_mm = frame.backend.calls"]
        head += [f"    r{k} = frame.reads[{k}]" for k in range(len(self.captured.reads))]
        lines = ["def open_forward(frame):", *head, *prologue]
        lines += [f"    {name} = {text}" for name, text in forward_setup.items()]
        lines += self.products.early["forward"]
        lines += [f"    frame.kept[{name!r}] = {name}" for name in kept]
        lines += ["    def forward(k):", *forward, "    return forward", ""]
        lines += ["def open_backward(frame):", *head, *(f"    {name} = frame.kept[{name!r}]" for name in kept)]
        for name, text in self.setup.items():
            if name not in kept:
                lines.append(f"    {name} = {text}")
            elif " if " in forward_setup[name]:  # it may have been for something else that the forward run made it
                lines.append(f"    {name} = {name} if {name} is not None else {text}")
        lines += ["    def backward(k):", *backward, "    def weights():", *weights]
        source = "\n".join([*lines, "    return backward, weights"]) + "\n"
        exec(compile(source, "<bale cell>", "exec"), self.scope)
        before = BothWays(naive(self.places, "forward"), naive(self.places, "backward"))
        traffic = Traffic(before, BothWays(in_forward, in_backward), self.products.joined_bytes)
        return Emitted(
            source, self.scope["open_forward"], self.scope["open_backward"], self.captured,
            tuple(self.places.buffers), tuple(self.places.overwritten), tuple(self.places.columns),
            tuple(self.places.gradients), tuple(self.places.blocks), tuple(self.products.calls),
            len(self.products.fills), traffic, frozenset(self.by_kernels), self.kernels,
        )  # fmt: skip

    def _count(self, part: str) -> Count:
        """What the part that was just written does; begins anew."""
        calls = len(self.products.calls) - self.calls_before
        copied = [*self.copied.values(), *self.stored_twice]
        launches = self.launches + calls + len(self.copied)
        self.launches, self.copied, self.stored_twice = 0, {}, []
        self.calls_before += calls
        return Count(naive(self.places, part).ops, launches, len(copied), sum(copied))

    def _prologue(self) -> list[str]:
        """What is read of it, and what that reads."""
        self.part = ""
        last_first = (node for node in reversed(self.pieces.prologue) if node in self.used)  # more while it runs
        return [f"    {self.names[node]} = {self.call(node)}" for node in last_first][::-1]

    def named(self, node: fx.Node) -> fx.Node:
        self.names.setdefault(node, f"v_{node.name}")
        return node

    # Names of things that are made once a call.

    def once(self, name: str, text: str) -> str:
        self.setup.setdefault(name, text)
        return name

    def views(self, place: Place) -> str:
        """The rows of batch k at `place`, as a tensor."""
        kind, number = place.home
        if kind != "buffer":
            letter, source = ("o", "outputs") if kind == "output" else ("d", "blocks")
            whole = self.once(f"{letter}{number}v", f"frame.{source}[{number}]") + "[k]"
            is_part = (place.column, place.width) not in ((0, self._width_of_home(place)), (0, 0))
            return f"{whole}[:, {place.column}:{place.column + place.width}]" if is_part else whole
        return self.once(f"b{number}_{place.column}_{place.width}", f"frame.split({self.whole(place)})") + "[k]"

    def _width_of_home(self, place: Place) -> int:
        """The width of an output, or of the gradients that lie side by side in a block."""
        kind, number = place.home
        if kind == "output":
            return width(self.captured.outputs[number]) or 0
        return sum(width(self.captured.columns[column]) or 0 for column in self.places.blocks[number])

    def whole(self, place: Place) -> str:
        """The rows of all batches at `place`."""
        number = place.home[1]
        assert place.home[0] == "buffer"
        name = self.once(f"b{number}", f"frame.buffers[{number}]")
        if (place.column, place.width) == (0, self.places.buffers[number]):
            return name
        return f"{name}[:, {place.column}:{place.column + place.width}]"

    # What a node is called where it is read.

    def operand(self, node: fx.Node) -> str:
        if not self._is_tensor(node):
            return self._size(node)
        if node in self.prologue or node in self.captured.reads:
            self.used.add(node)
            return self.names[node]
        whole = self.part == "weights"
        if node in self.captured.columns or node in self.captured.output_gradients:
            return self._given(node, whole)
        if node in self.captured.numbers:
            full = self.once(self.names[node], f"frame.numbers[{self.captured.numbers.index(node)}]")
            return full if whole else self.once(f"{full}v", f"frame.split({full})") + "[k]"
        place = place_of(node, self.places)
        if place is not None and not (whole and node in self.local):
            return self.whole(place) if whole else self.views(place)
        if node in self.local:
            return self.names[node]
        saved = self.once(f"s_{node.name}", "empty_list(rows)")
        if not whole:
            return f"{saved}[k]"
        axis = row_axis(node)
        if axis is None:
            raise CaptureError("the gradient of a weight hangs on something that is not a row")
        self.gathered[f"w_{node.name}"] = f"torch.cat({saved}, {axis})"
        return f"w_{node.name}"

    def _is_tensor(self, node: fx.Node) -> bool:
        return (node.op == "placeholder" and node.name != "rows") or isinstance(node.target, torch._ops.OpOverload) or (
            node.target is operator.getitem
        )  # fmt: skip

    def _size(self, node: fx.Node) -> str:
        rows = "N" if self.part == "weights" else "n"
        return rows if node.op == "placeholder" else f"({rows} * {node.args[1]})"

    def _given(self, node: fx.Node, whole: bool) -> str:
        name, access = self.names[node], self._access(node)
        if isinstance(access, Place):
            return self.whole(access) if whole else self.views(access)
        source = "columns" if name[0] == "c" else "gradients"
        full = self.once(name, f"frame.{source}[{name[1:]}]")
        return full if whole else self.once(f"{name}v", f"frame.split({full})") + "[k]"

    def _access(self, node: fx.Node) -> Any:
        if node in self.captured.columns:
            return self.places.columns[self.captured.columns.index(node)]
        return self.places.gradients[self.captured.output_gradients.index(node)]

    def is_paired(self, node: fx.Node) -> bool:
        gradients = self.captured.output_gradients
        paired = paired_gradient(self.places.gradients)
        return paired is not None and node is gradients[paired]

    def argument(self, arg: Any) -> str:
        if isinstance(arg, fx.Node):
            return self.operand(arg)
        if isinstance(arg, (list, tuple)):
            inside = ", ".join(map(self.argument, arg))
            return f"[{inside}]" if isinstance(arg, list) else f"({inside}{',' if len(arg) == 1 else ''})"
        if isinstance(arg, float):
            return f"float('{arg!r}')"
        if isinstance(arg, (int, bool, str, type(None), torch.dtype)):
            return repr(arg)
        name = f"k{len(self.scope)}"
        self.scope[name] = arg  # a device, a layout, a memory format
        return name

    def call(self, node: fx.Node) -> str:
        if node.target is operator.getitem:
            return f"{self.argument(node.args[0])}[{node.args[1]}]"
        if node.target is aten.embedding_dense_backward.default and node.args[3] == -1 and not node.args[4]:
            gradient, index, rows = node.args[:3]  # adding rows beats making a dense gradient several times over
            given, flat_index = self.argument(gradient), f"{self.argument(index)}.reshape(-1)"
            zeros, flat = f"{given}.new_zeros({rows}, {given}.shape[-1])", f"{given}.flatten(0, -2)"
            return f"{zeros}.index_add_(0, {flat_index}, {flat})"
        name = f"f_{str(node.target).replace('.', '_').replace(':', '_')}"
        if self.part == "weights" and node.target is aten.mm.default:
            name = "whole_mm"
        else:
            self.scope[name] = node.target
        arguments = [self.argument(arg) for arg in node.args]
        arguments += [f"{key}={self.argument(value)}" for key, value in node.kwargs.items()]
        return f"{name}({', '.join(arguments)})"

    # The parts.

    def _batch(self, part: str, given: Sequence[fx.Node]) -> list[str]:
        self.part, self.local = part, set()
        lines = ["        n = rows[k]", "        lo = starts[k]"]
        for node in given:
            access = self._access(node) if node not in self.captured.numbers else None
            lines += self.copies(node, [p for p in self.places.of.get(node, []) if p != access])
        order = self.places.order[part]
        at = 0
        while at < len(order):
            node = self.named(order[at])
            kind = self.places.kind[node]
            if kind == "pointwise":
                group = self.places.group[node]
                members = [n for n in order if self.places.group.get(n) == group]
                lines += self._kernel(members)
                at += len(members)
                continue
            at += 1
            if kind == "product":
                lines += self.products.lines(node)
            elif kind == "call":
                lines += self._loose(node)
            elif kind == "slice" and node.target not in SPLITS:
                lines += self.copies(node, self.places.of.get(node, []))
            elif kind == "cat":
                lines += self.copies(node, self.places.of[node][1:])
        return lines

    def copies(self, node: fx.Node, places: Sequence[Place]) -> list[str]:
        lines = []
        for place in places:
            source = self._copy_source(node)
            lines.append(f"        {self.views(place)}.copy_({source})")
            self.copied[node, place] = row_bytes(node)
        return lines

    def _copy_source(self, node: fx.Node) -> str:
        if self.places.kind.get(node) == "slice":  # where its base lies; its own places are what is being filled
            own = self.places.of.pop(node, None)
            text = self.operand(node)
            if own is not None:
                self.places.of[node] = own
            return text
        return self.operand(node)

    def _loose(self, node: fx.Node) -> list[str]:
        name = self.names[node]
        lines = [f"        {name} = {self.call(node)}"]
        self.launches += not is_view(node)
        self.local.add(node)
        for place in self.places.of.get(node, []):
            lines.append(f"        {self.views(place)}.copy_({name})")
            self.copied[node, place] = row_bytes(node)
        if node in self.saved and place_of(node, self.places) is None:
            lines.append(f"        {self.once(f's_{node.name}', 'empty_list(rows)')}[k] = {name}")
        return lines

    # Kernels.

    def _kernel(self, members: list[fx.Node]) -> list[str]:
        kernel = _Kernel(self, members)
        text, arguments = kernel.finish()
        number = len(self.scope)
        name = f"compiled{number}"
        self.scope[name] = self.kernels.compiled(text)
        if self.kernels.by_threads:
            name = self.once(f"kernel{number}", f"frame.backend.kernel({name}, {len(kernel.offsets)})")
        self.launches += 1
        for node in members:
            self.named(node)
        return [f"        {name}(n, {width(members[0])}, {', '.join(arguments)})"]


class _Kernel:
    """One kernel's loads, formulas and stores."""

    def __init__(self, emitter: Emitter, members: list[fx.Node]):
        self.emitter, self.members, self.width = emitter, members, width(members[0]) or 1
        self.arrays: dict[tuple[str, str], int] = {}
        self.offsets: dict[str, int] = {}
        self.loads: list[tuple[str, Load]] = []
        self.body: list[str] = []
        self.stores: list[tuple[Load, str]] = []
        self.values: dict[fx.Node, str] = {}

    def finish(self) -> tuple[str, list[str]]:
        for node in self.members:
            operands = [self._number(arg) for arg in node.args]
            self.body.append(f"v_{node.name} = {self.emitter.kernels.formula(node.target, operands)}")
            self.values[node] = f"v_{node.name}"
        for node in self.members:
            for place in self.emitter.places.of.get(node, []):
                self.stores.append((self._load(place), f"v_{node.name}"))
            self.emitter.stored_twice += [row_bytes(node) for _ in self.emitter.places.of.get(node, [])[1:]]
        index_names = list(dict.fromkeys(index for _, index in self.arrays if index))
        indices = {k: index_names.index(index) for (_, index), k in self.arrays.items() if index}
        parts = (self.loads, self.body, self.stores, indices)
        text = self.emitter.kernels.text(len(self.arrays), len(self.offsets), *parts)
        return text, [array for array, _ in self.arrays] + index_names + list(self.offsets)

    def _number(self, arg: Any) -> str:
        if not isinstance(arg, fx.Node):
            return self.emitter.kernels.constant(arg)
        if arg not in self.values:
            self.values[arg] = name = f"v_{arg.name}"
            self.loads.append((name, self._read(arg)))
            if self.emitter.is_paired(arg):
                self.loads.append((f"{name}_2", self._read_given(arg, self._is_narrow(arg), second=True)))
                self.values[arg] = f"({name} + {name}_2)"
        return self.values[arg]

    def _is_narrow(self, node: fx.Node) -> bool:
        return width(node) == 1 and self.width != 1

    def _read(self, node: fx.Node) -> Load:
        emitter = self.emitter
        if node in emitter.prologue or node in emitter.captured.reads:
            name = emitter.operand(node)
            flat = f"{name}.detach().contiguous().view(-1)"  # a number may lie on the CPU whatever the others do
            flat = emitter.once(f"{name}n", f"array({flat}.to(frame.device))")
            return Load(self._array(flat), 0, vector=True, narrow=_count(node) == 1)
        narrow = self._is_narrow(node)
        if node in emitter.captured.columns or node in emitter.captured.output_gradients:
            return self._read_given(node, narrow)
        if node in emitter.captured.numbers:
            name = emitter.names[node]
            emitter.once(name, f"frame.numbers[{emitter.captured.numbers.index(node)}]")
            array = emitter.once(f"{name}n", f"array({name}.contiguous())")
            return Load(self._array(array), self._offset("lo"), narrow=narrow)
        place = place_of(node, emitter.places)
        assert place is not None, f"{node} is read by a kernel and lies nowhere"
        return self._load(place, narrow)

    def _read_given(self, node: fx.Node, narrow: bool, second: bool = False) -> Load:
        emitter = self.emitter
        access, name = emitter._access(node), emitter.names[node]
        source = "columns" if name[0] == "c" else "gradients"
        if isinstance(access, Place):
            return self._load(access, narrow)
        if access == "index":
            array = emitter.once(f"{name}a", f"frame.indexed_{source}[{name[1:]}][0]")
            letter, entry = ("j", 3) if second else ("i", 1)
            index = emitter.once(f"{name}{letter}", f"frame.indexed_{source}[{name[1:]}][{entry}]")
            offset = emitter.once(f"{name}o", f"frame.indexed_{source}[{name[1:]}][2]")
            return Load(self._array(array, index), self._offset(f"{offset}[k]"), indexed=True, narrow=narrow)
        if source == "columns":
            emitter.by_kernels.add(int(name[1:]))
        emitter.once(name, f"frame.{source}[{name[1:]}]")
        whole = f"{name}.contiguous()" if source == "columns" else name
        array = emitter.once(f"{name}n", f"array({whole})")
        return Load(self._array(array), self._offset("lo"), narrow=narrow)

    def _load(self, place: Place, narrow: bool = False) -> Load:
        kind, number = place.home
        emitter = self.emitter
        column, rest = divmod(place.column, self.width)
        if kind == "buffer":
            emitter.once(f"b{number}", f"frame.buffers[{number}]")
            array = emitter.once(f"b{number}n", f"array(b{number})")
            return Load(self._array(array), self._offset("lo"), column, rest, narrow=narrow)
        letter, source = ("o", "outputs") if kind == "output" else ("d", "blocks")
        array = emitter.once(f"{letter}{number}n", f"frame.{source}_memory[{number}][0]")
        rows = emitter.once(f"{letter}{number}r", f"frame.{source}_memory[{number}][1]")
        return Load(self._array(array), self._offset(f"{rows}[k]"), column, rest, narrow=narrow)

    def _array(self, text: str, index: str = "") -> int:
        return self.arrays.setdefault((text, index), len(self.arrays))

    def _offset(self, text: str) -> int:
        return self.offsets.setdefault(text, len(self.offsets))


def _count(node: fx.Node) -> int:
    count = 1
    for size in node.meta["shape"]:
        assert not isinstance(size, Rows)
        count *= size
    return count
