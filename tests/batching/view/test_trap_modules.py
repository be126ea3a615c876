"""Traps: modules of torch whose batched form is easy to get wrong."""

import pytest
import torch
from same import assert_same
from small import WIDTH, UseModel, vectors
from torch import nn


def linear() -> nn.Linear:
    return nn.Linear(WIDTH, WIDTH)


# Modules of torch on values of one sample.

ON_A_VECTOR = {
    "LayerNorm": lambda: nn.LayerNorm(WIDTH),
    "RMSNorm": lambda: nn.RMSNorm(WIDTH),
    "Softmax": lambda: nn.Softmax(-1),
    "Softmax over the first axis": lambda: nn.Softmax(0),
    "LogSoftmax(0)": lambda: nn.LogSoftmax(0),
    "PReLU": lambda: nn.PReLU(),
    "PReLU per channel": lambda: Shaped(nn.PReLU(WIDTH), (1, WIDTH)),
    "GELU": lambda: nn.GELU(),
    "GLU": lambda: nn.Sequential(nn.Linear(WIDTH, 4), nn.GLU()),
    "Dropout in eval": lambda: nn.Dropout(0.5).eval(),
    "Identity": lambda: nn.Identity(),
    "Flatten": lambda: nn.Flatten(0),
    "Unflatten": lambda: nn.Unflatten(0, (1, WIDTH)),
    "Sequential": lambda: nn.Sequential(linear(), nn.Tanh(), nn.Linear(WIDTH, 2)),
    "Bilinear with itself": lambda: TwiceBilinear(),
    "Threshold": lambda: nn.Threshold(0.1, 0.5),
    "Hardtanh": lambda: nn.Hardtanh(),
    "Upsample": lambda: Shaped(nn.Upsample(scale_factor=2), (1, 1, WIDTH)),
    "TransformerEncoderLayer": lambda: Shaped(nn.TransformerEncoderLayer(WIDTH, 1, 4, dropout=0.0), (1, WIDTH)),
    "Transformer in eval": lambda: Shaped(nn.TransformerEncoderLayer(WIDTH, 1, 4).eval(), (1, WIDTH)),
}


class TwiceBilinear(nn.Bilinear):
    def __init__(self):
        super().__init__(WIDTH, WIDTH, 2)

    def forward(self, x):
        return super().forward(x, x)


class Shaped(nn.Module):
    """A module on its argument in another shape."""

    def __init__(self, module, shape):
        super().__init__()
        self.module, self.shape = module, shape

    def forward(self, x):
        return self.module(x.view(self.shape))


@pytest.mark.parametrize("make", [pytest.param(f, id=name) for name, f in ON_A_VECTOR.items()])
def test_a_module_on_a_vector(make):
    assert_same(UseModel(lambda m, x: m.part(m.cell(x)), cell=linear(), part=make()), vectors(4))


CONVOLUTIONS = {
    "Conv1d [C, L]": (lambda: nn.Conv1d(2, 3, 2), (2, 5)),
    "Conv1d [1, C, L]": (lambda: nn.Conv1d(2, 3, 2), (1, 2, 5)),
    "Conv2d [C, H, W]": (lambda: nn.Conv2d(2, 3, 2, padding=1), (2, 3, 4)),
    "Conv2d [1, C, H, W]": (lambda: nn.Conv2d(2, 4, 2, groups=2), (1, 2, 3, 4)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 2, stride=2), (2, 3, 3)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 4, 4)),
    "AvgPool1d": (lambda: nn.AvgPool1d(2), (2, 4)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), (2, 4, 3)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (1, 4, 3)),
    "InstanceNorm1d": (lambda: nn.InstanceNorm1d(2), (2, 5)),
    "InstanceNorm1d [1, C, L]": (lambda: nn.InstanceNorm1d(2, affine=True), (1, 2, 5)),
    "BatchNorm2d in eval": (lambda: nn.BatchNorm2d(2).eval(), (1, 2, 3, 3)),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), (1, 4, 3)),
    "LayerNorm over two axes": (lambda: nn.LayerNorm((2, 5)), (2, 5)),
    "Conv, norm, pool": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        (1, 2, 5, 5),
    ),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (4, 3, 2)),
    "Fold of Unfold": (lambda: nn.Unfold(2), (1, 2, 3, 3)),
}


@pytest.mark.parametrize(("make", "shape"), [pytest.param(*v, id=name) for name, v in CONVOLUTIONS.items()])
@pytest.mark.parametrize("computed", [False, True], ids=["constant", "value"])
def test_convolutions_pools_and_norms(make, shape, computed):
    def use(model, x):
        return model.part(x * model.scale if computed else x)

    xs = [torch.randn(shape, requires_grad=True) for _ in range(4)]
    assert_same(UseModel(use, part=make(), scale=nn.Parameter(torch.tensor(0.7))), xs)


@pytest.mark.parametrize("shapes", [[(2, 4), (2, 5), (2, 6), (2, 4)], [(1, 2, 4), (1, 2, 7)]])
def test_convolutions_over_sequences_of_any_length(shapes):
    xs = [torch.randn(shape, requires_grad=True) for shape in shapes]
    assert_same(UseModel(lambda m, x: m.conv(x).sum(-1), conv=nn.Conv1d(2, 3, 2)), xs)
