"""Pointwise: several elementwise operations on rows as one compiled loop (CPU, float32).

A kernel is Python text, compiled by numba and shared by all cells with the same text; widths are arguments. tanh is a
rational approximation (the coefficients of Eigen's `ptanh`, published with Eigen under MPL 2), its error below 3e-7 in
absolute terms. sigmoid is made from an exponential (the polynomial of Cephes' `expf`), its relative error below 2e-7
for numbers from -87 on, so that its logarithm is good too; below it is constant.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from bale.batching.cells.kernel_files import cache_folder, module_of
from bale.batching.cells.kernels import Kernel, Kernels, Load

aten = torch.ops.aten

# Formulas in Python of one number per operand. Constants are wrapped: float64 literals would widen the loop.
FORMULAS: dict[Any, str] = {
    aten.add.Tensor: "{0} + {1}",
    aten.sub.Tensor: "{0} - {1}",
    aten.mul.Tensor: "{0} * {1}",
    aten.div.Tensor: "{0} / {1}",
    aten.rsub.Scalar: "{1} - {0}",
    aten.neg.default: "-{0}",
    aten.sigmoid.default: "sigmoid({0})",
    aten.tanh.default: "tanh({0})",
    aten.relu.default: "relu({0})",
    aten.clone.default: "{0}",
    aten.sigmoid_backward.default: "{0} * {1} * (one - {1})",
    aten.tanh_backward.default: "{0} * (one - {1} * {1})",
    aten.threshold_backward.default: "(zero if {1} <= {2} else {0})",  # NaN passes, as in torch
}
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",  # a division by zero is inf, as in torch
    "fastmath": {"contract", "nsz"},  # what keeps NaN and infinity as they are
}


@numba.njit(inline="always", **OPTIONS)
def tanh(x):
    x_ = min(max(x, numba.float32(-7.90531110763549805)), numba.float32(7.90531110763549805))
    s = x_ * x_
    p = numba.float32(-2.76076847742355e-16)
    p = p * s + numba.float32(2.00018790482477e-13)
    p = p * s + numba.float32(-8.60467152213735e-11)
    p = p * s + numba.float32(5.12229709037114e-08)
    p = p * s + numba.float32(1.48572235717979e-05)
    p = p * s + numba.float32(6.37261928875436e-04)
    p = p * s + numba.float32(4.89352455891786e-03)
    q = numba.float32(1.19825839466702e-06)
    q = q * s + numba.float32(1.18534705686654e-04)
    q = q * s + numba.float32(2.26843463243900e-03)
    q = q * s + numba.float32(4.89352518554385e-03)
    # x - x is 0 but for NaN and infinity, of which only NaN must come through
    return x_ * p / q + (numba.float32(0) if x == x else x)


@numba.njit(inline="always", **OPTIONS)
def exp(x):
    x_ = min(max(x, numba.float32(-87.0)), numba.float32(88.0))
    whole = np.floor(x_ * numba.float32(1.44269504088896341) + numba.float32(0.5))
    r = x_ - whole * numba.float32(0.693359375)
    r = r - whole * numba.float32(-2.12194440e-4)
    p = numba.float32(1.9875691500e-4)
    p = p * r + numba.float32(1.3981999507e-3)
    p = p * r + numba.float32(8.3334519073e-3)
    p = p * r + numba.float32(4.1665795894e-2)
    p = p * r + numba.float32(1.6666665459e-1)
    p = p * r + numba.float32(5.0000001201e-1)
    power = np.int32((np.int32(whole) + 127) << 23).view(np.float32)  # 2 ** whole, by its bits
    return (p * r * r + r + numba.float32(1)) * power


@numba.njit(inline="always", **OPTIONS)
def sigmoid(x):
    one = numba.float32(1)
    return one / (one + exp(-x)) + (numba.float32(0) if x == x else x)


@numba.njit(inline="always", **OPTIONS)
def relu(x):
    return x if not x <= 0 else numba.float32(0)


def kernel_text(arrays: int, offsets: int, loads: list[tuple[str, Load]], body: list[str],
                stores: list[tuple[Load, str]], indices: dict[int, int]) -> str:  # fmt: skip
    """The source of a kernel. Loads come before stores: a store may overwrite what the same element was read from."""
    names = [f"a{k}" for k in range(arrays)] + [f"i{k}" for k in sorted(set(indices.values()))]
    names += [f"o{k}" for k in range(offsets)]
    lines = [f"def kernel(n, w, {', '.join(names)}):", "    zero = numba.float32(0)", "    one = numba.float32(1)"]
    lines += ["    for r in range(n):"]
    rows: dict[tuple[Any, ...], str] = {}

    def element(load: Load) -> str:
        h = "0" if load.narrow else "h"
        if load.vector:
            return f"a{load.array}[{h}]"
        key = (load.array, load.row, load.column, load.rest, load.indexed, load.narrow)
        if key not in rows:
            rows[key] = f"x{len(rows)}"
            at = f"i{indices[load.array]}[o{load.row} + r]" if load.indexed else f"o{load.row} + r"
            low = " + ".join(filter(None, [f"{load.column} * w" if load.column else "", str(load.rest or "")])) or "0"
            span = "1" if load.narrow else "w"
            lines.append(f"        {rows[key]} = a{load.array}[{at}, {low} : {low} + {span}]")
        return f"{rows[key]}[{h}]"

    given = [f"            {name} = {element(load)}" for name, load in loads]
    written = [f"            {element(load)} = {name}" for load, name in stores]
    lines += ["        for h in range(w):", *given, *(f"            {line}" for line in body), *written]
    return "\n".join(lines) + "\n"


@lru_cache(maxsize=4096)
def compiled(text: str) -> Callable[..., None]:
    """The kernel of a text, compiled at its first call, or loaded from disk where an earlier process compiled it."""
    source = (
        "import numba\n\nfrom bale.batching.cells.pointwise import OPTIONS, relu, sigmoid, tanh\n\n\n"
        f"@numba.njit(cache=True, **OPTIONS)\n{text}"
    )
    try:
        return module_of(source, _own_source(), cache_folder()).kernel
    except OSError:  # nothing can be kept: numba caches next to a function's file
        scope: dict[str, Any] = {"numba": numba, "tanh": tanh, "sigmoid": sigmoid, "relu": relu}
        exec(compile(text, "<bale kernel>", "exec"), scope)
        return numba.njit(scope["kernel"], **OPTIONS)  # pyright: ignore[reportReturnType]


@lru_cache(maxsize=1)
def _own_source() -> str:
    """What kernels inline is part of them: a change here must not find what was compiled before."""
    return Path(__file__).read_text(encoding="utf-8") + numba.__version__


def formula(target: Any, operands: Sequence[str]) -> str:
    return FORMULAS[target].format(*operands)


def constant(number: float) -> str:
    if isinstance(number, float) and not math.isfinite(number):
        return "(zero / zero)" if math.isnan(number) else "(one / zero)" if number > 0 else "(-one / zero)"
    return f"numba.float32({operator.index(number) if isinstance(number, int) else float(number)!r})"


COMPILED = frozenset({torch.float32, torch.float64, torch.int64})


class Numba(Kernels):
    """Loops over arrays, on the CPU."""

    by_threads = True

    def array(self, tensor: torch.Tensor) -> Any:
        return tensor.numpy() if tensor.device.type == "cpu" and tensor.dtype in COMPILED else None

    def indices(self, arrays: Sequence[np.ndarray], device: torch.device) -> list[Any]:
        return list(arrays)

    def on(self, device: torch.device) -> AbstractContextManager[Any]:
        return nullcontext()

    def formula(self, target: Any, operands: Sequence[str]) -> str:
        return formula(target, operands)

    def constant(self, number: float) -> str:
        return constant(number)

    def text(self, *parts: Any) -> str:
        return kernel_text(*parts)

    def compiled(self, text: str) -> Kernel:
        return compiled(text)


NUMBA = Numba()
