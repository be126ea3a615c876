"""How does FlowNet-S compute flow only where a pair of frames changed?"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from bale.errors import VideoError
from bale.video.flow.estimator import Flow
from bale.video.flow.flownet import INPUT as PAIR
from bale.video.flow.flownet import SLOPE, UNIT, FlowNetS
from bale.video.flow.learned import Prepared, as_flow, check_scale, check_sizes, prepared
from bale.video.sparse.layer import INPUT, Layer
from bale.video.sparse.mask import BLOCK, dilate
from bale.video.sparse.network import SparseConfig, SparseNetwork, SparseStream, Work, compile_loops


@dataclass(frozen=True, eq=False)
class SparseFlowNetFlow:
    """`FlowNetFlow` that computes again only what `changed` asks for (SSI's use of sparse convolutions).

    With `SparseConfig(grow="exact")` its flow is that of `FlowNetFlow`, if `changed` covers all pixels that changed; a
    network that sees as far as FlowNet-S then computes most of itself. With "mask" it computes what lies under the mask
    and a margin, and is an approximation. Raises VideoError for a scale that is not above 0 and at most 1.

    A stream copies the network's weights when it computes its first pair.
    """

    network: FlowNetS
    scale: float = 1 / 2
    config: SparseConfig = field(default_factory=SparseConfig)

    def __post_init__(self) -> None:
        check_scale(self.scale)

    def start(self) -> SparseFlowNetStream:
        """Return a worker for one stream."""
        return SparseFlowNetStream(self.network, self.scale, self.config)


class SparseFlowNetStream:
    """`SparseFlowNetFlow` at work on one stream: it keeps every layer's output of the pair before."""

    def __init__(self, network: FlowNetS, scale: float, config: SparseConfig) -> None:
        compile_loops()
        self.scale, self.device = scale, next(network.parameters()).device
        self.layers = sparse_flownet(network, config)
        self._running: SparseStream | None = None
        self._frame: tuple[int, int] | None = None
        self._key: Prepared | None = None

    @property
    def work(self) -> Work | None:
        """What the last pair took; None before the first."""
        return None if self._running is None else self._running.work

    @torch.inference_mode()
    def prepare(self, image: Tensor) -> Prepared:
        """Return a frame [1, 3, height, width], 0 to 1, as the network takes it."""
        return prepared(image.to(self.device, torch.float32), self.scale)

    @torch.inference_mode()
    def flow(self, current: Prepared, key: Prepared, changed: np.ndarray | None) -> Flow:
        """Return the flow from `current` to `key`, computed again where `changed` says. VideoError for two sizes."""
        check_sizes(current.frame, key.frame)
        if self._running is None:
            rows, columns = current.image.shape[2:]
            self._running = self.layers.start((rows, columns), 6, BLOCK * Fraction(self.scale).limit_denominator(1024))
            self._frame = current.frame
        if current.frame != self._frame:
            raise VideoError(f"a pair of {current.frame}, after pairs of {self._frame}: start another stream")
        kept, self._key = self._key is key, None  # if this call fails the next one is given all again
        wanted = changed if changed is None or self._aligned(current) else dilate(changed, 1)
        values = self._running.run(current.image, None if kept else key.image, changed=wanted)
        self._key = key
        return as_flow(UNIT * values["flow2"], values.get("scale"), current.seen, current.frame)

    def _aligned(self, frame: Prepared) -> bool:
        """Whether blocks of the frame are blocks of what the network sees; or a pixel of it may see two of them."""
        whole = BLOCK * self.scale % 1 == 0 and 1 / self.scale % 1 == 0
        return whole and all(seen / self.scale == full for seen, full in zip(frame.seen, frame.frame, strict=True))


def sparse_flownet(network: FlowNetS, config: SparseConfig) -> SparseNetwork:
    """Return FlowNet-S as a sparse network: its outputs are "flow2", in units of `UNIT` pixels, and perhaps "scale"."""
    activation = partial(leaky_relu, negative_slope=SLOPE, inplace=True)
    layers = [
        Layer(
            step.name,
            tuple(INPUT if source == PAIR else source for source in step.sources),
            step.layer,
            activation if step.activated else None,
        )
        for step in network.steps
    ]
    outputs = ("flow2",) if network.scale_channels is None else ("flow2", "scale")
    return SparseNetwork(layers, outputs, config)
