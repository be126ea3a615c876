"""Triton kernels: the loops of pointwise.py for a GPU. A grid of programs, each for a block of rows and columns.

Texts are written without triton; it is imported where the first kernel is made. With TRITON_INTERPRET=1 in the
environment its interpreter runs kernels on tensors of the CPU, which is how they are tested.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from bale.batching.cells import pointwise
from bale.batching.cells.kernel_files import cache_folder, folder_of_process, module_of
from bale.batching.cells.kernels import Kernel, Kernels, Load

aten = torch.ops.aten

# Where a formula in Triton is another than in Python.
FORMULAS = pointwise.FORMULAS | {aten.threshold_backward.default: "tl.where({1} <= {2}, 0.0, {0})"}
READ = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64})
HEAD = """import triton
import triton.language as tl

from bale.batching.cells.triton_functions import blocks, relu, sigmoid, tanh


"""


@lru_cache(maxsize=1)
def is_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def interprets() -> bool:
    """Are kernels that are made now run by the interpreter?"""
    from triton import knobs

    return bool(knobs.runtime.interpret)


class Triton(Kernels):
    """Kernels take tensors; a matrix comes with the distance of its rows."""

    by_threads = False

    def array(self, tensor: torch.Tensor) -> Any:
        return tensor if tensor.dtype in READ and (tensor.is_cuda or interprets()) else None

    def indices(self, arrays: Sequence[np.ndarray], device: torch.device) -> list[Any]:
        # each begins at a multiple of 16 bytes: a kernel is compiled anew for what is not aligned as before
        starts = [0, *accumulate(array.size + array.size % 2 for array in arrays)]
        joined = np.zeros(starts[-1], np.int64)
        for start, array in zip(starts, arrays, strict=False):
            joined[start : start + array.size] = array
        there = torch.from_numpy(joined).to(device)
        return [there[start : start + array.size] for start, array in zip(starts, arrays, strict=False)]

    def on(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.cuda.device(device) if device.type == "cuda" else nullcontext()

    def formula(self, target: Any, operands: Sequence[str]) -> str:
        return FORMULAS[target].format(*operands)

    def constant(self, number: float) -> str:
        return repr(float(number)) if math.isfinite(number) else f"float('{number}')"

    def text(self, *parts: Any) -> str:
        return _Text(*parts).text()

    def compiled(self, text: str) -> Kernel:
        return compiled(text)


TRITON = Triton()


@lru_cache(maxsize=4096)
def compiled(text: str) -> Kernel:
    """What launches the kernel of a text. It is compiled at its first launch; Triton keeps what it compiles."""
    try:
        return module_of(text, "", cache_folder()).launch
    except OSError:
        return module_of(text, "", folder_of_process()).launch


class _Text:
    """One kernel's source."""

    def __init__(self, arrays: int, offsets: int, loads: list[tuple[str, Load]], body: list[str],
                 stores: list[tuple[Load, str]], indices: dict[int, int]):  # fmt: skip
        self.loads, self.body, self.stores, self.indices = loads, body, stores, indices
        vectors = {load.array for _, load in loads if load.vector}
        self.given = [f"a{k}" for k in range(arrays)] + [f"i{k}" for k in sorted(set(indices.values()))]
        self.offsets = [f"o{k}" for k in range(offsets)]
        self.strides = [f"s{k}" for k in range(arrays) if k not in vectors]
        self.rows: dict[tuple[int, int, bool], str] = {}  # of an array -> the name of where they begin
        self.lines: list[str] = []

    def text(self) -> str:
        given = ", ".join(["n", "w", *self.given, *self.offsets])
        free = ", ".join(f'"{name}"' for name in ("n", *self.offsets))  # they differ from batch to batch
        for name, load in self.loads:
            mask = "" if load.vector and load.narrow else f", mask={self._mask(load)}, other=0.0"
            self.lines.append(f"{name} = tl.load({self._address(load)}{mask})")
        if {load.array for load, _ in self.stores} & {load.array for _, load in self.loads}:
            self.lines.append("tl.debug_barrier()")  # threads may load and store other elements of a program's block
        self.lines += self.body
        self.lines += [
            f"tl.store({self._address(load)}, {name}, mask={self._mask(load)})" for load, name in self.stores
        ]
        lines = [
            f"@triton.jit(do_not_specialize=[{free}])",
            f"def kernel({', '.join([given, *self.strides])}, ROWS: tl.constexpr, COLUMNS: tl.constexpr):",
            "    zero = 0.0",
            "    one = 1.0",
            "    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)",
            "    h = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)",
            "    in_rows = r < n",
            "    in_width = h < w",
            "    inside = in_rows[:, None] & in_width[None, :]",
            *(f"    {line}" for line in self.lines), "", "",
            f"def launch({given}):",
            "    grid, rows, columns = blocks(n, w)",
            f"    kernel[grid]({', '.join([given, *(f'a{name[1:]}.stride(0)' for name in self.strides)])},",
            "                 ROWS=rows, COLUMNS=columns)",
        ]  # fmt: skip
        return HEAD + "\n".join(lines) + "\n"

    def _mask(self, load: Load) -> str:
        if load.vector:
            return "in_width[None, :]"
        return "in_rows[:, None]" if load.narrow else "inside"

    def _address(self, load: Load) -> str:
        if load.vector:
            return f"a{load.array}" + ("" if load.narrow else " + h[None, :]")
        column = f"{load.column} * w" if load.column else ""
        parts = [f"a{load.array}", f"{self._begin(load)}[:, None]", column, str(load.rest or "")]
        return " + ".join(filter(None, [*parts, "" if load.narrow else "h[None, :]"]))

    def _begin(self, load: Load) -> str:
        """Where the rows of a program begin in an array. Memory may hold more numbers than an int32 counts."""
        key = (load.array, load.row, load.indexed)
        if key not in self.rows:
            self.rows[key] = name = f"x{len(self.rows)}"
            row = f"(o{load.row} + r).to(tl.int64)"
            if load.indexed:
                row = f"tl.load(i{self.indices[load.array]} + o{load.row} + r, mask=in_rows, other=0)"
            self.lines.append(f"{name} = {row} * s{load.array}")
        return self.rows[key]
