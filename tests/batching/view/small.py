"""Small per-sample models and samples that most tests of the user's view share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

WIDTH = 3


def vectors(count: int, width: int = WIDTH, grad: bool = True, seed: int = 1) -> list[torch.Tensor]:
    """`count` vectors [width], by default with gradients of their own."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(width, generator=generator, dtype=torch.float64).requires_grad_(grad) for _ in range(count)]


def sequences(lengths: tuple[int, ...] = (2, 4, 1, 3), grad: bool = True, seed: int = 2) -> list[list[torch.Tensor]]:
    """Lists of vectors [WIDTH] whose length differs per sample."""
    return [vectors(n, grad=grad, seed=seed + k) for k, n in enumerate(lengths)]


def matrices(lengths: tuple[int, ...] = (2, 4, 1, 3), width: int = WIDTH, grad: bool = True) -> list[torch.Tensor]:
    """Tensors [length, width] whose length differs per sample."""
    return [
        torch.randn(n, width, generator=torch.Generator().manual_seed(k), dtype=torch.float64).requires_grad_(grad)
        for k, n in enumerate(lengths)
    ]


def trees() -> list[Any]:
    """Trees of nested tuples, vectors at the leaves; arities 0 to 3, depths 0 to 4."""
    a, b, c, d, e, f, g, h = vectors(8)
    return [a, (b, c), ((d, (e,)), f, (g, h)), (), ((((b,), a), c), ())]


class Tree(nn.Module):
    """A recursive network over nested tuples of vectors: two cells, sums over any number of children."""

    def __init__(self) -> None:
        super().__init__()
        self.leaf = nn.Linear(WIDTH, WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, tree: Any) -> torch.Tensor:
        if isinstance(tree, torch.Tensor):
            return torch.tanh(self.leaf(tree))
        children = [self(child) for child in tree]
        return torch.tanh(self.inner(sum(children) if children else torch.zeros(WIDTH, dtype=self.inner.weight.dtype)))


class Use(nn.Module):
    """`use(h, x)` where h is the (lazy) result of a cell on x, the sample."""

    def __init__(self, use: Callable[..., Any]):
        super().__init__()
        self.cell = nn.Linear(WIDTH, WIDTH)
        self.use = use

    def forward(self, x: Any) -> Any:
        return self.use(self.cell(x), x)


class UseList(nn.Module):
    """`use(hs, xs)` where hs are the (lazy) results of a cell on each of the vectors xs, the sample."""

    def __init__(self, use: Callable[..., Any]):
        super().__init__()
        self.cell = nn.Linear(WIDTH, WIDTH)
        self.use = use

    def forward(self, xs: Any) -> Any:
        return self.use([torch.tanh(self.cell(x)) for x in xs], xs)


class UseModel(nn.Module):
    """`use(model, sample)` with the modules and parameters in `parts` as attributes of the model."""

    def __init__(self, use: Callable[..., Any], **parts: Any):
        super().__init__()
        self.use = use
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, sample: Any, **kwargs: Any) -> Any:
        return self.use(self, sample, **kwargs)
