"""Products: which calls of torch.mm and torch.addmm do the products of a cell become?

A joint is one call, with weights that are joined once a call of the model, or a call for each of its steps: where
joining does not pay, and where a step runs once for the rows of all batches since its operand is there before the first
of them (forward) or nobody reads its result before the last (backward). That hangs on the call, so the code holds both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bale.batching.cells.kinds import added_to, width
from bale.batching.cells.places import Place, Places, place_of
from bale.batching.cells.together import Joint, base_weight
from bale.batching.cells.traffic import row_bytes

if TYPE_CHECKING:
    from bale.batching.cells.emit import Emitter

aten = torch.ops.aten
JOINED_FROM = 8  # batches: joining the weights of two steps costs about what that many calls do
# Numbers of a joined weight. Above, a product takes so long that a call is nothing to it, and the copy costs more than
# it saves (measured on one thread: 2 ** 18 numbers take .07 ms to copy, 2 ** 20 about .4 ms, a call .003 ms).
JOINED_UP_TO = 1 << 18


@dataclass(frozen=True)
class Calls:
    """Steps that are one call in each batch, or a call each.

    columns  per step the column that may let it run once for all batches, or None
    numbers  how many numbers are joined where all steps are one call; then those without the first step, and so on
    """

    columns: tuple[int | None, ...]
    numbers: tuple[int, ...] = ()

    def count(self, batches: int, early: frozenset[int]) -> int:
        """The calls of so many batches."""
        once = [column in early for column in self.columns]
        for step, numbers in enumerate(self.numbers):
            if joins(batches, numbers) and not any(once[step:]):
                return _each(batches, once[:step]) + batches
        return _each(batches, once)


def _each(batches: int, once: Sequence[bool]) -> int:
    return sum(1 if early else batches for early in once)


def joins(batches: int, numbers: int) -> bool:
    """Does it pay to join the weights of several steps?"""
    return batches >= JOINED_FROM and numbers <= JOINED_UP_TO


class Products:
    """Writes the products of one cell, for its emitter."""

    def __init__(self, emitter: Emitter):
        self.emitter, self.places = emitter, emitter.places
        self.early: dict[str, list[str]] = {"forward": [], "backward": []}  # lines that run once a call
        self.written: set[Joint] = set()
        self.calls: list[Calls] = []
        self.fills: list[int] = []  # widths of what is filled with a bias once a call
        self.names: dict[str, str] = {}  # what is joined -> its name
        self.joined: dict[str, int] = {}  # the name of a joined weight -> its bytes

    def lines(self, node: fx.Node) -> list[str]:
        """The calls for `node`, or, at the first of them, for the joint that it is part of."""
        joint = self.places.joint.get(node)
        if joint is None:
            return self._step(_single(node))
        if joint in self.written:
            return []
        self.written.add(joint)
        steps = list(joint.steps())
        if joint.by_operand:
            steps.sort(key=lambda step: _depth(step.products[0][0], self.places))
            return self._forward_steps(joint, steps)
        return self._backward_steps(joint, steps)

    # One call or several.

    def _forward_steps(self, joint: Joint, steps: list[Joint], outer: str = "") -> list[str]:
        """All as one; or the first, which may run once for all batches, and the others as one or several.

        `outer`: the condition under which one call does these and others.
        """
        if len(steps) == 1:
            return self._step(joint, outer)
        at = len(self.calls)
        can = joint.numbers <= JOINED_UP_TO
        flag = self._flag(joint, [self._early_column(steps[0])], outer) if can else outer
        done = f"{outer} or {flag}" if outer and can else flag
        first = self._step(steps[0], done)
        rest = joint.part([k for k, x in enumerate(joint.operands) if x not in steps[0].operands], _all(joint.results))
        if self._is_side_by_side(rest.operands):
            others = self._forward_steps(rest, steps[1:], done)
        else:
            others = [line for step in steps[1:] for line in self._step(step, done)]
        if not can:
            return first + others
        later = self.calls[at + 1 :]
        self._merge_calls(at, (joint.numbers, *(later[0].numbers if len(later) == 1 else ())))
        return self._either(flag, self._call(joint, flag), first + others)

    def _backward_steps(self, joint: Joint, steps: list[Joint]) -> list[str]:
        if len(steps) == 1:
            return self._step(joint)
        if joint.numbers > JOINED_UP_TO:
            return [line for step in steps for line in self._step(step)]
        at = len(self.calls)
        flag = self._flag(joint, [self._early_column(step) for step in steps])
        each = [line for step in steps for line in self._step(step, flag)]
        self._merge_calls(at, (joint.numbers,))
        return self._either(flag, self._call(joint, flag), each)

    def _merge_calls(self, at: int, numbers: tuple[int, ...]) -> None:
        """Those from `at` on are steps that may be one call."""
        columns = tuple(column for calls in self.calls[at:] for column in calls.columns)
        self.calls[at:] = [Calls(columns, numbers)]

    def _flag(self, joint: Joint, columns: Sequence[int | None], outer: str = "") -> str:
        """The name of whether all steps are one call, and not, with others, part of a larger one."""
        unless = [self._early(column) for column in dict.fromkeys(columns) if column is not None]
        unless += [f"({outer})"] if outer else []
        number = sum(name.startswith("one") for name in self.emitter.setup)
        text = " and not ".join([f"frame.joins({joint.numbers})", *unless])
        return self.emitter.once(f"one{number}", text)

    def _either(self, flag: str, one: list[str], each: list[str]) -> list[str]:
        return [f"        if {flag}:", *_indented(one), "        else:", *_indented(each)]

    def _step(self, step: Joint, unless: str = "") -> list[str]:
        """One call, per batch or once for all of them; or one per product where their weights are too large to join.

        `unless`: the condition under which one call does this and other steps.
        """
        if len(step.members) > 1 and step.numbers > JOINED_UP_TO and not _are_joined(step):
            parts = [step.part([k], [j]) for k in _all(step.operands) for j in _all(step.results)]
            parts.sort(key=lambda part: _depth(part.products[0][0], self.places))
            return [line for part in parts for line in self._step(part, unless)]
        when = f"not ({unless})" if unless else ""
        call, column = self._call(step, when), self._early_column(step)
        self.calls.append(Calls((column,)))
        if column is None:
            return call
        early, emitter = self._early(column), self.emitter
        part, local = emitter.part, emitter.local
        emitter.part, emitter.local = "weights", set()  # whose operands are the rows of all batches
        whole = self._text(step, when, self._whole_result(step, early))
        emitter.part, emitter.local = part, local
        if part == "forward":
            self.early[part].append(f"    if {early}: {whole}")
            return [f"        if not {early}:", *_indented(call)]
        once = f"            if k == 0: {whole}"  # batches run in reverse
        return [f"        if {early}:", once, "        else:", *_indented(call)]

    def _early(self, column: int) -> str:
        return self.emitter.once(f"early{column}", f"{column} in frame.early")

    def _early_column(self, step: Joint) -> int | None:
        """The column whose products with weights these are, forward, or whose gradient, backward; if that is all."""
        captured = self.emitter.captured
        known = {*self.emitter.prologue, *captured.reads}
        read = [p.args[-1] for p in step.members] + [base for base in _bases(step) if base is not None]
        if not all(node in known for node in read) or self._others(step):
            return None
        place = self._place(step.results)
        if self.emitter.part == "forward":
            rows = step.operands[0]
            alone = len(step.operands) == 1 and place.home[0] == "buffer"
            return captured.columns.index(rows) if alone and rows in captured.columns else None
        if place.home[0] != "block" or len(step.results) != 1:
            return None
        result = step.results[0]
        lie = [place_of(rows, self.places) for rows in step.operands]
        last = result in step.members and all(user.op == "output" for user in result.users)  # nothing is added to it
        if not last or any(there is None or there.home[0] != "buffer" for there in lie):
            return None
        if [*captured.outputs, *captured.column_gradients].count(result) != 1:
            return None
        return self.places.blocks[place.home[1]][place.column // place.width]

    # One call.

    def _call(self, step: Joint, when: str) -> list[str]:
        """`when`: the condition under which it runs at all."""
        place = self._place(step.results)
        lines = [f"        {self._text(step, when, self.emitter.views(place))}"]
        return lines + self.emitter.copies(step.results[0], self._others(step))

    def _text(self, step: Joint, when: str, out: str) -> str:
        """The product of operands and weights, written to `out`."""
        rows, weight = self._rows(step), self._weight(step, when)
        base = self._base(step, out)
        if base is None:
            return f"mm({rows}, {weight}, out={out})"
        return f"addmm({base}, {rows}, {weight}, out={out})"

    def _rows(self, step: Joint) -> str:
        if len(step.operands) == 1:
            return self.emitter.operand(step.operands[0])
        place = self._place(step.operands)
        return self.emitter.whole(place) if self.emitter.part == "weights" else self.emitter.views(place)

    def _whole_result(self, step: Joint, early: str) -> str:
        place = self._place(step.results)
        kind, number = place.home
        if kind == "buffer":
            return self.emitter.whole(place)
        whole = self.emitter.once(f"d{number}w{place.column}", f"frame.whole_block({number}) if {early} else None")
        wide = len(self.places.blocks[number]) > 1
        return f"{whole}[:, {place.column}:{place.column + place.width}]" if wide else whole

    def _place(self, values: Sequence[fx.Node]) -> Place:
        """Where values lie side by side."""
        places = [self.places.of[value][0] for value in values]
        assert self._is_side_by_side(values)
        return Place(places[0].home, places[0].column, sum(place.width for place in places))

    def _is_side_by_side(self, values: Sequence[fx.Node]) -> bool:
        places = [self.places.of[value][0] for value in values]
        return all(a.home == b.home and a.column + a.width == b.column for a, b in pairwise(places))

    def _others(self, step: Joint) -> list[Place]:
        """Where else the result must be, if it is complete."""
        result = step.results[0]
        return self.places.of[result][1:] if len(step.results) == 1 and result in step.members else []

    def _base(self, step: Joint, out: str) -> str | None:
        """What the product is added to: what lies there, biases, or nothing."""
        bases = _bases(step)
        there = [isinstance(base, fx.Node) and added_to(base, self.places.kind) is not None for base in bases]
        if len(bases) == 1:
            return None if bases[0] is None else self.emitter.operand(bases[0])
        if all(there):
            return out
        if any(there):
            for result, base, is_there in zip(step.results, bases, there, strict=True):
                if not is_there:
                    self._fill(result, base)
            return out
        if not any(bases):
            return None
        names = [self.emitter.operand(base) if base else "" for base in bases]
        some = next(filter(None, names))
        wide = map(width, step.results)
        parts = [name or f"{some}.new_zeros({zeros})" for name, zeros in zip(names, wide, strict=True)]
        return self._joined(f"torch.cat(({', '.join(parts)}))")

    def _fill(self, result: fx.Node, bias: fx.Node | None) -> None:
        """So that a product can be added to it, as to its neighbours."""
        place = self.emitter.whole(self.places.of[result][0])
        line = f"    {place}.zero_()" if bias is None else f"    {place}.copy_({self.emitter.operand(bias)})"
        if line not in self.early[self.emitter.part]:
            self.early[self.emitter.part].append(line)
            self.fills.append(width(result) or 0)

    # Weights.

    def _weight(self, step: Joint, when: str) -> str:
        """The weights of a step, side by side: transposed at the end where all of its products transpose theirs."""
        weights: list[Any] = [product.args[-1] for product in step.members]
        known = {*self.emitter.prologue, *self.emitter.captured.reads}
        if not all(weight in known for weight in weights):
            (weight,) = weights
            return self.emitter.operand(weight)
        if all(weight.target is aten.t.default for weight in weights):
            by_result = [[base_weight(row[j]) for row in step.products] for j in _all(step.results)]
            made = self._joined(f"frame.pack({self._matrix(by_result, step.by_operand, when)})", when)
        else:
            plain: Any = [[product.args[-1] for product in row] for row in step.products]
            made = self._matrix(plain, not step.by_operand, when)
        return self.emitter.once(f"{made}w", f"frame.backend.weight({made})")

    def _matrix(self, blocks: list[list[fx.Node]], by_column: bool, when: str) -> str:
        """Blocks as one matrix. It is made of those of its steps, its columns or its rows, which there are anyway."""
        if len(blocks) == len(blocks[0]) == 1:
            return self.emitter.operand(blocks[0][0])
        if len(blocks[0]) > 1 and (by_column or len(blocks) == 1):
            parts = [self._matrix([[row[j]] for row in blocks], by_column, "") for j in _all(blocks[0])]
            made = self._joined(f"torch.cat(({', '.join(parts)}), 1)", when if len(blocks) > 1 else "")
        elif len(blocks[0]) == 1 and (rows := _rows_of_one([block for (block,) in blocks])) is not None:
            weight, low, high = rows
            whole = weight.meta["shape"][0] == high - low
            return self.emitter.operand(weight) + ("" if whole else f"[{low}:{high}]")
        else:
            parts = [self._matrix([row], by_column, "") for row in blocks]
            made = self._joined(f"torch.cat(({', '.join(parts)}))", when if len(blocks[0]) > 1 else "")
        self.joined[made] = sum(row_bytes(block) for row in blocks for block in row)
        return made

    @property
    def joined_bytes(self) -> int:
        """What joined weights take at most."""
        return sum(self.joined.values())

    def _joined(self, text: str, when: str = "") -> str:
        """A name for what is made once a call, if at all; the same for the same, also in the backward run."""
        name, setup = self.names.setdefault(text, f"j{len(self.names)}"), self.emitter.setup
        conditional = f"{text} if {when} else None" if when else text
        setup[name] = conditional if setup.get(name, conditional) == conditional else text
        return name


def _are_joined(step: Joint) -> bool:
    """Are its weights rows of one, as they are?"""
    weights = [base_weight(product) for product in step.members]
    return min(len(step.operands), len(step.results)) == 1 and _rows_of_one(weights) is not None


def _rows_of_one(blocks: Sequence[fx.Node]) -> tuple[fx.Node, int, int] | None:
    """The matrix that blocks are rows of, one after another, with the first of these rows and their end."""
    if any(block.target is not aten.slice.Tensor or len(block.args) != 4 or block.args[1] != 0 for block in blocks):
        return None
    spans: list[Any] = [block.args for block in blocks]
    if any(a[0] is not b[0] or a[3] != b[2] for a, b in pairwise(spans)):
        return None
    return spans[0][0], spans[0][2], spans[-1][3]


def _single(product: fx.Node) -> Joint:
    rows: Any = product.args[-2]
    return Joint((rows,), (product,), ((product,),), by_operand=True)


def _bases(step: Joint) -> list[Any]:
    """Per result what its products are added to: a product of another step, a bias, or None."""
    found = []
    for j in range(len(step.results)):
        mine = {row[j] for row in step.products}
        bases = [product.args[0] if len(product.args) == 3 else None for product in mine]
        (base,) = [base for base in bases if base not in mine]
        found.append(base)
    return found


def _depth(product: fx.Node, places: Places) -> int:
    """How many products come before it in its sum."""
    base: Any = product.args[0]
    return 1 + _depth(base, places) if added_to(base, places.kind) is product else 0


def _all(values: Sequence[Any]) -> range:
    return range(len(values))


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]
