"""How is a model run without a trace of it: in evaluation mode, without gradients, and then as it was?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch
from torch import nn

_LOCK = RLock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let all of a model be in evaluation mode, without gradients, while the block runs; then each part as it was.

    torch's fast path of attention is off meanwhile, which takes the weights of layers that it does not call, and so is
    autocast. Other threads wait: two simulations of one model would take each other's layers for the model's own.
    """
    with _LOCK:
        training = [module for module in model.modules() if module.training]
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            for module in training:
                module.training = False
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)
            for module in training:
                module.training = True
