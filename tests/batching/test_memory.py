"""What does a call hold, and until when? Counted; peaks are benchmarks/step_memory's."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.batching.view.same import assert_close
from torch import Tensor, nn

import bale
from bale.batching.cells.celltype import CellType
from bale.batching.cells.emit import Emitted
from bale.batching.execute import planned
from bale.batching.execute.captured_frame import CapturedFrame

WORDS, WIDTH = 20, 8
GRADIENT_RELATIVE = 1e-4  # the law's, in float32
ALL_WORDS = torch.arange(WORDS).unbind()

Tree = int | tuple["Tree", "Tree"]


class Leaf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gates = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, word: Tensor) -> tuple[Tensor, Tensor]:
        i, o, u = self.gates(self.embed(word)).chunk(3, -1)
        c = i.sigmoid() * u.tanh()
        return o.sigmoid() * c.tanh(), c


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(2 * WIDTH, 5 * WIDTH)

    def forward(self, h_left: Tensor, c_left: Tensor, h_right: Tensor, c_right: Tensor) -> tuple[Tensor, Tensor]:
        i, o, f_left, f_right, u = self.gates(torch.cat([h_left, h_right], -1)).chunk(5, -1)
        c = i.sigmoid() * u.tanh() + f_left.sigmoid() * c_left + f_right.sigmoid() * c_right
        return o.sigmoid() * c.tanh(), c


class TreeLSTM(nn.Module):
    """Float32, so that its gates lie in buffers and kernels work on them."""

    def __init__(self) -> None:
        super().__init__()
        self.leaf, self.inner = Leaf(), Inner()

    def encode(self, tree: Tree) -> tuple[Tensor, Tensor]:
        if isinstance(tree, int):
            return self.leaf(ALL_WORDS[tree])
        return self.inner(*self.encode(tree[0]), *self.encode(tree[1]))

    def forward(self, tree: Tree) -> Tensor:
        return self.encode(tree)[0]


def random_trees(seed: int, count: int = 6) -> list[Tree]:
    chance = random.Random(seed)

    def tree(leaves: int) -> Tree:
        if leaves == 1:
            return chance.randrange(WORDS)
        left = chance.randrange(1, leaves)
        return tree(left), tree(leaves - left)

    return [tree(chance.randrange(2, 9)) for _ in range(count)]


@pytest.fixture
def model() -> TreeLSTM:
    torch.manual_seed(0)
    return TreeLSTM()


@pytest.fixture
def batched(model: TreeLSTM) -> bale.Batched:
    """After two calls: its cells are captured."""
    made = bale.batch(model)
    for seed in range(2):
        loss_of(made(random_trees(seed))).backward()
    made.zero_grad()
    return made


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What goes has to go by itself: cycles would hold their memory until the collector happens to come by."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Weak references to the filled memory of all calls, its parts, and its frames."""
    seen: list[weakref.ref[Any]] = []
    run = planned.Filled.__init__

    def init(self: planned.Filled, call: Any, memory: Any, *rest: Any) -> None:
        run(self, call, memory, *rest)
        frames = [frame for frame in self.frames if frame is not None]
        seen.extend(map(weakref.ref, [self, memory, call, *frames]))

    monkeypatch.setattr(planned.Filled, "__init__", init)
    return seen


def loss_of(outputs: list[Tensor]) -> Tensor:
    return torch.stack([(k + 1) * out.square().sum() for k, out in enumerate(outputs)]).sum()


def gradients(loss: Tensor, model: nn.Module, **options: Any) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters()), **options))


def emitted(batched: bale.Batched) -> dict[str, Emitted]:
    """The code of all captured cells, by the class of the module."""
    cells = batched.registry.cell_types()
    return {class_of(cell): cell.emitted for cell in cells if cell.emitted is not None}


def class_of(cell: CellType) -> str:
    return cell.name.partition("(")[2].rstrip(")")


def assert_all_close(got: list[Tensor], wanted: list[Tensor]) -> None:
    for a, b in zip(got, wanted, strict=True):
        assert_close(a, b, GRADIENT_RELATIVE)


# What is held.


@pytest.mark.usefixtures("no_collector")
def test_no_memory_outlives_its_graph(batched: bale.Batched, made: list[weakref.ref[Any]]) -> None:
    for seed in range(3):
        outputs = batched(random_trees(seed))
        assert any(ref() is not None for ref in made)
        del outputs
        assert not [ref() for ref in made if ref() is not None]
        with torch.no_grad():
            batched(random_trees(seed))
        assert not [ref() for ref in made if ref() is not None]


@pytest.mark.usefixtures("no_collector")
def test_memory_goes_with_the_backward_run(batched: bale.Batched, made: list[weakref.ref[Any]]) -> None:
    outputs = batched(random_trees(3))
    loss = loss_of(outputs)
    loss.backward()
    held = {type(ref()) for ref in made if ref() is not None}
    assert held <= {planned.PlannedCall}  # which knows structures only
    assert all(out.grad_fn is not None for out in outputs)


def test_frames_go_as_soon_as_their_type_has_run_backward(
    batched: bale.Batched, made: list[weakref.ref[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[list[str]] = []
    run = CapturedFrame.weights

    def weights(self: CapturedFrame, keep: bool) -> Any:
        frames = [ref() for ref in made]
        alive.append([frame.cell.name for frame in frames if isinstance(frame, CapturedFrame)])
        return run(self, keep)

    monkeypatch.setattr(CapturedFrame, "weights", weights)
    loss_of(batched(random_trees(4))).backward()
    assert [len(names) for names in alive] == [2, 1]


def test_memory_is_flat_over_changing_structures(batched: bale.Batched) -> None:
    held = []
    for seed in range(60):
        loss_of(batched(random_trees(seed, count=1 + seed % 7))).backward()
        if seed % 10 == 9:
            gc.collect()
            tensors = [thing for thing in gc.get_objects() if type(thing) is Tensor]
            held.append((len(tensors), sum(t.untyped_storage().nbytes() for t in tensors)))
            del tensors
    assert len(set(held[1:])) == 1, held
    assert len(batched.registry.cell_types()) == 2


# What lies over what.


def test_the_gradients_of_gates_lie_over_the_gates(batched: bale.Batched) -> None:
    codes = emitted(batched)
    assert {name: sorted(code.buffers) for name, code in codes.items()} == {
        "Leaf": [WIDTH, WIDTH, 3 * WIDTH],  # a word's vector, tanh(c), the gates
        "Inner": [WIDTH, 2 * WIDTH, 5 * WIDTH],  # tanh(c), the children's h, the gates
    }
    for name, gates in (("Leaf", 3), ("Inner", 5)):
        assert [codes[name].buffers[number] for number in codes[name].overwritten] == [gates * WIDTH]


class Reread(nn.Module):
    """A cell whose gates are read by another product too: for that one's weight they are needed to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.gates, self.mix = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, word: Tensor) -> Tensor:
        gates = self.gates(self.embed(word))
        i, u = gates.chunk(2, -1)
        return i.sigmoid() * u.tanh() + self.mix(gates)


def test_gates_that_a_weight_reads_later_are_not_written_over() -> None:
    torch.manual_seed(0)

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Reread()

        def forward(self, words: list[Tensor]) -> Tensor:
            return torch.stack([self.cell(word) for word in words]).sum(0)

    model = Words()
    batched = bale.batch(model)
    given = [list(ALL_WORDS[:3]), list(ALL_WORDS[2:9])]
    wanted = gradients(loss_of([model(sample) for sample in given]), model)
    for _ in range(3):
        assert_all_close(gradients(loss_of(batched(given)), model), wanted)
    assert emitted(batched)["Reread"].overwritten == ()


# Graphs that are run backward more than once.


def test_a_retained_graph_runs_backward_again(model: TreeLSTM, batched: bale.Batched) -> None:
    given = random_trees(5)
    loss = loss_of(batched(given))
    first = gradients(loss, model, retain_graph=True)
    assert_all_close(first, gradients(loss_of([model(tree) for tree in given]), model))
    for again in (True, False):
        for a, b in zip(gradients(loss, model, retain_graph=again), first, strict=True):
            assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="second time"):
        gradients(loss, model)


def test_second_derivatives_after_a_first_run(model: TreeLSTM, batched: bale.Batched) -> None:
    given, found = random_trees(6), []
    for outputs in (batched(given), [model(tree) for tree in given]):
        loss = loss_of(outputs)
        gradients(loss, model, retain_graph=True)
        first = gradients(loss, model, create_graph=True)
        found.append(gradients(torch.stack([g.square().sum() for g in first]).sum(), model))
    assert_all_close(*found)


@pytest.mark.parametrize("failing", ["Leaf", "Inner"])
def test_a_backward_run_that_was_broken_off(
    model: TreeLSTM, batched: bale.Batched, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Gates are half written over then: the gradients come from a run of their own."""
    given = random_trees(7)
    loss = loss_of(batched(given))
    run = CapturedFrame.weights

    def weights(self: CapturedFrame, keep: bool) -> Any:
        if class_of(self.cell) == failing:
            raise KeyboardInterrupt
        return run(self, keep)

    monkeypatch.setattr(CapturedFrame, "weights", weights)
    with pytest.raises(KeyboardInterrupt):
        gradients(loss, model, retain_graph=True)
    monkeypatch.undo()
    wanted = gradients(loss_of([model(tree) for tree in given]), model)
    assert_all_close(gradients(loss, model, retain_graph=True), wanted)
    assert_all_close(gradients(loss, model), wanted)


def test_calls_of_one_structure_share_nothing(model: TreeLSTM, batched: bale.Batched) -> None:
    given = random_trees(8)
    wanted = gradients(loss_of([model(tree) for tree in given]), model)
    losses = [loss_of(batched(given)) for _ in range(3)]
    for loss in losses[::-1]:
        assert_all_close(gradients(loss, model), wanted)
