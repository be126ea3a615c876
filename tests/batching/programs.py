"""Random per-sample programs over random structures: what the property tests draw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

WIDTH = 3
WORDS = 7


@dataclass(frozen=True)
class Step:
    """One node of a sample: what kind it is, a number of its own, and which earlier steps it reads."""

    kind: int
    number: int
    operands: tuple[int, ...]


Structure = tuple[Step, ...]


class Leaf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)

    def forward(self, word: Tensor) -> Tensor:
        return self.embed(word).tanh()


class Gate(nn.Module):
    """Several operands in, several out."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * WIDTH, 2 * WIDTH)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.linear(torch.cat([left, right], -1)).chunk(2, -1)
        return a.sigmoid() * left, b.tanh() + right


class Scale(nn.Module):
    """Takes a plain argument and has a bias that broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(WIDTH))

    def forward(self, h: Tensor, flip: bool = False) -> Tensor:
        return (self.bias - h) if flip else (self.bias + 0.5 * h)


class Mixing(nn.Module):
    """Row-mixing if it were batched carelessly: a softmax over its only axis."""

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.softmax(h, 0) + h.mean()


class Interpreter(nn.Module):
    """Runs a structure; `program` says which operation each kind of step is."""

    def __init__(self, program: tuple[str, ...], seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.program = program
        self.leaf, self.gate, self.scale, self.mixing = Leaf(), Gate(), Scale(), Mixing()
        self.same, self.linear, self.twin = nn.Identity(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.score, self.head = nn.Linear(WIDTH, 1), nn.Linear(WIDTH, 2)
        self.start = nn.Parameter(torch.randn(WIDTH))
        self.kinds = nn.Parameter(torch.randn(4, WIDTH, WIDTH))
        self.double()

    def forward(self, sample: tuple[Structure, Tensor]) -> dict[str, object]:
        structure, features = sample
        values: list[Tensor] = []
        for step in structure:
            children = [values[k] for k in step.operands]
            values.append(self.step(self.program[step.kind % len(self.program)], step.number, children, features))
        return {"all": values, "last": self.head(values[-1]), "size": len(values)}

    def step(self, operation: str, number: int, children: list[Tensor], features: Tensor) -> Tensor:
        first = children[0] if children else self.leaf(torch.tensor(number % WORDS))
        return getattr(self, f"op_{operation}")(first, children or [first], number, features)

    def op_linear(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return self.linear(first).tanh()

    def op_twin(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return self.twin(children[-1]).tanh()

    def op_gate(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        a, b = self.gate(first, children[-1])
        return a + b

    def op_child_sum(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return self.linear(torch.stack(children).sum(0))

    def op_python_sum(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return sum(children) / len(children)  # type: ignore[return-value]

    def op_mean(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return torch.stack(children, dim=0).mean(dim=0)

    def op_max(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return torch.stack(apart(children)).max(0).values

    def op_amax(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return torch.stack([*apart(children), self.start]).amax(0)

    def op_logsumexp(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return torch.logsumexp(torch.stack(children), 0)

    def op_attention(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        stacked = torch.stack(children)
        weights = torch.softmax(self.score(stacked), 0)
        return (weights * stacked).sum(0)

    def op_dot_attention(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        stacked = torch.stack([*children, features])
        return torch.softmax(stacked @ first, -1) @ stacked

    def op_ragged_linear(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return (self.linear(torch.stack(children)) * first).sum(0)

    def op_pick(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return torch.stack(children)[number % len(children)] * 0.5

    def op_slice(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        start = number % WIDTH
        return first + first[start : start + 1]

    def op_constant(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return first * features + number

    def op_scale(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return self.scale(first, flip=number % 2 == 0)

    def op_mixing(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return self.mixing(first)

    def op_identity(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return self.same(first)

    def op_select_weight(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return torch.tanh(self.kinds[number % 4] @ first)

    def op_start(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return self.start * first + self.start

    def op_in_place(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        total = torch.zeros_like(first)
        for child in children:
            total += child
        return total.mul_(0.5)

    def op_detach(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return first.detach() * children[-1]

    def op_no_grad(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        with torch.no_grad():
            held = torch.stack(children).sum(0)
        return self.linear(held) + first

    def op_where(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        return torch.where(first > children[-1] + 0.01, first, 0.5 * children[-1])

    def op_join(self, first: Tensor, children: list[Tensor], number: int, features: Tensor) -> Tensor:
        rows = torch.cat([torch.stack(children), torch.stack([first, features])])
        return rows[1:].flip(0).mean(0)


def apart(children: list[Tensor]) -> list[Tensor]:
    """Equal children made unequal: at a tie the gradient of a maximum hangs on the last bit."""
    return [child + 0.013 * (k + 1) for k, child in enumerate(children)]


OPERATIONS = tuple(name.removeprefix("op_") for name in vars(Interpreter) if name.startswith("op_"))


def programs() -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=5).map(tuple)


_numbers = st.integers(0, 11)
_kinds = st.integers(0, 4)


@st.composite
def dags(draw: st.DrawFn, most: int = 9) -> Structure:
    """Any step may read any earlier ones, also several times; some read nothing."""
    steps: list[Step] = []
    for position in range(draw(st.integers(1, most))):
        operands = draw(st.lists(st.integers(0, position - 1), max_size=4)) if position else []
        steps.append(Step(draw(_kinds), draw(_numbers), tuple(operands)))
    return tuple(steps)


@st.composite
def chains(draw: st.DrawFn, most: int = 9) -> Structure:
    length = draw(st.integers(1, most))
    return tuple(Step(draw(_kinds), draw(_numbers), (k - 1,) if k else ()) for k in range(length))


@st.composite
def trees(draw: st.DrawFn, most: int = 9) -> Structure:
    """Every step is read once: operands are roots that nobody has taken yet."""
    steps: list[Step] = []
    roots: list[int] = []
    size = draw(st.integers(1, most))
    for position in range(size):
        arity = len(roots) if position == size - 1 else draw(st.integers(0, min(3, len(roots))))
        taken, roots = roots[len(roots) - arity :], roots[: len(roots) - arity]
        steps.append(Step(draw(_kinds), draw(_numbers), tuple(taken)))
        roots.append(position)
    return tuple(steps)


@st.composite
def lattices(draw: st.DrawFn, most: int = 5) -> Structure:
    """A character a position, words that skip some; all that end at a position are read together."""
    steps: list[Step] = []
    ending: list[list[int]] = []
    for position in range(draw(st.integers(1, most))):
        starts = [position - 1, *draw(st.lists(st.integers(0, position - 1), max_size=2))] if position else [-1]
        here = []
        for start in starts:
            operands = tuple(ending[start]) if start >= 0 else ()
            steps.append(Step(0 if start == position - 1 else 1, draw(_numbers), operands))
            here.append(len(steps) - 1)
        ending.append(here)
    return tuple(steps)


def structures() -> st.SearchStrategy[Structure]:
    return st.one_of(dags(), chains(), trees(), lattices())


def features(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(WIDTH, generator=generator, dtype=torch.float64)
