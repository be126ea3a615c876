"""Triton's kernels compute what numba's do, run by its interpreter on the CPU; and they compile for GPUs."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.batching.programs import OPERATIONS, Interpreter, Structure, structures
from tests.batching.test_law import assert_equal_runs
from tests.batching.test_pointwise import ARITY, numbers
from tests.models.made import CASES, drawn
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bale
from bale.batching.cells import kernel_files, pointwise, triton_kernels
from bale.batching.cells.backend import Backend
from bale.batching.cells.kernels import Load
from bale.batching.cells.pointwise import FORMULAS
from bale.batching.cells.triton_kernels import TRITON, compiled
from bale.batching.execute import planned
from bale.batching.execute.gather import Index, Matrix, divide, sum_crowded, take, take_sum
from bale.errors import BaleError

pytest.importorskip("triton", reason="triton is not installed; it is for Linux alone")
# What a mask leaves out is computed as well, and numpy says so of 0 / 0.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
aten = torch.ops.aten
CPU = torch.device("cpu")
UNTOUCHED = 77
few = settings(max_examples=20, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def interpreter() -> Iterator[None]:
    """Kernels are interpreted if they are made while this is set."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        yield


# Formulas.


def run(target: Any, *operands: Tensor | float) -> Tensor:
    """One formula as a kernel over [rows, width] tensors; numbers are written into it."""
    tensors = [t for t in operands if isinstance(t, Tensor)]
    names = {id(t): f"v{k}" for k, t in enumerate(tensors)}
    loads = [(names[id(t)], Load(k, 0)) for k, t in enumerate(tensors)]
    given = [names[id(o)] if isinstance(o, Tensor) else TRITON.constant(o) for o in operands]
    out = torch.full_like(tensors[0], UNTOUCHED)
    body = [f"y = {TRITON.formula(target, given)}"]
    text = TRITON.text(len(tensors) + 1, 1, loads, body, [(Load(len(tensors), 0), "y")], {})
    compiled(text)(*tensors[0].shape, *tensors, out, 0)
    return out


@pytest.mark.parametrize("target", [t for t in FORMULAS if t is not aten.threshold_backward.default], ids=str)
def test_every_formula_is_torchs(target: Any) -> None:
    """Of NaN, infinities and numbers near the largest, too."""
    operands: list[Any] = [numbers(seed) for seed in range(ARITY.get(target, 2))]
    if target is aten.rsub.Scalar:
        operands = [operands[0], 2.5]
    if target in (aten.sigmoid_backward.default, aten.tanh_backward.default):
        operands[1] = operands[1].clamp(-1, 1)  # what the forward function can have returned
    allowed = 3e-7 if target is aten.tanh.default else 0.0
    relative = 4e-6 if target is aten.tanh_backward.default else 4e-7  # of 1 - y * y, here rounded twice
    torch.testing.assert_close(run(target, *operands), target(*operands), rtol=relative, atol=allowed, equal_nan=True)


def test_a_sigmoid_is_good_relative_to_itself() -> None:
    x = torch.linspace(-87, 87, 6400).view(-1, 64)
    want = torch.sigmoid(x.double())
    assert ((run(aten.sigmoid.default, x).double() - want).abs() / want).max() < 3e-7


@pytest.mark.parametrize("threshold", [0, 0.5])
def test_a_threshold_lets_the_gradient_of_nan_through_as_torch_does(threshold: float) -> None:
    gradient, x = numbers(0), numbers(1)
    want = aten.threshold_backward.default(gradient, x, threshold)
    got = run(aten.threshold_backward.default, gradient, x, threshold)
    torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("target", [aten.add.Tensor, aten.mul.Tensor, aten.div.Tensor], ids=str)
@pytest.mark.parametrize("number", [0, 3, -0.1, 1e-42, float("inf"), float("-inf"), float("nan")])
def test_numbers_are_written_into_the_formula(target: Any, number: float) -> None:
    x = numbers(0)
    torch.testing.assert_close(run(target, x, number), target(x, number), rtol=4e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize(("target", "low"), [(aten.tanh.default, -1.0), (aten.sigmoid.default, 0.0)])
def test_tanh_and_sigmoid_stay_in_their_range(target: Any, low: float) -> None:
    grid = torch.cat([torch.linspace(-30, 30, 2**16), torch.tensor([torch.inf, -torch.inf]).repeat(32)])
    got = run(target, grid.view(-1, 64))
    assert low <= got.min().item() and got.max().item() <= 1.0


# Kernels.


def by_numba(*parts: Any) -> Callable[..., None]:
    """The kernel that numba would compile, not compiled: every drawn one is another."""
    scope: dict[str, Any] = {"numba": numba}
    exec(pointwise.kernel_text(*parts), scope)
    return scope["kernel"]


@st.composite
def loads(draw: st.DrawFn) -> list[Load]:
    """Of each array one load: rows by number or through an index, of any columns, or one number for all; vectors."""
    found = []
    for array in range(draw(st.integers(1, 5))):
        vector = draw(st.booleans()) and draw(st.booleans())
        column, rest = (0, 0) if vector else (draw(st.integers(0, 2)), draw(st.integers(0, 2)))
        indexed = not vector and draw(st.booleans())
        found.append(Load(array, draw(st.integers(0, 1)), column, rest, indexed, vector, draw(st.booleans())))
    return found


@few
@given(loads=loads(), rows=st.integers(1, 9), width=st.sampled_from([1, 3, 4, 300]), seed=st.integers(0, 99))
def test_a_kernel_is_that_of_numba(loads: list[Load], rows: int, width: int, seed: int) -> None:
    """Loads of every kind, over several programs along rows and columns, into a slice of a larger array."""
    rng = np.random.default_rng(seed)
    first = [2, 1]
    given: list[np.ndarray] = []
    for load in loads:
        high = 1 if load.vector else 3 * width + 2
        given.append(rng.normal(size=(high * width,) if load.vector else (12, high)).astype(np.float32))
    index = rng.integers(0, 12, 12)
    names = [f"v{k}" for k in range(len(loads))]
    store = Load(len(loads), 1, column=1, rest=1)
    indices = {load.array: 0 for load in loads if load.indexed}
    parts = (len(loads) + 1, 2, list(zip(names, loads, strict=True)), [f"y = {' + '.join(names)}"], [(store, "y")],
             indices)  # fmt: skip
    got, want = (np.full((12, 2 * width + 1), UNTOUCHED, np.float32) for _ in range(2))
    more = [index] if indices else []
    by_numba(*parts)(rows, width, *given, want, *more, *first)
    compiled(TRITON.text(*parts))(rows, width, *map(torch.from_numpy, (*given, got, *more)), *first)
    np.testing.assert_array_equal(got, want)


def test_a_store_may_overwrite_what_its_own_element_was_read_from() -> None:
    x, y = numbers(0), numbers(2)
    want = y - x
    text = TRITON.text(2, 1, [("a", Load(0, 0)), ("b", Load(1, 0))], ["c = b - a"], [(Load(0, 0), "c")], {})
    assert "tl.debug_barrier()" in text, "all threads of a program have read before the first writes"
    compiled(text)(*x.shape, x, y, 0)
    torch.testing.assert_close(x, want, rtol=0, atol=0, equal_nan=True)


def test_where_nothing_can_be_kept_kernels_lie_in_a_folder_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    x, out = torch.ones(2, 3), torch.zeros(2, 3)
    compiled.cache_clear()
    launch = compiled(TRITON.text(2, 1, [("a", Load(0, 0))], ["b = a * 7"], [(Load(1, 0), "b")], {}))
    launch(2, 3, x, out, 0)
    assert (out == 7).all()
    assert list(kernel_files.folder_of_process().iterdir())


# Gathers.

DTYPES = (torch.float32, torch.float64, torch.int64, torch.bfloat16, torch.float16)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def matrix(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * 4).to(dtype)


def handed(*arrays: Any) -> list[Any]:
    return TRITON.indices([np.asarray(array) for array in arrays], CPU)


@dtypes
@few
@given(rows=st.lists(st.integers(0, 8), max_size=6), width=st.sampled_from([0, 1, 3, 300]), low=st.integers(0, 2))
def test_take_is_index_select(dtype: torch.dtype, rows: list[int], width: int, low: int) -> None:
    source, target = matrix(9, width, dtype=dtype), torch.full((9, width + 2), UNTOUCHED, dtype=dtype)
    want = target.clone()
    want[1 : 1 + len(rows), 1 : 1 + width] = source[torch.tensor(rows, dtype=torch.int64)]
    (index,) = handed([0] * low + rows)
    take(Matrix(source, TRITON), Index(index, CPU), low, len(rows), Matrix(target, TRITON), 1, 1)
    assert torch.equal(target, want)


@dtypes
@pytest.mark.parametrize("mean", [False, True])
@few
@given(segments=st.lists(st.lists(st.integers(0, 8), max_size=3), max_size=4), width=st.sampled_from([0, 1, 3, 300]))
def test_take_sum_is_the_sum_of_each_segment(
    dtype: torch.dtype, mean: bool, segments: list[list[int]], width: int
) -> None:
    """In the order of the segment, bit for bit as numba's loop adds; the first segment is left out."""
    if mean and not dtype.is_floating_point:
        return
    segments = [[1, 2], *segments]
    count = len(segments) - 1
    source = matrix(9, width, dtype=dtype)
    got, want = (torch.full((6, width + 2), UNTOUCHED, dtype=dtype) for _ in range(2))
    start, index = np.cumsum([0, *map(len, segments)]), np.array([r for s in segments for r in s], np.int64)
    begins, rows = handed(start, index)
    take_sum(Matrix(source), Index(index, CPU), start, 1, count, Matrix(want), 1, 1, mean)
    take_sum(Matrix(source, TRITON), Index(rows, CPU), begins, 1, count, Matrix(got, TRITON), 1, 1, mean)
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype, 0.0)
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("width", [1, 3, 300])
def test_what_is_read_by_many_is_summed_and_means_are_divided(width: int) -> None:
    memory = matrix(9, width)
    arrays = ([1, 2, 3, 4, 5, 1], [0, 3, 4, 6], [0, 1, 1, 2], [7, 0, 8])  # readers, start, summed, target
    want = memory.clone()
    sum_crowded(want.numpy(), *[np.array(each) for each in arrays], first=0, count=3)
    sum_crowded(memory, *handed(*arrays), first=0, count=3)
    assert torch.equal(memory, want)
    assert not torch.equal(memory, matrix(9, width))
    counts = np.arange(9) % 4
    divide(want[:, : width - 1], counts)
    divide(memory[:, : width - 1], *handed(counts))
    assert torch.equal(memory, want)


# Models.

SIZES = (1, 2, 5, 7)
MODELS = "BiLSTMTagger ChildSumTreeLSTM TreeGRU MVRNN LatticeLSTM LatticeGRU DagLSTM".split()


def results(model: nn.Module, run: Any, samples: list[Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The outputs, flat, and the gradients of a weighting of them."""
    model.zero_grad()
    outputs = torch.cat([out.flatten() for out in run(samples)])
    (outputs * torch.linspace(-1, 1, outputs.numel(), device=outputs.device)).sum().backward()
    return outputs.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equals_the_loop(name: str, backend: str, device: torch.device) -> None:
    torch.manual_seed(0)
    model = CASES[name].make().to(device)
    samples = drawn(name, SIZES)
    batched = bale.batch(model, backend=backend, capture="eager", check="always")
    wanted, gradients = results(model, lambda given: map(model, given), samples)
    for _ in range(2):
        outputs, found = results(model, batched, samples)
        torch.testing.assert_close(outputs, wanted, rtol=0, atol=1e-5 * max(1.0, wanted.abs().max().item()))
        assert found.keys() == gradients.keys()
        for path, gradient in gradients.items():
            size = max(1.0, gradient.abs().max().item())
            torch.testing.assert_close(found[path], gradient, rtol=0, atol=1e-4 * size)
    emitted = [cell.emitted for cell in batched.registry.cell_types() if cell.emitted is not None]
    assert emitted and all(each.kernels is TRITON for each in emitted)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_equals_the_loop(name: str) -> None:
    assert_equals_the_loop(name, "triton", CPU)


@functools.cache
def interpreted() -> tuple[Interpreter, bale.Batched]:
    """One model for all examples, so that each type is captured once."""
    model = Interpreter(OPERATIONS, 2).float()
    return model, bale.batch(model, backend="triton", capture="eager", check="always")


@settings(max_examples=5, deadline=None)
@given(
    samples=st.lists(structures(), min_size=1, max_size=2),
    kinds=st.lists(st.integers(0, len(OPERATIONS) - 1), min_size=5, max_size=5),
)
def test_any_program_equals_the_loop(samples: list[Structure], kinds: list[int]) -> None:
    model, batched = interpreted()
    chosen = [tuple(replace(step, kind=kinds[step.kind]) for step in structure) for structure in samples]
    assert_equal_runs(model, batched, chosen, (1e-5, 1e-4))


class Asked(TorchDispatchMode):
    """What would wait for a device, or copy to one."""

    WAIT = ("_local_scalar_dense", "nonzero", "index", "_to_copy", "masked_select", "lift_fresh")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.heard = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.heard += 1
        if func.overloadpacket.__name__ in self.WAIT:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["ChildSumTreeLSTM", "LatticeLSTM"])
def test_batches_never_wait_for_the_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All row numbers are copied at once, before the first batch."""
    model, samples = CASES[name].make(), drawn(name, SIZES)
    batched = bale.batch(model, backend="triton", capture="eager", check="off")
    results(model, batched, samples)
    copies: list[int] = []
    asked = Asked()
    indices = TRITON.indices

    def counted(arrays: Any, device: torch.device) -> list[Any]:
        copies.append(len(arrays))
        return indices(arrays, device)

    def heard(name: str) -> None:
        function = getattr(planned.Filled, name)

        def inside(self: Any, *args: Any) -> Any:
            def from_numpy(array: np.ndarray) -> Tensor:
                asked.found.append(f"from_numpy {array.shape}")
                return torch.as_tensor(array)

            _ = self.memory.indices
            with monkeypatch.context() as here, asked:
                here.setattr(torch, "from_numpy", from_numpy)
                return function(self, *args)

        monkeypatch.setattr(planned.Filled, name, inside)

    monkeypatch.setattr(type(TRITON), "indices", staticmethod(counted))
    heard("forward")
    heard("_run_backward")
    results(model, batched, samples)
    assert asked.heard and asked.found == []
    assert len(copies) == 1


# What is refused, and what needs no triton.


def in_a_process(program: str, *arguments: str) -> None:
    """In one of its own: what was made to be interpreted cannot be compiled."""
    result = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_without_triton_its_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernels, "is_installed", lambda: False)
    with pytest.raises(BaleError, match=r"needs the package triton, which is not installed; use 'auto'"):
        bale.batch(nn.Linear(1, 1), backend="triton")
    assert not Backend("auto").compiles(torch.device("cuda"))


def test_on_the_cpu_it_is_for_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    batched = bale.batch(CASES["TreeGRU"].make(), backend="triton")
    with pytest.raises(BaleError, match=r"runs on CUDA, and there are values on cpu; use 'auto', or"):
        batched(drawn("TreeGRU", SIZES))


def test_auto_takes_it_on_cuda_and_numba_on_the_cpu() -> None:
    cuda = torch.device("cuda")
    assert Backend("auto").kernels(cuda) is TRITON
    assert Backend("auto").kernels(CPU) is pointwise.NUMBA
    assert Backend("auto").compiles(cuda)
    for name in ("numba", "torch"):
        assert Backend(name).kernels(cuda) is pointwise.NUMBA
        assert not Backend(name).compiles(cuda)
    assert Backend("triton").kernels(CPU) is TRITON


WITHOUT = """
import sys

sys.modules["triton"] = None  # importing it fails

import torch
from torch import nn

import bale

model = bale.batch(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), capture="eager", check="always")
torch.stack(model([torch.ones(2), torch.zeros(2)])).sum().backward()
"""


def test_everything_else_works_without_it() -> None:
    in_a_process(WITHOUT)


# Compiled: without a GPU, for one, and run where there is one.

COMPILE = """
import sys

import triton
import triton.language as tl
from tests.batching.captured import captured_cell
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import torch

from bale.batching.cells.emit import emit
from bale.batching.cells.triton_kernels import TRITON
from bale.batching.execute import triton_gather


def compile_for(target, kernel, pointers, constants):
    types = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    made = triton.compile(ASTSource(kernel, types, places), target=target)
    assert made.asm["cubin"]


for name in ("tree lstm", "lstm cell", "gru cell", "relu"):
    captured = captured_cell(name, torch.float32)[1]
    emit(captured, [True] * len(captured.columns), True, TRITON)
kernels = [module.kernel for name, module in sys.modules.items() if name.startswith("kernel_")]
assert len(kernels) >= 6
for arch in (80, 90):
    target = GPUTarget("cuda", arch, 32)
    for kernel in kernels:
        pointers = {name: "*fp32" if name[0] == "a" else "*i64" for name in kernel.arg_names if name[0] in "ai"}
        compile_for(target, kernel, pointers, {"ROWS": 8, "COLUMNS": 128})
    for dtype, total in (("fp32", tl.float32), ("fp64", tl.float64), ("i64", tl.int64), ("bf16", tl.float32)):
        values = {name: f"*{dtype}" for name in ("source", "target", "memory", "rows")}
        pointers = values | {name: "*i64" for name in ("index", "start", "reader", "summed", "counts")}
        block, row = {"ROWS": 8, "COLUMNS": 128}, {"COLUMNS": 128, "SUM": total}
        compile_for(target, triton_gather._take, pointers, block)
        compile_for(target, triton_gather._take_sum, pointers, row | {"MEAN": dtype != "i64"})
        compile_for(target, triton_gather._sum_crowded, pointers | {"target": "*i64"}, row)
        if dtype != "i64":
            compile_for(target, triton_gather._divide, pointers, block)
"""


RUN = """
import sys

import torch
from tests.batching.test_triton import MODELS, assert_equals_the_loop

for name in MODELS:
    for backend in ("auto", "triton"):
        assert_equals_the_loop(name, backend, torch.device(sys.argv[1]))
"""


@pytest.fixture
def compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For processes that keep no kernels and interpret none."""
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'src'}")


@pytest.mark.usefixtures("compiling")
def test_kernels_compile_for_gpus() -> None:
    in_a_process(COMPILE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.usefixtures("compiling")
def test_models_equal_the_loop_on_a_gpu() -> None:
    in_a_process(RUN, "cuda")
