"""Which weights of a pruned network need no number to be sent? Of outputs that nobody reads, or that never change."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bale.compress import all_weights, bake_
from bale.compress.consumers import find_groups


@torch.no_grad()
def without_idle(model: nn.Module) -> nn.Module:
    """A copy without weights for which nothing need be sent: to count messages by, not to compute with.

    Its layers are plain. An output that nobody reads need not be computed. One that has no weights is the same for all
    samples, known to its readers before, and is not sent. What goes may leave others idle in turn. Outputs are those of
    which torch.fx finds the readers (`bale.compress.consumers`): of residual blocks the inner convolutions'.

    Raises `BaleError` where torch.fx cannot trace the model.
    """
    found = bake_(copy.deepcopy(model))  # plain layers, whose weights can be written
    weights = all_weights(found)
    groups = {
        name: group
        for name, group in find_groups(found).groups.items()
        if all(each in weights for each in (name, *(consumer.name for consumer in group.consumers)))
    }
    left = -1
    while left != (left := sum(int(weight.count_nonzero()) for weight in weights.values())):
        for name, group in groups.items():
            own, readers = weights[name], [(weights[each.name], each.positions) for each in group.consumers]
            read = torch.stack([_inputs_read(weight).view(-1, many).any(1) for weight, many in readers]).any(0)
            own[~read] = 0
            still = ~(own != 0).flatten(1).any(1)
            for weight, many in readers:
                weight[:, still.repeat_interleave(many)] = 0
    return found


def _inputs_read(weight: Tensor) -> Tensor:
    """bool [inputs]: has an input a weight?"""
    return (weight != 0).transpose(0, 1).flatten(1).any(1)
