"""How does an LSTM run along a row, from one end or from both?"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def run(cell: nn.Module, row: Iterable[Tensor], h: Tensor, c: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Run `cell` along a row of inputs [width] from the state h, c [hidden]; return the state after each."""
    states: list[tuple[Tensor, Tensor]] = []
    for x in row:
        h, c = cell(x, (h, c))
        states.append((h, c))
    return states


def run_both_ways(
    forwards: Iterable[nn.Module], backwards: Iterable[nn.Module], row: Sequence[Tensor], zero: Tensor
) -> Tensor:
    """Run layer upon layer along a row of inputs [width], each layer from both ends with a cell of its own.

    `zero` [hidden] is h and c before the first input. Return for each input the last layer's h from the left and from
    the right, side by side [length, 2 * hidden].
    """
    states = zero  # there is at least one layer
    for forward, backward in zip(forwards, backwards, strict=True):
        from_left = torch.stack([h for h, _ in run(forward, row, zero, zero)])
        from_right = torch.stack([h for h, _ in run(backward, row[::-1], zero, zero)][::-1])
        states = torch.cat([from_left, from_right], -1)
        row = states.unbind()
    return states
