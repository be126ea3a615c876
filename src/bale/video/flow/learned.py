"""How does a trained FlowNet-S serve a stream? On smaller images, each of them prepared once."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import reduce
from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from bale.errors import VideoError
from bale.video.flow.estimator import Flow
from bale.video.flow.flownet import MULTIPLE, STRIDE, FlowNetS, centred, pair


@dataclass(frozen=True, eq=False)
class FlowNetFlow:
    """Flow by a network that sees frames `scale` times as large as they are (1/2 is DFF's, read in code).

    The network is run without gradients, on the device of its parameters, and may serve any number of streams, each of
    which copies it, hooks included, as it is when the stream starts. Raises VideoError for a scale that is not above 0
    and at most 1, and when a stream starts, for a network that cannot be copied.

    >>> stream = FlowNetFlow(FlowNetS(width=1 / 64)).start()
    >>> frames = [stream.prepare(torch.rand(1, 3, 96, 160)) for _ in range(2)]
    >>> stream.flow(*frames, changed=None).field.shape
    torch.Size([1, 2, 12, 20])
    """

    network: FlowNetS
    scale: float = 1 / 2

    def __post_init__(self) -> None:
        check_scale(self.scale)

    def start(self) -> FlowNetStream:
        """Return a worker for one stream."""
        return FlowNetStream(self.network, self.scale)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame as the network takes it.

    image  float32 [1, 3, height, width], centred, repeated at the right and at the bottom up to multiples of 64
    seen   how much of it is the frame: height and width
    frame  height and width of the (padded) frame itself
    """

    image: Tensor
    seen: tuple[int, int]
    frame: tuple[int, int]


class FlowNetStream:
    """`FlowNetFlow` at work on one stream. It remembers nothing: each pair is a new one."""

    def __init__(self, network: FlowNetS, scale: float) -> None:
        try:
            own = copy.deepcopy(network)
        except RuntimeError as error:
            raise VideoError(f"the network of flow cannot be copied for a stream: {error}") from error
        # Weights and pairs in channels last: on a CPU the network then takes an eighth less time.
        self.network = own.to(memory_format=torch.channels_last)  # pyright: ignore
        self.scale = scale

    @torch.inference_mode()
    def prepare(self, image: Tensor) -> Prepared:
        """Return a frame [1, 3, height, width], 0 to 1, as the network takes it."""
        return prepared(image.to(next(self.network.parameters()).device, torch.float32), self.scale)

    @torch.inference_mode()
    def flow(self, current: Prepared, key: Prepared, changed: np.ndarray | None) -> Flow:
        """Return the flow from `current` to `key`; `changed` is ignored. Raises VideoError for two sizes."""
        check_sizes(current.frame, key.frame)
        images = pair(current.image, key.image).contiguous(memory_format=torch.channels_last)
        field, scale = self.network(images)
        return as_flow(field, scale, current.seen, current.frame)


def prepared(image: Tensor, scale: float) -> Prepared:
    """Return a frame, float32 [1, 3, height, width], 0 to 1, as a network takes it, `scale` times as large."""
    small = centred(shrunk(image, scale))
    height, width = small.shape[2:]
    size = (1, 3, height + -height % MULTIPLE, width + -width % MULTIPLE)
    padded = small.new_empty(size)
    padded[..., :height, :width] = small
    padded[..., height:, :width] = small[..., -1:, :]
    padded[..., width:] = padded[..., width - 1 : width]
    return Prepared(padded, (height, width), (image.shape[2], image.shape[3]))


def as_flow(field: Tensor, scale: Tensor | None, seen: tuple[int, int], frame: tuple[int, int]) -> Flow:
    """Return what the network predicted as a `Flow` of the frame.

    field, scale  [1, channels, rows, columns], whose cells are 4 x 4 pixels of the image that the network saw, and
                  whose flow is in such pixels
    seen          height and width of the frame's part of that image; beyond it is padding
    frame         height and width of the frame
    """
    cells = seen[0] / STRIDE, seen[1] / STRIDE
    pixel = field.new_tensor((frame[1] / seen[1], frame[0] / seen[0]))  # of the network, in pixels of the frame
    return Flow(
        field=first_cells(field, *cells) * pixel[:, None, None],
        scale=None if scale is None else first_cells(scale, *cells),
    )


def first_cells(values: Tensor, height: float, width: float) -> Tensor:
    """Cut `values` [n, channels, rows, columns] down to the first `height` x `width` cells, which need not be whole.

    Where they are not, the next whole number of smaller cells covers the same area, and values are interpolated at
    their middles: a grid of whole cells would reach beyond the frame, and be squeezed when it is laid over it.
    """
    rows, columns = ceil(height), ceil(width)
    if rows == height and columns == width:
        return values[:, :, :rows, :columns]
    # In grid_sample's coordinates -1 is the first edge of all cells and 1 the last.
    y = (torch.arange(rows, device=values.device) + 0.5) * (2 * height / rows / values.shape[2]) - 1
    x = (torch.arange(columns, device=values.device) + 0.5) * (2 * width / columns / values.shape[3]) - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).to(values.dtype)
    return grid_sample(values, grid.expand(len(values), -1, -1, -1), padding_mode="border", align_corners=False)


def shrunk(image: Tensor, scale: float) -> Tensor:
    """Return an image [1, 3, height, width] `scale` times as large, to whole pixels; both cover the same area."""
    height, width = image.shape[2:]
    step = round(1 / scale)
    if step * scale == 1 and height % step == 0 and width % step == 0:
        if step == 1:
            return image
        # Rows, then columns: on a CPU fifteen times as fast as average pooling.
        rows = reduce(torch.add, [image[..., start::step, :] for start in range(step)])
        return reduce(torch.add, [rows[..., start::step] for start in range(step)]).div_(step * step)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def check_scale(scale: float) -> None:
    """Raise VideoError for a scale at which no flow can be estimated."""
    if not 0 < scale <= 1:
        raise VideoError(f"scale must be above 0 and at most 1, got {scale}")


def check_sizes(current: tuple[int, int], key: tuple[int, int]) -> None:
    """Raise VideoError unless two frames, by height and width, are of one size."""
    if current != key:
        raise VideoError(
            f"flow from a frame of {current[1]} x {current[0]} pixels to a key frame of {key[1]} x {key[0]}: a stream "
            "has frames of one size; start another for another"
        )
