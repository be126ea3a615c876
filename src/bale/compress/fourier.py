"""How is a block-circulant weight multiplied without being written out? By Fourier transforms of its blocks.

A circulant block times a vector is a cyclic convolution: a_i = sum over j of ifft(fft(w_ij) * fft(x_j)) (CirCNN, Ding
et al., MICRO 2017), here with the real transforms, which hold k / 2 + 1 of the k frequencies.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bale.compress.layout import BlockCirculant

# Measured on one thread of an x86 server, forward and backward: below, the transforms and their many small products
# cost more than they save, whether there are 64 vectors or 1024, and in convolutions as in full layers.
LEAST_BLOCK = 8
LEAST_NUMBERS = 1 << 20  # outputs x inputs x taps x k


def fft_pays(layout: BlockCirculant) -> bool:
    """Are transforms the faster way, by the size of a layer?"""
    shape, k = layout.shape, layout.block
    return k >= LEAST_BLOCK and prod(shape.weight) * k >= LEAST_NUMBERS


def fft_linear(layout: BlockCirculant, values: Tensor, vectors: Tensor) -> Tensor:
    """Multiply vectors [..., inputs] by the weight of one tap that `values` mean; return [..., parts * outputs].

    All parts read the same inputs.
    """
    shape, k = layout.shape, layout.block
    rows = vectors.reshape(-1, shape.inputs)
    rows = functional.pad(rows, (0, layout.block_columns * k - shape.inputs))
    x = torch.fft.rfft(rows.view(-1, layout.block_columns, k)).permute(2, 0, 1)  # [frequencies, rows, block columns]
    w = values.reshape(-1, layout.block_columns, k)  # [parts * block rows, block columns, k]
    w = torch.fft.rfft(w.permute(2, 0, 1), dim=0)  # [frequencies, parts * block rows, block columns]
    y = torch.bmm(x, w.transpose(1, 2)).permute(1, 2, 0)  # [rows, parts * block rows, frequencies]
    y = torch.fft.irfft(y, n=k).reshape(rows.shape[0], shape.parts, layout.block_rows * k)
    return y[..., : shape.outputs].reshape(*vectors.shape[:-1], shape.weight[0])


def fft_conv2d(layout: BlockCirculant, values: Tensor, maps: Tensor, kernel: tuple[int, ...], **steps: Any) -> Tensor:
    """Convolve maps [samples, inputs, height, width], without a bias; `steps` are torch's stride, padding, dilation.

    A frequency is a group of a real convolution, whose maps are the real and the imaginary parts.
    """
    shape, k, frequencies = layout.shape, layout.block, layout.block // 2 + 1
    many, _, height, width = maps.shape
    p, q = layout.block_rows, layout.block_columns
    x = functional.pad(maps, (0, 0, 0, 0, 0, q * k - shape.inputs)).view(many, q, k, height, width)
    x = torch.view_as_real(torch.fft.rfft(x, dim=2))  # [samples, q, frequencies, height, width, 2]
    x = x.permute(0, 2, 5, 1, 3, 4).reshape(many, frequencies * 2 * q, height, width)
    w = torch.fft.rfft(layout.blocks(values)[0]).permute(3, 0, 1, 2)  # [frequencies, p, q, taps]
    real, imaginary = w.real, w.imag
    w = torch.cat((torch.cat((real, -imaginary), 2), torch.cat((imaginary, real), 2)), 1)  # [frequencies, 2p, 2q, taps]
    w = w.reshape(frequencies * 2 * p, 2 * q, *kernel)
    y = functional.conv2d(x, w, groups=frequencies, **steps).to(x.dtype)  # autocast makes it a half type
    y = y.view(many, frequencies, 2, p, *y.shape[2:])
    y = torch.complex(y[:, :, 0], y[:, :, 1])  # [samples, frequencies, p, height, width]
    y = torch.fft.irfft(y, n=k, dim=1).transpose(1, 2).reshape(many, p * k, *y.shape[3:])
    return y[:, : shape.outputs]
