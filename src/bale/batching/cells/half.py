"""Half: products of float32 rows and weights in bfloat16, summed in float32.

Rows and weights are rounded to 8 significant bits, their products summed in float32 by the library, and each sum is
rounded once more. So an element of a product is off by at most (2^-7 + 2^-16) of the sum of its terms' magnitudes, plus
2^-8 of itself, plus float32's own rounding. Everything but products stays in float32.
"""

from __future__ import annotations

import torch


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """In bfloat16; a transposed view stays one."""
    return tensor.to(torch.bfloat16)


def mm(rows: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """out = rows @ weight. `out` is float32; what is bfloat16 already is not rounded again."""
    return out.copy_(torch.mm(rounded(rows), rounded(weight)))


def addmm(start: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """out = start + rows @ weight, the sum in float32; `out` may be `start`."""
    return torch.add(torch.mm(rounded(rows), rounded(weight)), start, out=out)


def whole_mm(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """left @ right over the rows of all batches, as float32."""
    return torch.mm(rounded(left), rounded(right)).float()
