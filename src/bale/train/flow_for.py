"""How does flow learn what a detector needs of it? Through the detector, on the features that it carried.

Published: Deep Feature Flow (DFF; Zhu et al., CVPR 2017) trains a flow network that knows synthetic scenes, its scale
map, and the detector together, by the detector's loss on a frame whose features come from a random key near by. Ours:
the detector stays as it is, so that it serves as it did, and its features of a key are computed once; and carried
features are also asked to resemble the frame's own, which tells something where nothing is marked, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import inf
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from bale.errors import VideoError
from bale.train.detector import check_truth
from bale.train.flow_loop import check_numbers, learn
from bale.train.resumable import TrainingStep
from bale.train.tensor_bytes import short_digest
from bale.video.detectors.centre_point import CentrePointDetector, CentreTargets, centre_loss, targets
from bale.video.flow.flownet import FlowNetS, pair
from bale.video.flow.learned import as_flow, check_scale, prepared
from bale.video.images import image_tensor
from bale.video.propagate import propagate

_LONGEST_GRADIENT = 10.0  # of all parameters together; single pairs may be far off


def tune_flow_for(
    detector: CentrePointDetector,
    network: FlowNetS,
    images: Sequence[np.ndarray],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    steps: int,
    seed: int = 0,
    lr: float = 3e-4,
    reach: int = 10,
    scale: float = 1 / 2,
    alike: float = 1.0,
    on_step: Callable[[TrainingStep], None] | None = None,
    save: str | PathLike[str] | None = None,
    save_every: int = 200,
    data: str = "",
) -> float:
    """Train a `network` that knows flow further, for carrying the features of `detector`; return the mean loss.

    A step is one pair of frames, at most `reach` apart, either of them the key.

    Args:
        detector: trained, and on the CPU as the network is; it stays as it is.
        network: one that follows things already, as `tune_flow` leaves it; from scenes alone it is a long way. Where it
            has a scale map, that learns, too.
        images: frames in a row, all of one size, uint8 [height, width, 3]; a sequence may read them when asked. What
            the detector makes of each is kept in half precision once it was needed: 221 MB for 500 frames of
            768 x 576 and `Lite0Detector`.
        boxes, labels: as of `fine_tune`.
        reach: frames from one to the other, at most.
        scale: of `FlowNetFlow`, as the network will see frames.
        alike: how much it counts that carried features differ from the frame's own, as a share of those.
        data: what the frames are, for the checkpoint to tell runs apart.

    The others, and what is repeatable: as of `train_flow`. Raises VideoError for numbers out of range, frames of
    several sizes or fewer than two, boxes and labels that do not fit, and a loss that is not finite; CheckpointError as
    `train_flow` does.
    """
    check_numbers(steps=steps, seed=seed, batch_size=1, save_every=save_every, lr=lr)
    check_scale(scale)
    check_truth(len(images), boxes, labels, len(detector.names))
    if reach < 1 or len(images) < 2:
        raise VideoError(f"expected at least two frames and a reach of 1 or more, got {len(images)} and {reach}")
    if not 0 <= alike < inf:
        raise VideoError(f"alike must be at least 0 and finite, got {alike}")
    facts = {"reach": reach, "scale": scale, "alike": alike, "frames": len(images), "data": data}
    facts |= {"begins from": short_digest(network.state_dict()), "detector": short_digest(detector.state_dict())}
    carried = _Carried(detector, network, images, boxes, labels, scale)

    def loss_of(step: int) -> Tensor:
        current, key = _pair(len(images), reach, np.random.default_rng((seed, step)))
        return carried.loss(current, key, alike)

    with _frozen(detector):
        return learn(
            network,
            loss_of,
            facts,
            steps=steps,
            seed=seed,
            lr=lr,
            on_step=on_step,
            save=save,
            save_every=save_every,
            longest_gradient=_LONGEST_GRADIENT,
        )


@contextmanager
def _frozen(detector: CentrePointDetector) -> Iterator[None]:
    """Within, the detector's parameters take no gradients."""
    taking = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    try:
        for parameter in taking:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in taking:
            parameter.requires_grad_(True)


def _pair(frames: int, reach: int, random: np.random.Generator) -> tuple[int, int]:
    """Return two different frames, at most `reach` apart."""
    current = int(random.integers(frames))
    first, last = max(0, current - reach), min(frames - 1, current + reach)
    key = first + int(random.integers(last - first))
    return current, key + (key >= current)


class _Carried:
    """Frames, and what the detector makes and should make of each, computed when first asked for."""

    def __init__(
        self,
        detector: CentrePointDetector,
        network: FlowNetS,
        images: Sequence[np.ndarray],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor],
        scale: float,
    ) -> None:
        self._detector, self._network, self._scale = detector, network, scale
        self._images, self._boxes, self._labels = images, boxes, labels
        self._features, self._targets = cache(self._compute_features), cache(self._compute_targets)

    def loss(self, current: int, key: int, alike: float) -> Tensor:
        """Return that of the frame `current` with the features of `key`."""
        here, there = (prepared(self._image(index), self._scale) for index in (current, key))
        if here.frame != there.frame:
            raise VideoError(f"frames {current} and {key} differ in size: all must be of one")
        inputs = pair(here.image, there.image).contiguous(memory_format=torch.channels_last)
        field, scale_map = self._network(inputs)
        carried = propagate(self._features(key).float(), as_flow(field, scale_map, here.seen, here.frame), here.frame)
        found = centre_loss(self._detector.points(carried), self._targets(current))
        own = self._features(current).float()
        return found + alike * (carried - own).abs().mean() / own.abs().mean().clamp(min=1e-12)

    def _image(self, index: int) -> Tensor:
        return image_tensor(self._images[index], self._detector.multiple)

    @torch.no_grad()
    def _compute_features(self, index: int) -> Tensor:
        return self._detector.features(self._image(index)).half()

    def _compute_targets(self, index: int) -> CentreTargets:
        rows, columns = self._features(index).shape[-2:]
        frame = [self._boxes[index]], [self._labels[index]]
        return targets(*frame, len(self._detector.names), self._detector.stride, (rows, columns))
