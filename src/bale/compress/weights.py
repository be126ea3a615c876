"""Which weights has a model, and which of them can be compressed?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn
from torch.nn.utils import parametrize

from bale.compress.code import Code
from bale.compress.layers import KINDS, Compressed, detach_, parts_of, weight_names
from bale.compress.matrix import Shape


@dataclass(frozen=True, eq=False)
class Weight:
    """A weight of a compressed layer.

    name      the layer's, and the weight's where a layer has several
    key       as in the state_dict of the plain model
    fourier   can the layer multiply by transforms of what is stored?
    """

    name: str
    key: str
    code: Code
    shape: Shape
    fourier: bool


def compressed_layers(model: nn.Module) -> dict[str, Compressed]:
    """Layers by their names, in the order of registration."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Compressed)}


def coded_weights(model: nn.Module) -> list[Weight]:
    """All weights of compressed layers."""
    return [weight for name, layer in compressed_layers(model).items() for weight in weights_of(name, layer)]


def all_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights of layers that are compressed or could be, by their names."""
    weights: dict[str, Tensor] = {}
    for name, module in layers_of(model):
        if isinstance(module, Compressed):
            weights |= {weight.name: weight.code() for weight in weights_of(name, module)}
        elif type(module) in KINDS:
            own = {key: module._parameters.get(key) for key in weight_names(module)}
            weights |= {weight_name(name, key, len(own)): w for key, w in own.items() if w is not None}
    return weights


def count_parameters(model: nn.Module) -> int:
    """Numbers that are trained when the model is plain; weights that layers share count once."""
    coded = {id(p) for layer in compressed_layers(model).values() for p in layer.codes.parameters()}
    others = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in coded)
    return others + sum(prod(weight.code.layout.weight_shape) for weight in coded_weights(model))


def weight_name(layer: str, key: str, many: int) -> str:
    """How a weight is called in reports: as its layer, where that has one only."""
    return (layer or key) if many == 1 else f"{layer}.{key}" if layer else key


def weights_of(name: str, layer: Compressed) -> Iterator[Weight]:
    """The weights of a compressed layer."""
    for weight, code in layer.codes.items():
        assert isinstance(code, Code)
        key = f"{name}.{weight}" if name else weight
        shape = Shape(code.layout.weight_shape, parts_of(layer))
        yield Weight(weight_name(name, weight, len(layer.codes)), key, code, shape, layer.takes_fourier())


def suitable_layers(model: nn.Module) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The layers that are compressed or can be, by their names, and for the others the reasons."""
    readers = _readers(model)
    layers: dict[str, nn.Module] = {}
    skipped: dict[str, str] = {}
    for name, module in layers_of(model):
        reason = None if isinstance(module, Compressed) else _reason(name, module, readers)
        if reason:
            skipped[name or type(module).__name__] = reason
        else:
            layers[name] = module
    return layers, skipped


def detach_unchanged(layers: Iterable[Compressed]) -> None:
    """Let those be plain again of which nothing is stored in another way."""
    for layer in layers:
        if not any(code.changed for code in layer.codes.values() if isinstance(code, Code)):
            detach_(layer)


def layers_of(model: nn.Module, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, nn.Module]]:
    """Modules that are layers of a known kind, or have weights of two axes or more; not what is inside of codes."""
    seen = set() if seen is None else seen
    if id(model) in seen:
        return
    seen.add(id(model))
    known = isinstance(model, (Compressed, *KINDS))
    if known or any(parameter.dim() > 1 for parameter in model.parameters(recurse=False)):
        yield prefix, model
    if not isinstance(model, Compressed):
        for name, child in model.named_children():
            yield from layers_of(child, f"{prefix}.{name}" if prefix else name, seen)


def _readers(model: nn.Module) -> dict[int, list[str]]:
    """The names of each parameter, those by which a module is known a second time among them."""
    readers: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        readers.setdefault(id(parameter), []).append(name)
    return readers


def _reason(layer: str, module: nn.Module, readers: dict[int, list[str]]) -> str | None:
    """Why a layer cannot be compressed; None: it can."""
    kind = type(module)
    if parametrize.is_parametrized(module):
        return "is parametrized by torch.nn.utils.parametrize"
    if kind not in KINDS:
        base = next((base for base in KINDS if isinstance(module, base)), None)
        return f"no method is for {kind.__name__}" + (f", a kind of {base.__name__} of its own" if base else "")
    if getattr(module, "proj_size", 0):
        return "projects its states"
    for name in weight_names(module):
        weight = module._parameters.get(name)
        if weight is None:
            return f"its {name} is no parameter, but computed"
        if not weight.is_floating_point():
            return f"its {name} is of {str(weight.dtype).removeprefix('torch.')}"
        if not weight.numel():
            return f"its {name} is empty"
        others = [other for other in readers[id(weight)] if other != (f"{layer}.{name}" if layer else name)]
        if others:
            return f"shares its {name} with {', '.join(others)}"
    return None
