"""How do FlowNet-S's weights go to a file, and how does the network come back from it?"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bale.errors import CheckpointError, VideoError
from bale.video.flow.flownet import FlowNetS

_FORMAT = "bale FlowNet-S 1"


def save_flownet(network: FlowNetS, path: str | PathLike[str]) -> None:
    """Write a network as .safetensors that says its width and scale map; raises CheckpointError where that fails."""
    weights = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in network.state_dict().items()}
    about = {"format": _FORMAT, "width": repr(network.width), "scale_channels": str(network.scale_channels or 0)}
    try:
        save_file(weights, path, about)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def load_flownet(
    path: str | PathLike[str], width: float | None = None, scale_channels: int | None = None
) -> FlowNetS:
    """Return the network of a file that `save_flownet` wrote.

    Args:
        path: the file.
        width: that the network must have; None is any.
        scale_channels: of the scale map that it must have; None is whatever the file has. Where the file has no scale
            map, the network gets one that begins as 1 everywhere.

    Raises CheckpointError for a file that is missing, damaged or none of these, and for a network of another width or
    scale map, with both numbers.
    """
    path = Path(path)
    about, weights = _read(path)
    if about.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: is no FlowNet-S of this bale; expected what save_flownet writes")
    try:
        own_width, own_channels = float(about["width"]), int(about["scale_channels"]) or None
        network = FlowNetS(own_width, own_channels if scale_channels is None else scale_channels)
    except (KeyError, ValueError, VideoError) as error:
        raise CheckpointError(f"{path}: is damaged: {error}") from error
    if width is not None and width != own_width:
        raise CheckpointError(f"{path}: is a FlowNet-S of width {own_width:g}; expected {width:g}")
    if own_channels is not None and network.scale_channels != own_channels:
        raise CheckpointError(f"{path}: its scale map has {own_channels} channels; expected {scale_channels}")
    if own_channels is None:
        weights |= {name: value for name, value in network.state_dict().items() if name.startswith("layers.scale.")}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: is damaged: {' '.join(str(error).split())}") from error
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} has numbers that are NaN or infinite")
    return network.eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read, or is damaged: {error}") from error
