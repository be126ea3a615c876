"""Which of several boxes around one object is told?"""

from __future__ import annotations

import torch

from bale.video.detections import Detections, overlaps


def suppress(found: Detections, overlap: float) -> Detections:
    """Return the best of each group of boxes: one is left out where a better one that stays overlaps it so much.

    Greedy non-maximum suppression, within each class; `overlap` is intersection over union, at least. Best first.
    """
    order = found.scores.argsort(descending=True, stable=True)
    boxes, labels = found.boxes[order], found.labels[order]
    corners = boxes.numpy(force=True)
    near = torch.from_numpy(overlaps(corners, corners) >= overlap).to(labels.device)
    same = near & (labels[:, None] == labels[None, :])
    kept: list[int] = []
    left = torch.ones_like(labels, dtype=torch.bool)
    for each in range(len(order)):
        if left[each]:
            kept.append(each)
            left &= ~same[each]
    chosen = order[kept]
    return Detections(found.boxes[chosen], found.scores[chosen], found.labels[chosen])
