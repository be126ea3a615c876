"""Which modules are matrices, how do their vectors come about, and what becomes of the products?

A layer's matrix is `weight.flatten(1).T` (section 0): rows ordered (channel, kernel row, kernel column), a column an
output. A convolution's vectors are its windows, one for each output position; an LSTM or GRU has a matrix for its
inputs and one for its states in each layer and direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bale.errors import MappingError

# (name of a matrix, vectors [vectors, groups * rows]) -> [vectors, groups * outputs]
Product = Callable[[str, Tensor], Tensor]
Plane = tuple[int, int]

_WINDOWS = 1 << 24  # numbers of a convolution's windows that are there at a time


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix for crossbars: `weight` [groups, rows, outputs], each group with inputs and outputs of its own.

    `taps`: rows that belong to one input, those of a convolution's kernel. `parts`: consecutive outputs that are of one
    kind, the gates of an LSTM or GRU.
    """

    name: str
    layer: str
    weight: Tensor
    taps: int = 1
    parts: int = 1

    @property
    def groups(self) -> int:
        return self.weight.shape[0]

    @property
    def rows(self) -> int:
        return self.weight.shape[1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[2]

    @property
    def width(self) -> int:
        """Outputs of all groups."""
        return self.groups * self.outputs

    @property
    def inputs(self) -> int:
        """Inputs of all groups: of a convolution its channels."""
        return self.groups * self.rows // self.taps


@dataclass(frozen=True, eq=False)
class Use:
    """A matrix multiplied by the vectors of one sample, in one call of its layer.

    `last_input[p]`: the last place of the input's plane, row after row, that output position p needs. `after`: which of
    the layer's uses make the input; none: it is the layer's own, or, with `of_state`, the state that it was given.
    `in_turn`: a position waits for the one so many before it; 0: for none. `in_order`: positions come in the plane's
    order. `gates`: what the layer itself computes of a position's outputs: sigmoids and tanhs, and
    the results of sums and products.
    """

    matrix: str
    plane: Plane
    input_plane: Plane
    last_input: np.ndarray
    after: tuple[int, ...] = ()
    of_state: bool = False
    in_turn: int = 0
    in_order: bool = True
    gates: tuple[int, int] = (0, 0)

    @property
    def positions(self) -> int:
        return self.plane[0] * self.plane[1]


@dataclass(frozen=True)
class Kind:
    """How one kind of module is a matrix."""

    matrices: Callable[[str, Any], list[Matrix]]
    uses: Callable[[str, Any, Sequence[int]], list[Use]]
    run: Callable[..., Any]
    functions: tuple[str, ...] = ("forward",)  # what a subclass must not have changed


def kind_of(module: nn.Module) -> Kind | None:
    """How a module is laid on crossbars; None for what is digital, such as a module with a forward of its own.

    A class that says `matches_plain` computes, whatever its forward, what the plain one does with the weights it shows.
    """
    if "forward" in vars(module) or getattr(module, "proj_size", 0):
        return None
    own = type(module)
    for base, kind in _KINDS.items():
        plain = getattr(own, "matches_plain", False) or all(getattr(own, f) is getattr(base, f) for f in kind.functions)
        if isinstance(module, base) and plain:
            return kind
    return None


# Linear: the last axis is a vector.


def _linear_matrices(name: str, module: nn.Linear) -> list[Matrix]:
    return [Matrix(name, name, module.weight.detach().T.unsqueeze(0))]


def _linear_uses(name: str, module: nn.Linear, shape: Sequence[int]) -> list[Use]:
    vectors = int(np.prod(shape[:-1], dtype=np.int64))
    return [Use(name, (1, vectors), (1, vectors), np.arange(vectors))]


def _run_linear(name: str, module: nn.Linear, product: Product, input: Tensor) -> Tensor:
    y = product(name, input.reshape(-1, module.in_features)).reshape(*input.shape[:-1], module.out_features)
    return y if module.bias is None else y + module.bias


# Convolutions: windows are vectors.


def _conv_matrices(name: str, module: nn.Conv2d) -> list[Matrix]:
    weight = module.weight.detach().flatten(1)  # [groups * outputs, rows]
    taps = int(np.prod(module.kernel_size))
    return [Matrix(name, name, weight.unflatten(0, (module.groups, -1)).transpose(1, 2), taps)]


def _conv_uses(name: str, module: nn.Conv2d, shape: Sequence[int]) -> list[Use]:
    sizes = _two(shape[-len(module.kernel_size) :], 1)
    kernel, stride, dilation = (_two(v, 1) for v in (module.kernel_size, module.stride, module.dilation))
    before, after = _padding(module)
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    plane = tuple(
        (size + low + high - far - 1) // step + 1
        for size, low, high, far, step in zip(sizes, before, after, reach, stride, strict=True)
    )
    # Of each output position the last row and column of its window, as far as they are not padding.
    row, column = (
        np.clip(np.arange(many) * step + far - low, 0, size - 1)
        for many, step, far, low, size in zip(plane, stride, reach, before, sizes, strict=True)
    )
    last = (row[:, None] * sizes[1] + column[None, :]).reshape(-1)
    # A sample may be several images, such as the frames of a film: one plane under the other.
    axes = len(module.kernel_size)
    images = shape[0] if len(shape) == axes + 2 else 1
    last = (np.arange(images)[:, None] * sizes[0] * sizes[1] + last).reshape(-1)
    return [Use(name, (images * plane[0], plane[1]), (images * sizes[0], sizes[1]), last)]


def _run_conv(name: str, module: nn.Conv2d, product: Product, input: Tensor) -> Tensor:
    flat = len(module.kernel_size) == 1
    batched = input.dim() == len(module.kernel_size) + 2
    x = input if batched else input.unsqueeze(0)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = functional.pad(x, module._reversed_padding_repeated_twice, mode)
    x = x.unsqueeze(2) if flat else x  # [samples, channels, height, width]
    kernel, dilation = _two(module.kernel_size, 1), _two(module.dilation, 1)
    plane = _plane(module, x)
    rows = x.shape[1] * kernel[0] * kernel[1]
    some = max(1, _WINDOWS // (rows * plane[0] * plane[1]))  # samples whose windows are there at a time
    parts = []
    for part in x.split(some):
        windows = functional.unfold(part, kernel, dilation=dilation, stride=_two(module.stride, 1))
        y = product(name, windows.transpose(1, 2).reshape(-1, rows))  # [samples * positions, outputs]
        parts.append(y.unflatten(0, (len(part), -1)).transpose(1, 2).unflatten(2, plane))
    # As torch's convolution lays it out: what adds up over positions later on, such as a mean, goes by that order.
    y = torch.cat(parts).contiguous(memory_format=_layout(input))
    y = y if module.bias is None else y + module.bias[:, None, None]
    y = y.squeeze(2) if flat else y
    return y if batched else y.squeeze(0)


def _layout(x: Tensor) -> torch.memory_format:
    last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _plane(module: nn.Conv2d, x: Tensor) -> tuple[int, int]:
    """The size of the output, of a padded input [samples, channels, height, width]."""
    kernel, stride, dilation = (_two(v, 1) for v in (module.kernel_size, module.stride, module.dilation))
    height, width = ((x.shape[2 + i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    return height, width


def _padding(module: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of padding before and after; the module has them from the last axis to the first."""
    pairs = module._reversed_padding_repeated_twice
    before, after = list(pairs[0::2])[::-1], list(pairs[1::2])[::-1]
    return _two(before, 0), _two(after, 0)


def _two(values: Sequence[int], fill: int) -> tuple[int, int]:
    """Of one axis two, the first of size `fill`."""
    first, second = [fill] * (2 - len(values)) + [int(value) for value in values]
    return first, second


# LSTM and GRU: a vector for each step.


def _recurrent_matrices(name: str, module: nn.LSTM | nn.GRU) -> list[Matrix]:
    return [
        Matrix(f"{name}.{weight}", name, getattr(module, weight).detach().T.unsqueeze(0), parts=_parts(module))
        for pair in _weight_names(module)
        for weight in pair
    ]


def _recurrent_uses(name: str, module: nn.LSTM | nn.GRU, shape: Sequence[int]) -> list[Use]:
    steps, series = shape[0], 1
    if len(shape) == 3:
        steps, series = (shape[1], shape[0]) if module.batch_first else (shape[0], shape[1])
    # All series take a step, then all the next; the plane's order is that of the tensor.
    in_order = series == 1 or not module.batch_first
    plane, order = (1, steps * series), np.arange(steps * series)
    at = order if in_order else order.reshape(series, steps).T.reshape(-1)
    uses: list[Use] = []
    below: tuple[int, ...] = ()
    for layer in range(module.num_layers):
        made = []
        for direction in range(1 + module.bidirectional):
            of_input, of_state = (
                f"{name}.{weight}" for weight in _weight_names(module)[layer * (1 + module.bidirectional) + direction]
            )
            forwards = in_order and not direction
            needs = at[::-1] if direction else at
            uses.append(Use(of_input, plane, plane, needs, below, in_order=forwards))
            mine = (len(uses) - 1,)
            gates = _gates(module, module.hidden_size)
            uses.append(Use(of_state, plane, plane, order, mine, in_turn=series, in_order=forwards, gates=gates))
            made.append(len(uses) - 1)
        below = tuple(made)
    return uses


def _run_recurrent(
    name: str, module: nn.LSTM | nn.GRU, product: Product, input: Any, hx: Any = None
) -> tuple[Tensor, Any]:
    if not isinstance(input, Tensor):
        raise MappingError(f"{name}: takes a {type(input).__name__}; give tensors, samples of one length at a time")
    batched = input.dim() == 3
    x = input if batched else input.unsqueeze(1 - module.batch_first)
    x = x.transpose(0, 1) if module.batch_first else x  # [steps, samples, features]
    firsts = _first_states(module, x, hx, batched)
    lasts: list[tuple[Tensor, ...]] = []
    names = _weight_names(module)
    for layer in range(module.num_layers):
        sides = []
        for direction in range(1 + module.bidirectional):
            index = layer * (1 + module.bidirectional) + direction
            steps = x.flip(0) if direction else x
            outputs, last = _steps(name, module, product, names[index], steps, tuple(first[index] for first in firsts))
            sides.append(outputs.flip(0) if direction else outputs)
            lasts.append(last)
        x = torch.cat(sides, -1)
    states = tuple(torch.stack(part) for part in zip(*lasts, strict=True))
    out = x.transpose(0, 1) if module.batch_first else x
    if not batched:
        out, states = out.squeeze(1 - module.batch_first), tuple(state.squeeze(1) for state in states)
    return out, states if isinstance(module, nn.LSTM) else states[0]


def _first_states(module: nn.LSTM | nn.GRU, x: Tensor, given: Any, batched: bool) -> tuple[Tensor, ...]:
    """States before the first step, each [layers * directions, samples, hidden]."""
    many = 2 if isinstance(module, nn.LSTM) else 1
    if given is None:
        layers = module.num_layers * (1 + module.bidirectional)
        return (x.new_zeros(layers, x.shape[1], module.hidden_size),) * many
    given = tuple(given) if isinstance(given, tuple | list) else (given,)
    return given if batched else tuple(state.unsqueeze(1) for state in given)


def _steps(
    name: str,
    module: nn.LSTM | nn.GRU,
    product: Product,
    weights: tuple[str, str],
    x: Tensor,
    state: tuple[Tensor, ...],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction."""
    of_input = product(f"{name}.{weights[0]}", x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1)
    biases = [getattr(module, weight.replace("weight", "bias")) if module.bias else 0 for weight in weights]
    cell = _lstm_step if isinstance(module, nn.LSTM) else _gru_step
    outputs = []
    for step in of_input + biases[0]:
        state = cell(step, product(f"{name}.{weights[1]}", state[0]) + biases[1], state)
        outputs.append(state[0])
    return torch.stack(outputs), state


def _lstm_step(of_input: Tensor, of_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (of_input + of_state).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_step(of_input: Tensor, of_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    input_r, input_z, input_n = of_input.chunk(3, -1)
    state_r, state_z, state_n = of_state.chunk(3, -1)
    n = torch.tanh(input_n + torch.sigmoid(input_r + state_r) * state_n)
    z = torch.sigmoid(input_z + state_z)
    return ((1 - z) * n + z * state[0],)


def _gates(module: nn.Module, hidden: int) -> tuple[int, int]:
    """What a step computes of its matrices' outputs: sigmoids and tanhs, and results of their sums and products.

    LSTM: three and two, and f c, i g, their sum, o tanh(c). GRU: two and one, and r n, its sum, 1 - z, two products,
    a sum.
    """
    activations, others = (5, 4) if isinstance(module, nn.LSTM | nn.LSTMCell) else (3, 6)
    return activations * hidden, others * hidden


def _parts(module: nn.Module) -> int:
    """Gates, of which each has outputs of its own."""
    return 4 if isinstance(module, nn.LSTM | nn.LSTMCell) else 3


def _weight_names(module: nn.LSTM | nn.GRU) -> list[tuple[str, str]]:
    """The parameters of inputs and of states, layer after layer, the backward direction second."""
    ends = ["", "_reverse"] if module.bidirectional else [""]
    return [
        (f"weight_ih_l{layer}{end}", f"weight_hh_l{layer}{end}") for layer in range(module.num_layers) for end in ends
    ]


# Cells: one step, of which the caller is in charge.


def _cell_matrices(name: str, module: nn.LSTMCell | nn.GRUCell) -> list[Matrix]:
    return [
        Matrix(f"{name}.{weight}", name, getattr(module, weight).detach().T.unsqueeze(0), parts=_parts(module))
        for weight in ("weight_ih", "weight_hh")
    ]


def _cell_uses(name: str, module: nn.LSTMCell | nn.GRUCell, shape: Sequence[int]) -> list[Use]:
    vectors = shape[0] if len(shape) == 2 else 1
    plane, order = (1, vectors), np.arange(vectors)
    gates = _gates(module, module.hidden_size)
    return [
        Use(f"{name}.weight_ih", plane, plane, order),
        Use(f"{name}.weight_hh", plane, plane, order, of_state=True, gates=gates),
    ]


def _run_cell(name: str, module: nn.LSTMCell | nn.GRUCell, product: Product, input: Tensor, hx: Any = None) -> Any:
    many = 2 if isinstance(module, nn.LSTMCell) else 1
    before = input.shape[:-1]
    states = (input.new_zeros(*before, module.hidden_size),) * many if hx is None else hx
    states = tuple(states) if isinstance(states, tuple | list) else (states,)
    of_input = product(f"{name}.weight_ih", input.reshape(-1, module.input_size)).reshape(*before, -1)
    of_state = product(f"{name}.weight_hh", states[0].reshape(-1, module.hidden_size)).reshape(*before, -1)
    if module.bias:
        of_input, of_state = of_input + module.bias_ih, of_state + module.bias_hh
    new = (_lstm_step if many == 2 else _gru_step)(of_input, of_state, states)
    return new if many == 2 else new[0]


_RECURRENT = Kind(_recurrent_matrices, _recurrent_uses, _run_recurrent)
_CELL = Kind(_cell_matrices, _cell_uses, _run_cell)
_CONV = Kind(_conv_matrices, _conv_uses, _run_conv, ("forward", "_conv_forward"))
_KINDS: dict[type[nn.Module], Kind] = {
    nn.Linear: Kind(_linear_matrices, _linear_uses, _run_linear),
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.LSTM: _RECURRENT,
    nn.GRU: _RECURRENT,
    nn.LSTMCell: _CELL,
    nn.GRUCell: _CELL,
}
