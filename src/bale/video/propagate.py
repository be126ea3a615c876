"""How are a key frame's features carried to another frame? Deep Feature Flow (Zhu et al., CVPR 2017, equation 3).

Carried features are what bilinear sampling finds of the key frame's at p + flow(p), times a scale map. Read in the
authors' code: sampling is over cell centres, so positions are normalised by what `align_corners` means, which one
public port confuses. Published: a frame that is its own key is not warped; whoever calls decides that.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bale.errors import VideoError
from bale.video.detector import AnyFeatures, map_features
from bale.video.flow.estimator import Flow


def propagate(features: AnyFeatures, flow: Flow, frame_size: tuple[int, int]) -> AnyFeatures:
    """Return a key frame's features as they look in the frame that `flow` leads from.

    features    maps [1, channels, rows, columns], each over the whole padded frame
    frame_size  height and width of the padded frame, pixels

    Differentiable in features, field and scale. Raises `VideoError` for a scale of neither 1 nor a map's channels.
    """
    grids: dict[tuple[int, int], Tensor] = {}

    def carry(each: Tensor) -> Tensor:
        size = _size(each)
        if size not in grids:  # maps of one size look at the same places
            grids[size] = _places(flow.field, size, frame_size)
        carried = _sample(each, grids[size])
        return carried if flow.scale is None else carried * _scale_of(flow.scale, each)

    return map_features(carry, features)


def warp(features: Tensor, field: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Return `features`, [n, channels, rows, columns], sampled where `field` points.

    field       [n, 2, any rows, any columns] over the whole padded frame; x then y, pixels of the frame
    frame_size  height and width of the padded frame, pixels; the features cover it too

    Bilinear between cell centres; beyond the edge is what is at the edge.
    """
    return _sample(features, _places(field, _size(features), frame_size))


def _places(field: Tensor, size: tuple[int, int], frame_size: tuple[int, int]) -> Tensor:
    """Where each cell of a map of this size looks, [n, rows, columns, 2], in `grid_sample`'s terms."""
    (rows, columns), (height, width) = size, frame_size
    field = _resized(field.to(torch.promote_types(field.dtype, torch.float32)), size)
    row = torch.arange(rows, dtype=field.dtype, device=field.device)[:, None]
    column = torch.arange(columns, dtype=field.dtype, device=field.device)
    across = column + field[:, 0] * (columns / width)  # cells, 0 at the first cell's centre
    down = row + field[:, 1] * (rows / height)
    # -1 and 1 are the map's outer edges, half a cell beyond the outer centres (align_corners=False). The other
    # convention divides by cells - 1, and so by 0 in a map of one row.
    return torch.stack([(2 * across + 1) / columns - 1, (2 * down + 1) / rows - 1], dim=-1)


def _sample(features: Tensor, places: Tensor) -> Tensor:
    # Positions in half precision would be wrong by more than a cell in a wide map.
    precise = torch.promote_types(features.dtype, places.dtype)
    sampled = functional.grid_sample(
        features.to(precise), places.to(precise), mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.to(features.dtype)


def _scale_of(scale: Tensor, features: Tensor) -> Tensor:
    if scale.shape[1] not in (1, features.shape[1]):
        raise VideoError(
            f"a flow's scale has {scale.shape[1]} channels, and a feature map {features.shape[1]}: "
            "give a scale of 1 channel, or of as many as every map has"
        )
    return _resized(scale, _size(features)).to(features.dtype)


def _resized(grid: Tensor, size: tuple[int, int]) -> Tensor:
    if _size(grid) == size:
        return grid
    return functional.interpolate(grid, size, mode="bilinear", align_corners=False)


def _size(grid: Tensor) -> tuple[int, int]:
    return grid.shape[-2], grid.shape[-1]
