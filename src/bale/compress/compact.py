"""How do layers lose outputs, and their readers the inputs? The modules stay; their tensors and sizes are new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bale.compress.consumers import Group, find_groups
from bale.errors import BaleError


@dataclass(frozen=True)
class _Cut:
    """A tensor of a module in which each output is `positions` consecutive entries along `axis`."""

    module: nn.Module
    tensor: str
    axis: int
    positions: int


def remove_outputs_(model: nn.Module, group: Group, keep: Tensor) -> None:
    """Let `group`'s producer have only the outputs `keep`, and all that read them only these inputs, in place.

    Args:
        keep: int64 [kept], indices of outputs, rising, at least one.

    Module objects, and so names and hooks, stay. Parameters are new ones, with the device, dtype and `requires_grad` of
    the old and without gradients: make optimizers afterwards.

    Raises `BaleError`, with the layer's name and before anything is changed, for another `keep`.
    """
    outputs = _outputs(model, group)
    _check_keep(group.producer, keep, outputs)
    for cut in _cuts(model, group):
        old = getattr(cut.module, cut.tensor)
        new = old.detach().index_select(cut.axis, _entries(keep, cut.positions).to(old.device))
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        setattr(cut.module, cut.tensor, new)
    _set_sizes(model, group, outputs, len(keep))


def resize_(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Let a freshly made `model` have the sizes of its compacted twin, whose `state_dict()` is `state`, in place.

    Afterwards `model.load_state_dict(state)` fits; until then the values of what was cut mean nothing.

    Raises `BaleError`, with the key and before anything is changed, for a key that is missing or too many, and for a
    tensor whose shape fewer outputs of `model`'s prunable layers do not explain; and where torch.fx cannot trace
    `model`.
    """
    tensors = model.state_dict(keep_vars=True)
    for key in tensors:
        if key not in state:
            raise BaleError(
                f"{key}: is missing among the saved tensors; load them into a model that was made the same way"
            )
    for key in state:
        if key not in tensors:
            raise BaleError(f"{key}: is saved, but the model has no such tensor; make it as the saved one was made")
    if all(_shape(tensors[key]) == _shape(state[key]) for key in tensors):
        return
    structure = find_groups(model)
    kept = {name: _saved_outputs(name, group, model, state) for name, group in structure.groups.items()}
    expected = _expected_shapes(model, structure.groups, kept)
    for key, tensor in tensors.items():
        shape = expected.get(id(tensor), _shape(tensor))
        if _shape(state[key]) != shape:
            layer = key.rpartition(".")[0]
            why = structure.unprunable.get(layer)
            raise BaleError(
                f"{key}: is saved with shape {_shape(state[key])}; the model's is {_shape(tensor)}, and with as many "
                f"outputs as are saved for each layer it would be {shape}"
                + (f"; {layer} cannot have fewer outputs: {why}" if why else "")
            )
    for name, group in structure.groups.items():
        if kept[name] < _outputs(model, group):
            remove_outputs_(model, group, torch.arange(kept[name]))


def _saved_outputs(name: str, group: Group, model: nn.Module, state: Mapping[str, Tensor]) -> int:
    key, outputs = f"{name}.weight", _outputs(model, group)
    saved = _shape(state[key])
    if not saved or not 1 <= saved[0] <= outputs:
        raise BaleError(
            f"{key}: is saved with shape {saved}; the model's layer has {outputs} outputs, and may have fewer"
        )
    return saved[0]


def _expected_shapes(model: nn.Module, groups: Mapping[str, Group], kept: Mapping[str, int]) -> dict[int, list[int]]:
    """Shapes of tensors, by `id`, when each group keeps so many outputs."""
    shapes: dict[int, list[int]] = {}
    for name, group in groups.items():
        for cut in _cuts(model, group):
            tensor = getattr(cut.module, cut.tensor)
            shapes.setdefault(id(tensor), _shape(tensor))[cut.axis] = kept[name] * cut.positions
    return shapes


def _cuts(model: nn.Module, group: Group) -> list[_Cut]:
    """All tensors that get shorter when outputs go, and along which axis."""
    cuts = _cuts_of(model.get_submodule(group.producer), ("weight", "bias"))
    outputs = _outputs(model, group)
    for name in group.followers:
        follower: Any = model.get_submodule(name)
        if isinstance(follower, nn.Conv1d | nn.Conv2d):
            cuts += _cuts_of(follower, ("weight", "bias"))
        else:
            tensors = ("weight", "bias", "running_mean", "running_var")
            cuts += _cuts_of(follower, tensors, positions=follower.num_features // outputs)
    for consumer in group.consumers:
        cuts += _cuts_of(model.get_submodule(consumer.name), ("weight",), 1, consumer.positions)
    return cuts


def _cuts_of(module: nn.Module, tensors: Sequence[str], axis: int = 0, positions: int = 1) -> list[_Cut]:
    return [_Cut(module, name, axis, positions) for name in tensors if getattr(module, name) is not None]


def _set_sizes(model: nn.Module, group: Group, outputs: int, kept: int) -> None:
    """Let modules say the sizes that their tensors have; a batch norm may have no tensors at all."""
    producer: Any = model.get_submodule(group.producer)
    setattr(producer, "out_features" if isinstance(producer, nn.Linear) else "out_channels", kept)
    for name in group.followers:
        follower: Any = model.get_submodule(name)
        if isinstance(follower, nn.Conv1d | nn.Conv2d):
            follower.in_channels = follower.out_channels = follower.groups = kept
        else:
            follower.num_features = follower.num_features // outputs * kept
    for consumer in group.consumers:
        reader: Any = model.get_submodule(consumer.name)
        setattr(reader, "in_features" if isinstance(reader, nn.Linear) else "in_channels", kept * consumer.positions)


def _outputs(model: nn.Module, group: Group) -> int:
    weight = model.get_submodule(group.producer).weight
    assert isinstance(weight, Tensor)
    return weight.shape[0]


def _entries(keep: Tensor, positions: int) -> Tensor:
    """The entries [kept * positions] of outputs that are `positions` consecutive ones each."""
    return (keep[:, None] * positions + torch.arange(positions, device=keep.device)).reshape(-1)


def _shape(tensor: Any) -> list[int]:
    return list(tensor.shape) if isinstance(tensor, Tensor) else []


def _check_keep(name: str, keep: Tensor, outputs: int) -> None:
    rising = keep.dtype == torch.int64 and keep.dim() == 1 and bool((keep.diff() > 0).all())
    if not rising or len(keep) == 0 or int(keep[0]) < 0 or int(keep[-1]) >= outputs:
        raise BaleError(
            f"{name}: keep must be rising int64 indices of its {outputs} outputs, at least one; got {keep.tolist()} "
            f"of {keep.dtype}"
        )
