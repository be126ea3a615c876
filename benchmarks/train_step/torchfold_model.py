"""torchfold as it was: it predates torch 1.0 and names what is gone, so it is given a torch that still has it."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import torchfold.torchfold
from torch import Tensor
from torchfold import Fold


class TorchOfThen(ModuleType):
    """torch, but `torch.tensor` is the module that it was, with the base class of tensors, and not the function."""

    tensor = SimpleNamespace(_TensorBase=Tensor)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


torchfold.torchfold.torch = TorchOfThen("torch")
torchfold.torchfold.Variable = lambda data, volatile=False: data  # tensors and Variables are one now

__all__ = ["Fold"]
