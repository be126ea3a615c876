"""Which calls does a tensor come from, how many of its numbers, and do they still stand where the call put them?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bale.hardware.digital import kind_of_function

# Functions after which a number stands at the place of its plane that it came from; what others do to places is
# unknown.
_KEEP_PLACES = frozenset(
    """
    abs add addcdiv addcmul alpha_dropout atan2 avg_pool1d avg_pool2d batch_norm bfloat16 ceil clone contiguous cos
    detach div double dropout dropout1d dropout2d erf exp feature_alpha_dropout float floor half lerp log log1p maximum
    minimum mul neg pow radd rdiv reciprocal rmul round rsqrt rsub rtruediv sign sin sqrt square squeeze sub to
    true_divide truediv type_as unsqueeze where iadd isub imul itruediv
    """.split()
)
_WRITES = frozenset(("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__"))


@dataclass(frozen=True, order=True)
class Source:
    """What a tensor has of one call: so many numbers; `aligned`: each still at its place of the call's plane."""

    elements: float
    aligned: bool

    def joined(self, other: Source) -> Source:
        return Source(max(self.elements, other.elements), self.aligned and other.aligned)


Sources = dict[int, Source]


class Provenance:
    """Follows tensors by identity, and what is written in place to all that share its storage.

    Tensors are kept alive meanwhile: else a later one might get an identity or a storage's address.
    """

    def __init__(self) -> None:
        self.known: dict[int, Sources] = {}
        self.alive: dict[int, Tensor] = {}
        self.sharing: dict[int, list[int]] = {}

    def of(self, values: Any) -> Sources:
        """The calls that values come from."""
        return joined(self._of(leaf) for leaf in dense(values))

    def set(self, values: Any, sources: Sources) -> None:
        """Say where tensors come from."""
        for tensor in dense(values):
            if id(tensor) not in self.alive:
                self.alive[id(tensor)] = tensor
                self.sharing.setdefault(_storage(tensor), []).append(id(tensor))
            self.known[id(tensor)] = sources

    def through(self, name: str, given: Any, result: Any) -> None:
        """Follow a function: from what it was given to what it returned, or wrote."""
        tensors = list(dense(given))
        aligned = _keeps_places(name, given, result)
        for made in dense(result):
            self.set(made, joined(_scaled(self._of(t), t.numel(), made.numel(), aligned) for t in tensors))
        writes = name in _WRITES or (name.endswith("_") and not name.endswith("__"))
        if writes and tensors:
            target = tensors[0]
            sources = joined(_scaled(self._of(t), t.numel(), target.numel(), aligned) for t in tensors)
            self.set(target, self.known.get(id(target), {}))
            for each in self.sharing[_storage(target)]:
                self.known[each] = joined((self.known[each], sources))

    def _of(self, tensor: Tensor) -> Sources:
        if id(tensor) in self.known:
            return self.known[id(tensor)]
        return joined(self.known[each] for each in self.sharing.get(_storage(tensor), []))


def joined(many: Iterable[Sources]) -> Sources:
    """All sources of several tensors."""
    result: Sources = {}
    for sources in many:
        for call, source in sources.items():
            result[call] = result[call].joined(source) if call in result else source
    return result


def dense(values: Any) -> Iterable[Tensor]:
    """The tensors among values that have a storage to follow."""
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.layout == torch.strided)


def _scaled(sources: Sources, before: int, after: int, aligned: bool) -> Sources:
    """Sources behind a function: fewer numbers where its result has fewer than it was given, as a pool's has."""
    part = min(1.0, after / before) if before else 1.0
    return {call: Source(source.elements * part, source.aligned and aligned) for call, source in sources.items()}


def _keeps_places(name: str, given: Any, result: Any) -> bool:
    plain = name.strip("_")
    if plain in _KEEP_PLACES or kind_of_function(plain) in ("activation", "pool"):
        return True
    if plain == "layer_norm":  # of vectors, not of whole planes
        return any(isinstance(leaf, list | tuple) and len(leaf) == 1 for leaf in given[0])
    if plain == "cat":  # channel behind channel, or feature behind feature
        made = next(iter(dense(result)))
        axes = (*given[0][1:], *given[1].values())
        return bool(axes) and axes[0] % made.dim() == {2: 1, 3: 2, 4: 1}.get(made.dim(), -1)
    return False


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
