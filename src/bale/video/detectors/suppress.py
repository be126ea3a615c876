"""Which of several boxes around one object is told?"""

from __future__ import annotations

import torch
from torch import Tensor

from bale.video.detections import Detections


def suppress(found: Detections, overlap: float) -> Detections:
    """Return the best of each group of boxes: one is left out where a better one that stays overlaps it so much.

    Greedy non-maximum suppression, within each class; `overlap` is intersection over union, at least. Best first.
    """
    order = found.scores.argsort(descending=True, stable=True)
    boxes, labels = found.boxes[order], found.labels[order]
    same = (pairwise_overlap(boxes, boxes) >= overlap) & (labels[:, None] == labels[None, :])
    kept: list[int] = []
    left = torch.ones(len(order), dtype=torch.bool)
    for each in range(len(order)):
        if left[each]:
            kept.append(each)
            left &= ~same[each]
    chosen = order[kept]
    return Detections(found.boxes[chosen], found.scores[chosen], found.labels[chosen])


def pairwise_overlap(one: Tensor, other: Tensor) -> Tensor:
    """Return intersection over union [m, n] of boxes [m, 4] and [n, 4]; 0 for a box without area."""
    near = torch.maximum(one[:, None, :2], other[None, :, :2])
    far = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    both = (far - near).clamp(min=0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) for boxes in (one, other)]
    return both / (areas[0][:, None] + areas[1][None, :] - both).clamp(min=1e-9)
