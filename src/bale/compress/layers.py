"""Layers whose weights are computed from codes: the same classes, attributes and calls, another way to be stored.

A layer becomes one in place, by its class, so that references, hooks and names stay. (torch's parametrizations do the
same with classes made on the fly; they cannot be pickled, an LSTM would go on with its old weights, and no product is
made without the weight.) `matches_plain` tells whoever reads layers that a forward of its own computes what the plain
class would with the weights that it shows.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bale.compress.code import Code
from bale.errors import CompressionError


class Compressed(nn.Module):
    """A layer with a code for each of its weights."""

    plain: ClassVar[type[nn.Module]]
    matches_plain: ClassVar[bool] = True
    codes: nn.ModuleDict

    def code(self, weight: str) -> Code:
        """The code of a weight."""
        code = self.codes[weight]
        assert isinstance(code, Code)
        return code

    def takes_fourier(self) -> bool:
        """Can it multiply by transforms of what is stored, without the weight written out?"""
        return False

    def reset_parameters(self) -> None:
        """Refuse what would write into a weight that is computed."""
        raise CompressionError("a compressed layer has no weights to draw anew; bale.bake_ the model first")

    def __setattr__(self, name: str, value: Any) -> None:
        codes = self.__dict__.get("_modules", {}).get("codes")
        if codes is not None and name in codes:
            raise CompressionError(f"{name}: is computed from what is stored compressed; bale.bake_ the model first")
        super().__setattr__(name, value)


def _computed(weight: str) -> property:
    def read(self: Compressed) -> Tensor:
        return self.code(weight)()

    return property(read)


class CompressedLinear(Compressed, nn.Linear):
    plain = nn.Linear
    weight = _computed("weight")  # pyright: ignore[reportAssignmentType]

    def takes_fourier(self) -> bool:
        return True

    def forward(self, input: Tensor) -> Tensor:
        return self.code("weight").linear(input, self.bias)


class CompressedConv1d(Compressed, nn.Conv1d):
    plain = nn.Conv1d
    weight = _computed("weight")  # pyright: ignore[reportAssignmentType]


class CompressedConv2d(Compressed, nn.Conv2d):
    plain = nn.Conv2d
    weight = _computed("weight")  # pyright: ignore[reportAssignmentType]

    def takes_fourier(self) -> bool:
        return self.groups == 1 and self.padding_mode == "zeros"

    def forward(self, input: Tensor) -> Tensor:
        code = self.code("weight")
        if code.by_fourier() and input.dim() == 4 and input.numel():
            return code.conv2d(input, self)
        return super().forward(input)


class _CompressedCell(Compressed):
    weight_ih = _computed("weight_ih")
    weight_hh = _computed("weight_hh")

    def takes_fourier(self) -> bool:
        return True

    def by_fourier(self) -> bool:
        return self.code("weight_ih").by_fourier() or self.code("weight_hh").by_fourier()

    def gates(self, input: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The products of the input and of the state, biases added."""
        bias_ih, bias_hh = (self.bias_ih, self.bias_hh) if self.bias else (None, None)
        of_input = self.code("weight_ih").linear(input, bias_ih)  # pyright: ignore[reportArgumentType]
        return of_input, self.code("weight_hh").linear(state, bias_hh)  # pyright: ignore[reportArgumentType]


class CompressedLSTMCell(_CompressedCell, nn.LSTMCell):
    plain = nn.LSTMCell

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        if not self.by_fourier():
            return super().forward(input, hx)
        zeros = input.new_zeros(*input.shape[:-1], self.hidden_size)
        h, c = (zeros, zeros) if hx is None else hx
        of_input, of_state = self.gates(input, h)
        i, f, g, o = (of_input + of_state).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class CompressedGRUCell(_CompressedCell, nn.GRUCell):
    plain = nn.GRUCell

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if not self.by_fourier():
            return super().forward(input, hx)
        h = input.new_zeros(*input.shape[:-1], self.hidden_size) if hx is None else hx
        of_input, of_state = self.gates(input, h)
        input_r, input_z, input_n = of_input.chunk(3, -1)
        state_r, state_z, state_n = of_state.chunk(3, -1)
        n = torch.tanh(input_n + torch.sigmoid(input_r + state_r) * state_n)
        z = torch.sigmoid(input_z + state_z)
        return (1 - z) * n + z * h


class _CompressedRecurrent(Compressed):
    """Weights have names by layer and direction; they are written out once a call, for all steps."""

    def __getattr__(self, name: str) -> Any:
        codes = self.__dict__.get("_modules", {}).get("codes")
        return codes[name]() if codes is not None and name in codes else super().__getattr__(name)

    @property
    def _flat_weights(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: list[Tensor]) -> None:
        pass  # torch writes here what it has just read

    def _replicate_for_data_parallel(self) -> Any:
        return nn.Module._replicate_for_data_parallel(self)  # an LSTM's own copies the list of its weights

    def flatten_parameters(self) -> None:
        """Weights that are computed anew in each call have no memory of their own to be laid out in."""


class CompressedLSTM(_CompressedRecurrent, nn.LSTM):
    plain = nn.LSTM


class CompressedGRU(_CompressedRecurrent, nn.GRU):
    plain = nn.GRU


_CLASSES: dict[type[nn.Module], type[Compressed]] = {
    kind.plain: kind
    for kind in (
        CompressedLinear,
        CompressedConv1d,
        CompressedConv2d,
        CompressedLSTMCell,
        CompressedGRUCell,
        CompressedLSTM,
        CompressedGRU,
    )
}
KINDS = tuple(_CLASSES)


def weight_names(module: nn.Module) -> tuple[str, ...]:
    """The weights of a layer, plain or compressed, that can be compressed."""
    if isinstance(module, nn.LSTM | nn.GRU):
        return tuple(name for name in module._flat_weights_names if name.startswith("weight_"))
    return ("weight_ih", "weight_hh") if isinstance(module, nn.LSTMCell | nn.GRUCell) else ("weight",)


def parts_of(module: nn.Module) -> int:
    """In how many parts a layer's weights are seen (`Shape`)."""
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.groups
    return 4 if isinstance(module, nn.LSTM | nn.LSTMCell) else 3 if isinstance(module, nn.GRU | nn.GRUCell) else 1


def attach_(module: nn.Module) -> Compressed:
    """Let a plain layer have codes, which store its weights as they are; one that has codes keeps them."""
    if isinstance(module, Compressed):
        return module
    assert type(module) in _CLASSES
    names = weight_names(module)
    codes = nn.ModuleDict({name: Code(getattr(module, name)) for name in names})
    codes.train(module.training)
    for name in names:
        module._parameters[name] = None  # keeps its place among the others
    module.__dict__.pop("_flat_weights", None)
    module.__class__ = _CLASSES[type(module)]
    module.codes = codes
    assert isinstance(module, Compressed)
    return module


def detach_(module: Compressed) -> None:
    """Let a layer be plain again, with the weights that its codes mean; those stored as they are stay the same."""
    codes = {name: module.code(name) for name in module.codes}
    del module.codes
    module.__class__ = module.plain  # pyright: ignore[reportAttributeAccessIssue]
    for name, code in codes.items():
        module._parameters[name] = code.baked() if code.changed else code.values
    if isinstance(module, nn.LSTM | nn.GRU):
        module._init_flat_weights()
