"""How do a network's weights come from a file, and go to one?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bale.compress import load_packed_, read_packed
from bale.errors import CheckpointError

PACKED = ".bale"
SUFFIXES = (".safetensors", ".pt", ".pth", PACKED)
_MOST = 3  # keys that an error names


def load_weights(model: nn.Module, path: str | PathLike[str]) -> None:
    """Load a state_dict into `model`, whose every key it must have, and no other.

    From .safetensors; from .pt or .pth as `torch.save(model.state_dict(), path)` writes it, of which only tensors are
    read; or from .bale, a packed file (`load_packed_`), which may make layers narrower. Raises `CheckpointError`, with
    the file and the keys, for a file that is missing or damaged, for keys and shapes that are not the model's, and for
    numbers that are NaN or infinite, and what `load_packed_` raises; the model is then as it was.
    """
    path = Path(path)
    if path.suffix == PACKED:
        check_weights_file(path)
        _refuse_not_finite(path, read_packed(path).state)
        load_packed_(model, path)
        return
    weights = _read(path)
    own = model.state_dict()
    _refuse(path, "has no", "that the network has", [key for key in own if key not in weights])
    _refuse(path, "has", "that the network has not", [key for key in weights if key not in own])
    for key, tensor in weights.items():
        if tensor.shape != own[key].shape:
            raise CheckpointError(f"{path}: {key} is {list(tensor.shape)}; the network's is {list(own[key].shape)}")
    _refuse_not_finite(path, weights)
    model.load_state_dict(weights)


def save_weights(model: nn.Module, path: str | PathLike[str]) -> None:
    """Write a network's state_dict as .safetensors; raises `CheckpointError` where that fails."""
    weights = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in model.state_dict().items()}
    try:
        save_file(weights, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def check_weights_file(path: str | PathLike[str]) -> None:
    """Raise `CheckpointError` where there is no file, or its name does not say what it is."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")


def _read(path: Path) -> dict[str, Tensor]:
    check_weights_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        problem = str(error).split("\n")[0].split(". ")[0]
        raise CheckpointError(f"{path}: holds no weights alone, or is damaged: {problem}") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path}: holds no state_dict; expected what torch.save(model.state_dict(), ...) writes")
    return weights


def _refuse_not_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    for key, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {key} has numbers that are NaN or infinite")


def _refuse(path: Path, first: str, last: str, keys: Sequence[str]) -> None:
    if keys:
        more = f" and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
        raise CheckpointError(f"{path}: {first} {', '.join(keys[:_MOST])}{more}, {last}")
