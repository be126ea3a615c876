"""What is stored in place of a weight, and what comes of it? Numbers, some of them left out, on a grid, in a layout."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from bale.compress.fourier import fft_conv2d, fft_linear
from bale.compress.layout import BlockCirculant, Dense, Layout, Pieces
from bale.compress.powers import PowerOfTwoQuantizer, rebuilt
from bale.compress.quantizer import UniformQuantizer

_FOURIER_TYPES = (torch.float32, torch.float64)  # torch has no transforms of half types on CPUs


class UnsuitableError(Exception):
    """A weight that a method leaves as it is; the message says why, and becomes part of the report."""


class Code(nn.Module):
    """weight = layout(quantizer(values, where they are kept) @ basis); calling it returns the weight.

    values     the numbers that are trained, in the shape that the layout says
    mask       bool, where numbers are kept; None: everywhere
    signs      int8, the sign that a kept number must have, 0: it is left out; None: any. Others count as 0
    quantizer  rounds what is kept; None: it is as it is
    basis      of each piece, by which its rows are multiplied (SmartDeal); None: by none. Rounded to 8 bits where used
    """

    mask: Tensor | None
    signs: Tensor | None
    basis: nn.Parameter | None

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.layout: Layout = Dense(tuple(weight.shape))
        self.values = weight
        self.register_buffer("mask", None)
        self.register_buffer("signs", None)
        self.quantizer: UniformQuantizer | PowerOfTwoQuantizer | None = None
        self.register_parameter("basis", None)

    def forward(self) -> Tensor:
        numbers = self.numbers()
        return self.layout.expand(numbers if self.basis is None else rebuilt(numbers, self.basis))

    def numbers(self) -> Tensor:
        """The numbers that the layout is made of."""
        kept = self.kept_values()
        return kept if self.quantizer is None else self.quantizer(kept)

    def kept_values(self) -> Tensor:
        """The values, those left out as 0."""
        values = self.values
        if self.mask is not None:
            values = torch.where(self.mask, values, 0.0)
        return values if self.signs is None else self.signs * functional.relu(self.signs * values)

    @torch.no_grad()
    def become(self, layout: Layout) -> None:
        """Store the weight in another layout: that whose weight is nearest."""
        self.check_not_decomposed()
        values = layout.project(self()).contiguous()
        self.layout = layout
        self.values = nn.Parameter(values, self.values.requires_grad)

    @torch.no_grad()
    def keep_only(self, mask: Tensor) -> None:
        """Leave out, for good, what `mask` does not keep."""
        self.check_not_decomposed()
        self.mask = mask if self.mask is None else self.mask & mask

    @torch.no_grad()
    def keep_signs(self, signs: Tensor) -> None:
        """Leave out what has sign 0 here, and hold every other number to its sign."""
        self.signs = signs.to(torch.int8)
        self.keep_only(signs != 0)

    @torch.no_grad()
    def decompose(self, layout: Pieces, coefficients: Tensor, basis: Tensor, quantizer: PowerOfTwoQuantizer) -> None:
        """Store the weight as coefficients [pieces, rows, S] times bases [pieces, S, S]; zeros stay zeros."""
        was = self.values
        self.layout = layout
        self.values = nn.Parameter(coefficients.to(was), was.requires_grad)
        self.basis = nn.Parameter(basis.to(was), was.requires_grad)
        self.mask = self.values != 0
        self.quantizer = quantizer.to(was.device).train(self.training)

    def check_not_decomposed(self) -> None:
        """Raise UnsuitableError where the numbers are coefficients, which mean nothing without their bases."""
        if self.basis is not None:
            raise UnsuitableError("is decomposed by smartdeal already; no other method stacks on that")

    def check_not_quantized(self) -> None:
        """Raise UnsuitableError where numbers are rounded already: from another grid they would be others again."""
        self.check_not_decomposed()
        if self.quantizer is not None:
            raise UnsuitableError(f"is quantised to {self.quantizer.bits} bits already; quantisation comes last")

    @torch.no_grad()
    def quantize(self, bits: int) -> None:
        """Round what is kept to `bits` bits, a scale for each channel."""
        self.check_not_quantized()
        quantizer = UniformQuantizer(self.kept_values(), bits)
        self.quantizer = quantizer.train(self.training).requires_grad_(self.values.requires_grad)

    @torch.no_grad()
    def baked(self) -> nn.Parameter:
        """The weight written out."""
        moves = self.values.requires_grad or (self.basis is not None and self.basis.requires_grad)
        return nn.Parameter(self().clone(), moves)

    @property
    def changed(self) -> bool:
        """Is anything else stored than the weight?"""
        return not isinstance(self.layout, Dense) or self.mask is not None or self.quantizer is not None

    @property
    def kept(self) -> int:
        """How many numbers are stored: where some are left out, those that are not 0."""
        return self.values.numel() if self.mask is None else int(self.numbers().count_nonzero())

    @property
    def bits(self) -> int:
        """Of a number."""
        return 8 * self.values.element_size() if self.quantizer is None else self.quantizer.bits

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the product with one vector, as it is made; numbers left out need none."""
        if self.basis is not None:
            return int(self().count_nonzero())  # the weight is written out
        if not isinstance(self.layout, BlockCirculant):
            return self.kept
        return self.layout.fft_macs if self.by_fourier() else prod(self.layout.weight_shape)

    def by_fourier(self) -> bool:
        """Are products with it made by Fourier transforms?"""
        return isinstance(self.layout, BlockCirculant) and self.layout.fft and self.values.dtype in _FOURIER_TYPES

    def linear(self, vectors: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply vectors [..., inputs] by the weight and add the bias [outputs]."""
        layout = self.layout
        if not self.by_fourier() or not vectors.numel():  # torch's transforms refuse to be none at all
            return functional.linear(vectors, self(), bias)
        assert isinstance(layout, BlockCirculant)
        y = fft_linear(layout, self.numbers(), self._as_values(vectors))
        return y if bias is None else y + bias

    def conv2d(self, maps: Tensor, module: nn.Conv2d) -> Tensor:
        """Convolve maps [samples, channels, height, width] as `module`, of one group and padded with zeros, does."""
        layout = self.layout
        assert isinstance(layout, BlockCirculant)
        y = fft_conv2d(
            layout,
            self.numbers(),
            self._as_values(maps),
            module.kernel_size,
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
        )
        return y if module.bias is None else y + module.bias[:, None, None]

    def _as_values(self, given: Tensor) -> Tensor:
        """Under autocast layers before this one return half types, which a dense layer would have taken, too."""
        same = given.dtype == self.values.dtype
        return given if same or not torch.is_autocast_enabled(given.device.type) else given.to(self.values.dtype)

    def extra_repr(self) -> str:
        kept = "" if self.mask is None else f", {self.kept} kept"
        return f"{self.layout}{kept}"
