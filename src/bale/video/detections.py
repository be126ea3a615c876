"""What was found on a frame?"""

from __future__ import annotations

from dataclasses import dataclass

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
