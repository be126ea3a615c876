"""How far is a predicted flow from the true one, and what does FlowNet learn from?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bale.video.flow.flownet import UNIT

# Of the sum of a level's errors, finest first, as FlowNet's authors weigh them; read in a port's code. A level has a
# quarter of the places of the one before, so that the mean error of the finest counts four times the coarsest's.
WEIGHTS = (0.005, 0.01, 0.02, 0.08, 0.32)


def multiscale_loss(flows: Sequence[Tensor], target: Tensor, counts: Tensor | None = None) -> Tensor:
    """Return FlowNet's loss, in units of 20 pixels: endpoint errors summed over places, times the level's weight,
    divided by the places of the finest level.

    flows   of `FlowNetS.pyramid`
    target  float32 [pairs, 2, height, width]; each level is compared with its mean over the places' areas. Hidden
            places count too, as in the published training: they have a flow, which their surroundings tell
    counts  float32 [pairs, height, width], 0 or more: by how much each place counts; None: all by 1
    """
    total = target.new_zeros(())
    for flow, weight in zip(flows, WEIGHTS, strict=True):
        if counts is None:
            goal, amount = interpolate(target, flow.shape[2:], mode="area"), 1.0
        else:
            amount = interpolate(counts[:, None], flow.shape[2:], mode="area")
            goal = interpolate(target * counts[:, None], flow.shape[2:], mode="area") / amount.clamp(min=1e-6)
            amount = amount[:, 0]
        total = total + weight * (torch.linalg.vector_norm(flow - goal, dim=1) * amount).sum()
    return total / (UNIT * flows[0][:, 0].numel())


def endpoint_error(flow: Tensor, target: Tensor, valid: Tensor | None = None) -> float:
    """Return the mean distance between a flow [n, 2, rows, columns], on any grid, and the true one, in its pixels.

    target  float32 [n, 2, height, width], in pixels of this size, as `flow` is
    valid   bool [n, height, width]: which places count; None is all. NaN where none does
    """
    if flow.shape[2:] != target.shape[2:]:
        flow = interpolate(flow, target.shape[2:], mode="bilinear", align_corners=False)
    errors = torch.linalg.vector_norm(flow - target, dim=1)
    return float((errors if valid is None else errors[valid]).mean())
