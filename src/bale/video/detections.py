"""What was found on a frame?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes of one frame, best first.

    boxes   float32 [boxes, 4]: left, top, right, bottom; pixels of the frame, right and bottom beyond the last pixel
    scores  float32 [boxes], 0 to 1, falling
    labels  int64 [boxes]: which class, from 0
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    @staticmethod
    def none() -> Detections:
        """No boxes."""
        return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return intersection over union of each of `boxes` with each of `others`: float64 [boxes, others]."""
    first, second = boxes.astype(np.float64)[:, None], others.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(sides, 0, None).prod(2)  # [boxes, others]
    union = (first[..., 2:] - first[..., :2]).prod(2) + (second[..., 2:] - second[..., :2]).prod(2) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
