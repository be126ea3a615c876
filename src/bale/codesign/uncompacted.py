"""Where in the dense network does a compacted one lie? Its numbers at the places that they had, and 0 elsewhere.

So a network that structured pruning has made smaller lies on the same tiles as the dense one, at the same places.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from bale.compress.compact import remove_outputs_
from bale.compress.consumers import find_groups
from bale.compress.structured import By, prune_
from bale.errors import CompressionError


@torch.no_grad()
def uncompacted(dense: nn.Module, compact: nn.Module, keep: float, by: By = "filters") -> nn.Module:
    """The network `compact` in the shapes of the network `dense`, of which `prune_(dense, keep, by)` made it.

    It computes the same results, but for the order of sums: outputs that were removed are 0, and nobody reads them.

    Args:
        dense: as it was before it was pruned: its weights tell again which outputs stayed. It stays as it is.
        compact: with plain layers; its weights may have been trained since, or quantised.

    Raises `CompressionError`, which names the tensor, where `compact` has other shapes, and what `prune_` raises.
    """
    places, dense_state, state = _places(dense, keep, by), dense.state_dict(), compact.state_dict()
    found: dict[str, Tensor] = {}
    for name, tensor in dense_state.items():
        there, given = places[name], state.get(name)
        if given is None or given.shape != there.shape:
            shape = "is missing" if given is None else f"has shape {list(given.shape)}"
            raise CompressionError(
                f"{name}: {shape}, and keep={keep} by {by} of the dense network leaves {list(there.shape)}; give the "
                "dense network as it was pruned, and the keep that it was pruned by"
            )
        found[name] = torch.zeros_like(tensor)
        found[name].view(-1)[there.reshape(-1)] = given.reshape(-1).to(tensor)
    whole = copy.deepcopy(dense)
    whole.load_state_dict(found)
    return whole


def _places(dense: nn.Module, keep: float, by: By) -> dict[str, Tensor]:
    """Of each tensor of the compacted network, int64 of its shape: which number of the dense tensor each one was.

    Numbers that say their own places are cut as the network was: what is left says what stayed.
    """
    kept = prune_(copy.deepcopy(dense), keep, by).kept
    numbered = copy.deepcopy(dense).double()
    for tensor in numbered.state_dict().values():
        tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape))
    for name, group in find_groups(numbered).groups.items():
        remove_outputs_(numbered, group, torch.tensor(kept[name].indices))
    return {name: tensor.long() for name, tensor in numbered.state_dict().items()}
