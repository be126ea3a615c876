"""Backend: what runs a captured cell? Products, elementwise kernels, and when which of their forms is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from bale.batching.cells import half, triton_kernels
from bale.batching.cells.kernels import Kernel, Kernels
from bale.batching.cells.pointwise import NUMBA
from bale.batching.cells.rule import Rule
from bale.batching.cells.shared import shared
from bale.batching.cells.triton_kernels import TRITON
from bale.errors import BaleError

BACKENDS = ("auto", "numba", "triton", "torch")
PRODUCTS = ("float32", "bfloat16")
HALF_TOLERANCE = 0.05  # of the largest magnitude, where batches with rounded products are compared with rows


@dataclass(frozen=True)
class Backend:
    """How captured cells run.

    name      "auto": the elementwise operations of float32 rows are kernels, compiled by numba on the CPU and, where it
              is installed, by Triton on CUDA; everything else is torch's. "numba", "triton": the same, and an error for
              cells on other devices; "torch": all is torch's
    products  "bfloat16": rows and weights of a kernel's products are rounded (see half.py) where the rule says it pays
    """

    name: str = "auto"
    products: str = "float32"
    rule: Rule = field(default_factory=Rule)

    def __post_init__(self) -> None:
        if self.name == "triton" and not triton_kernels.is_installed():
            raise BaleError("backend='triton' needs the package triton, which is not installed; use 'auto'")

    def kernels(self, device: torch.device) -> Kernels:
        """What compiles loops over rows of tensors there; NUMBA also where nothing does, and takes no tensor then."""
        if self.name == "triton":
            if device.type != "cuda" and not triton_kernels.interprets():
                raise BaleError(
                    f"backend='triton' runs on CUDA, and there are values on {device}; use 'auto', or, to try "
                    "kernels on the CPU, Triton's interpreter: TRITON_INTERPRET=1 in the environment"
                )
            return TRITON
        by_triton = self.name == "auto" and device.type == "cuda" and triton_kernels.is_installed()
        return TRITON if by_triton else NUMBA

    def compiles(self, device: torch.device) -> bool:
        """Are elementwise operations kernels there?"""
        return self.name != "torch" and (device.type == "cpu" or self.kernels(device) is TRITON)

    # What the code of a cell calls.

    def pack(self, weight: torch.Tensor, batches: int) -> torch.Tensor:
        """The transpose of a weight, copied where enough batches profit from rows that lie one after another."""
        pays = batches >= self.rule.packed_from and weight.numel() <= self.rule.packed_up_to
        return weight.t().contiguous() if pays and not self._halves(weight.numel()) else weight.t()

    def weight(self, weight: Any) -> Any:
        """A weight, or None, as products of this call read it."""
        if weight is None or weight.dtype is not torch.float32 or not self._halves(weight.numel()):
            return weight
        return half.rounded(weight)

    def mm(self, rows: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """`weight` as `self.weight` gives it."""
        return (half.mm if weight.dtype is torch.bfloat16 else torch.mm)(rows, weight, out=out)

    def addmm(self, start: Any, rows: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return (half.addmm if weight.dtype is torch.bfloat16 else torch.addmm)(start, rows, weight, out=out)

    def whole_mm(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The product of the rows of all batches that is a weight's gradient."""
        rounds = left.dtype is torch.float32 and self._halves(left.shape[0] * right.shape[1])
        return half.whole_mm(left, right) if rounds else torch.mm(left, right)

    def kernel(self, kernel: Kernel, offsets: int) -> Kernel:
        return shared(kernel, offsets, self.rule.shared_from)

    @property
    def tolerance(self) -> float | None:
        """Of comparisons with rows; None for that of their dtype."""
        return HALF_TOLERANCE if self.products == "bfloat16" else None

    def _halves(self, numbers: int) -> bool:
        return self.products == "bfloat16" and numbers >= self.rule.half_from

    @property
    def calls(self) -> tuple[Callable[..., Any], ...]:
        """mm, addmm and whole_mm: torch's own where nothing is rounded."""
        return (
            (self.mm, self.addmm, self.whole_mm) if self.products == "bfloat16" else (torch.mm, torch.addmm, torch.mm)
        )
