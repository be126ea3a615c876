"""Which models do the tests of compression compress, and how?"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bale.compress import (
    ADCAwareConfig,
    BlockCirculantConfig,
    Config,
    MagnitudeConfig,
    SmartDealConfig,
    StructuredConfig,
    UniformQuantConfig,
)

Model = Callable[[], nn.Module]


def convolutional() -> nn.Module:
    """Convolutions, batch norms and full layers; the last one is small."""
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 10),
        nn.ReLU(),
        nn.Linear(10, 3),
    )


class Tagger(nn.Module):
    """An embedding, an LSTM in both directions, a GRU, cells of both kinds and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.lstm = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(10, 6, batch_first=True)
        self.lstm_cell, self.gru_cell = nn.LSTMCell(6, 5), nn.GRUCell(5, 7, bias=False)
        self.spread = nn.Conv1d(7, 6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, words: Tensor) -> Tensor:
        x = self.gru(self.lstm(self.embed(words))[0])[0][:, -1]
        return self.head(self.spread(self.gru_cell(self.lstm_cell(x)[0])[..., None])[..., 0])


def images() -> Tensor:
    return torch.randn(5, 2, 4, 4)


def words() -> Tensor:
    return torch.randint(11, (5, 4))


def rows() -> Tensor:
    return torch.randn(5, 9)


MODELS: dict[str, tuple[Model, Callable[[], Tensor]]] = {
    "convolutional": (convolutional, images),
    "tagger": (Tagger, words),
    "a layer": (lambda: nn.Linear(9, 6), rows),
}

STACKS: dict[str, tuple[Config, ...]] = {
    "circulant, direct": (BlockCirculantConfig(3, "direct"),),
    "circulant, fft": (BlockCirculantConfig(4, "fft"),),
    "adc-aware": (ADCAwareConfig(adc_bits=2, rows=7, cell_bits=1, weight_bits=5),),
    "magnitude": (MagnitudeConfig(0.3, None),),
    "magnitude, 4 bits": (MagnitudeConfig(0.5, 4),),
    "uniform": (UniformQuantConfig(3),),
    "circulant, uniform": (BlockCirculantConfig(4, "direct"), UniformQuantConfig(8)),
    "circulant, magnitude": (BlockCirculantConfig(2, "fft"), MagnitudeConfig(0.5, 4)),
    "magnitude, uniform": (MagnitudeConfig(0.5, None), UniformQuantConfig(4)),
    "smartdeal": (SmartDealConfig(0.02),),
    "smartdeal, nearest, 4 bits": (SmartDealConfig(bits=4, choice="nearest", vectors=0.4, rows=8),),
    "structured, adc-aware": (StructuredConfig(0.7), ADCAwareConfig(adc_bits=3, rows=16)),
}

CASES = [
    (model, stack) for model in MODELS for stack in STACKS if model == "convolutional" or "structured" not in stack
]
