"""What does a model compute on one sample? Its matrices, their uses, who feeds whom, and what stays digital."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bale.errors import MappingError
from bale.hardware.call import Call, Digital
from bale.hardware.evaluating import evaluating
from bale.hardware.layers import Matrix
from bale.hardware.recorder import Recorder


@dataclass(frozen=True, eq=False)
class Network:
    """A model as it ran on one sample: matrices by name, calls, digital operations, numbers that come and leave."""

    matrices: dict[str, Matrix]
    calls: tuple[Call, ...]
    digital: tuple[Digital, ...]
    inputs: int
    outputs: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all matrices for one sample."""
        return sum(self.matrices[call.matrix].weight.numel() * call.positions for call in self.calls)


def read_network(model: nn.Module, sample: tuple[Any, ...]) -> Network:
    """Run `model(*sample)`, of one sample, as it is, and write down what its matrices do.

    Raises `MappingError` where no module is a matrix, and, with the parameter's name, for weights that are no numbers.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise MappingError(f"{name}: has numbers that are NaN or infinite")
    recorder = Recorder({module: name or type(model).__name__ for name, module in model.named_modules()})
    with evaluating(model), recorder.hooked(model), recorder:
        result = model(*sample)
    if not recorder.matrices:
        raise MappingError(
            f"{type(model).__name__}: nothing of it is a matrix for crossbars; "
            "Linear, Conv1d, Conv2d, LSTM, GRU, LSTMCell and GRUCell are, where a forward calls them as modules"
        )
    return Network(
        recorder.matrices, tuple(recorder.calls), recorder.digital(), inputs=_numbers(sample), outputs=_numbers(result)
    )


def _numbers(values: Any) -> int:
    return sum(leaf.numel() for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
