"""How does a frame look with what was found on it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from bale.video.detections import Detections
from bale.video.optional import imported

# Red, green, blue; Okabe and Ito's palette, which people with any colour vision can tell apart.
COLOURS = {"key": (213, 94, 0), "carried": (86, 180, 233)}
_TEXT_HEIGHT = 11  # pixels of a capital on a frame of 480 rows; it grows with larger ones


def draw_boxes(
    image: np.ndarray,
    detections: Detections,
    kind: Literal["key", "carried"] = "key",
    labels: Sequence[str] | None = None,
) -> np.ndarray:
    """Return a copy of `image` (uint8 [height, width, 3], red, green, blue) with boxes and their scores.

    `kind` chooses the colour: found by the network on this frame, or carried to it. `labels` are names of classes.
    """
    cv2 = imported("cv2")
    drawn = np.ascontiguousarray(image).copy()
    scale = max(1.0, image.shape[0] / 480)
    line, colour = round(2 * scale), COLOURS[kind]
    size = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, round(_TEXT_HEIGHT * scale))
    numbers = zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True)
    for box, score, label in numbers:
        left, top, right, bottom = (round(each) for each in box)
        cv2.rectangle(drawn, (left, top), (right - 1, bottom - 1), colour, line)
        said = f"{labels[label]} {score:.2f}" if labels is not None else f"{score:.2f}"
        # Above the box; inside where there is no room above it.
        base = top - 2 * line if top > _TEXT_HEIGHT * scale + 2 * line else top + round(_TEXT_HEIGHT * scale) + 2 * line
        cv2.putText(drawn, said, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, colour, max(line // 2, 1), cv2.LINE_AA)
    return drawn
