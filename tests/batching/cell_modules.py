"""Modules of many kinds to be cells: what random_cells.py makes its list of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

WIDTH = 4


class Of(nn.Module):
    """A module whose forward is `function(self, ...)`, with parts of its own."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def linear(into: int = WIDTH, out: int = WIDTH, **options: Any) -> nn.Linear:
    return nn.Linear(into, out, **options)


def matrix(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*(shape or (WIDTH, WIDTH))) * 0.4)


# Modules that need a class of their own.


class Highway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.transform = linear(), linear()

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return gate * F.relu(self.transform(x)) + (1 - gate) * x


class Peephole(nn.Module):
    """An LSTM whose gates see the cell state; values are (h, c)."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = linear(2 * WIDTH, 4 * WIDTH)
        self.peep = matrix(3, WIDTH)

    def forward(self, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        (h, c), (x, below) = left, right
        i, f, g, o = self.gates(torch.cat([h, x], -1)).chunk(4, -1)
        new = torch.sigmoid(f + self.peep[0] * c) * c + torch.sigmoid(i + self.peep[1] * below) * torch.tanh(g)
        return torch.sigmoid(o + self.peep[2] * new) * torch.tanh(new), new


class TreeLSTM(nn.Module):
    """Tai et al., 2015, binary; values are (h, c)."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = linear(2 * WIDTH, 5 * WIDTH)

    def forward(self, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        i, o, g, a, b = self.gates(torch.cat([left[0], right[0]], -1)).split(WIDTH, -1)
        c = i.sigmoid() * g.tanh() + a.sigmoid() * left[1] + b.sigmoid() * right[1]
        return o.sigmoid() * c.tanh(), c


class TreeGRU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates, self.candidate = linear(2 * WIDTH, 3 * WIDTH), linear(2 * WIDTH)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        update, resets = torch.split(torch.sigmoid(self.gates(torch.cat((left, right), -1))), [WIDTH, 2 * WIDTH], -1)
        new = torch.tanh(self.candidate(resets * torch.cat((left, right), -1)))
        return update * (left + right) / 2 + (1 - update) * new


class MatrixVector(nn.Module):
    """MV-RNN (Socher et al., 2012): a value is a vector [H] and a matrix [H, H]."""

    def __init__(self) -> None:
        super().__init__()
        self.vector, self.matrix = linear(2 * WIDTH), matrix(WIDTH, 2 * WIDTH)

    def forward(self, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        (a, matrix_a), (b, matrix_b) = left, right
        vector = torch.tanh(self.vector(torch.cat([matrix_b @ a, matrix_a @ b])))
        return vector, self.matrix @ torch.cat([matrix_a, matrix_b], 0)


class Products(nn.Module):
    """Values are matrices [H, H]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = matrix()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.tanh(left @ self.weight @ right.T) + left


class Planes(nn.Module):
    """Values are [C, L] = [2, 5]; a convolution along L."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 2, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.relu(self.conv(torch.cat([left, right], 0))) + left


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2)
        self.query = matrix(1, WIDTH)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        slots = torch.stack([left, right, self.query[0]])
        return self.attention(self.query, slots, slots, need_weights=False)[0][0]


class Constants(nn.Module):
    """What its attributes say is part of what it computes."""

    share = 0.25

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.order, self.kind = 1.5, (2, 0, 3, 1), "tanh"
        self.table = torch.linspace(0, 1, WIDTH)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        moved = torch.stack([left[k] for k in self.order])
        return self.scale * getattr(torch, self.kind)(moved + self.share * right) + self.table


class Unregistered(nn.Module):
    """A Parameter that `parameters()` does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["hidden"] = matrix()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.tanh(self.hidden @ left + right)


class TwoNames(nn.Module):
    """One module under two names, and one Parameter in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other = linear(), linear()
        self.second = self.first
        self.other.weight = self.first.weight

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.tanh(self.first(left) + F.linear(right, self.second.weight) + self.other(left * right))


class Bound(NamedTuple):
    value: Tensor
    gate: Tensor


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad * (x.abs() < 1.5)


class ClippedGradient(torch.autograd.Function):
    """Its gradient for two readers is not the sum of that for each: what is computed twice may not run once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad.clamp(-0.3, 0.3)


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


def symmetric() -> nn.Module:
    layer = linear()
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def watched() -> nn.Module:
    layer = linear()
    layer.register_full_backward_hook(lambda module, into, out: tuple(g.clamp(-0.3, 0.3) for g in into))
    return layer


def frozen(module: nn.Module, *names: str) -> nn.Module:
    for name, parameter in module.named_parameters():
        if not names or name in names:
            parameter.requires_grad_(False)
    return module


def used_norm() -> nn.Module:
    """A BatchNorm with statistics of its own."""
    norm = nn.BatchNorm1d(2)  # over six numbers each: the gradient of two normalised numbers is mostly rounding
    norm.running_mean, norm.running_var = torch.randn(2), torch.rand(2) + 0.5
    return Of(lambda m, x: m.norm(torch.outer(x, m.w).view(1, 2, 6)).view(4, 3).mean(1), norm=norm, w=matrix(3))


# Functions of cells, `m` the module.


def in_place(m: Any, a: Tensor, b: Tensor) -> Tensor:
    h = m.linear(a)
    h.mul_(2).add_(b)
    h.sigmoid_()
    return h


def fills_a_new_tensor(m: Any, a: Tensor, b: Tensor) -> Tensor:
    out = torch.zeros_like(a)
    out[:2] = m.linear(a)[2:]
    out[2:] += b[:2]
    return out


def partly_without_gradient(m: Any, a: Tensor, b: Tensor) -> Tensor:
    with torch.no_grad():
        share = torch.softmax(m.share(a), -1)
    return share * m.linear(b) + a


def clipped_by_a_hook(m: Any, a: Tensor, b: Tensor) -> Tensor:
    h = m.linear(a)
    if h.requires_grad:
        h.register_hook(lambda grad: grad.clamp(-0.3, 0.3))
    return h * b


def tensor_network(m: Any, a: Tensor, b: Tensor) -> Tensor:
    return torch.tanh(m.bilinear(a, b) + m.linear(torch.cat([a, b])))


def dot_attention(m: Any, a: Tensor, b: Tensor) -> Tensor:
    slots = torch.stack([a, b])
    return torch.softmax(slots @ m.linear(a), 0) @ slots


def fused_attention(m: Any, a: Tensor, b: Tensor) -> Tensor:
    q, k, v = m.linear(torch.stack([a, b])).view(2, 3, 2, 2).permute(1, 2, 0, 3).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).flatten(1).sum(1).repeat(2)


def recomputed(m: Any, a: Tensor, b: Tensor) -> Any:
    return checkpoint(lambda x, y: torch.tanh(m.linear(x) + y), a, b, use_reentrant=False)


def maxout(m: Any, a: Tensor) -> Tensor:
    return m.linear(a).view(2, WIDTH).max(0).values


def autocast_left(m: Any, a: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return m.linear(a.to(m.linear.weight.dtype)).tanh()


def two_layers(m: Any, x: Tensor) -> Tensor:
    for layer in m.layers:
        x = x + torch.tanh(layer(x))
    return x


def static_argument(m: Any, a: Tensor, b: Tensor, flip: bool = False, power: int = 1) -> Tensor:
    return m.linear(a - b if flip else b - a) / (1 + a.abs()) ** power


class Noisy(nn.Module):
    """A random cell that returns what it drew, so that the loop can be given the same."""

    def __init__(self, draw: nn.Module) -> None:
        super().__init__()
        self.linear, self.draw = linear(), draw

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        mask = self.draw(torch.ones_like(left))
        return torch.tanh(self.linear(left * mask) + right), mask
