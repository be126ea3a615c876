"""Which batch norm follows a layer, and how much does it let through of each output?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bale.compress.consumers import traced
from bale.errors import BaleError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def output_scales(model: nn.Module) -> dict[str, Tensor]:
    """The |scales| of the batch norm that reads a layer's outputs as they are: float64 [outputs], on the CPU.

    By the layers' weights, as in the state_dict of the plain model. Layers that are called more than once, read by
    something else, too, or followed by no batch norm with scales have none; a model that torch.fx cannot trace has
    none at all. No input is run.
    """
    modules = dict(model.named_modules())
    try:
        nodes = [node for node in traced(model).nodes if node.op == "call_module"]
    except BaleError:
        return {}
    called = [str(node.target) for node in nodes]
    scales: dict[str, Tensor] = {}
    for node, name in zip(nodes, called, strict=True):
        readers = list(node.users)
        if not isinstance(modules[name], _LAYERS) or called.count(name) > 1 or len(readers) != 1:
            continue
        norm = modules.get(str(readers[0].target)) if readers[0].op == "call_module" else None
        if isinstance(norm, _NORMS) and norm.affine:
            scales[f"{name}.weight" if name else "weight"] = norm.weight.detach().abs().to("cpu", torch.float64)
    return scales
