"""How do a network's tensors and an optimizer's state become the bytes of files, and come back?"""

import hashlib
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from torch import Tensor


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the content of a .safetensors file."""
    # Clones, because safetensors refuses tensors that share memory, as tied weights do.
    return safetensors.torch.save({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()})


def short_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the start of the SHA-256 of names, shapes, types and numbers: enough to tell two networks apart."""
    return hashlib.sha256(to_bytes(tensors)).hexdigest()[:12]


def from_bytes(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, on the CPU; raises SafetensorError for what is none."""
    return safetensors.torch.load(content)


def flatten(state: Mapping[int, Mapping[str, Any]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take an optimizer's state apart into tensors and the rest, each under "parameter.name"."""
    entries = {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}
    tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in entries.items() if key not in tensors}


def unflatten(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Put together what `flatten` took apart; raises ValueError for a key that it has not made."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **scalars}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    return state
