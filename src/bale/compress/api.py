"""One verb to compress a model in place, and one to make it plain again."""

from __future__ import annotations

from torch import nn

from bale.compress.config import Config, Filter
from bale.compress.layers import detach_
from bale.compress.packed import pack
from bale.compress.summary import Before, Report, report_of
from bale.compress.weights import compressed_layers
from bale.errors import CompressionError

_MOST = 8  # reasons that an error names


def compress_(model: nn.Module, config: Config, filter_fn: Filter | None = None) -> Report:
    """Compress a model in place by one method, and say what that did to each layer.

    Args:
        model: any module. Its layers keep their classes' attributes and calls; `weight` is then computed from what is
            stored. It trains, is saved by its state_dict, copied, pickled, moved and exported like any other.
        config: the method and its numbers. Methods stack: structured pruning first, then block-circulant weights, then
            pruning, then quantisation.
        filter_fn: `filter_fn(module, name)` says which layers; by default all that are suitable, for block-circulant
            weights without the first and the last.

    Returns a report: by weight its shape, the numbers kept, their bits, bytes in a packed file, multiply-accumulates
    and relative error; and the layers that were left as they are, with the reason.

    Parameters may be others afterwards: make the optimizer after compressing. Weights are approximated, so train a
    little more; what is compressed stays so in training. A state_dict loads into a copy that was compressed in the same
    way. `bake_` makes the model plain again.

    Raises CompressionError where the config fits no layer, for weights that are NaN or infinite, and for state that no
    packed file can hold; the model is then as it was.

    >>> from bale.compress import BlockCirculantConfig
    >>> from bale.models import LeNet5
    >>> model = LeNet5()
    >>> report = compress_(model, BlockCirculantConfig(block=4))
    >>> [weight.name for weight in report.weights], round(report.ratio, 1)
    (['conv2', 'fc1', 'fc2'], 3.7)
    """
    if not isinstance(config, Config):
        raise CompressionError(f"config: expected a config such as BlockCirculantConfig(), got {config!r}")
    before = Before.of(model)
    for name, weight in before.weights.items():
        if not bool(weight.isfinite().all()):
            raise CompressionError(
                f"{name}: has weights that are NaN or infinite; take the model as it was before they were"
            )
    pack(model)  # what no packed file can hold is an error now, not when the model is another
    outcome = config.apply_(model, filter_fn)
    if not outcome.changed:
        reasons = [f"{name} {reason}" for name, reason in outcome.skipped.items()]
        more = [f"and {len(reasons) - _MOST} more"] if len(reasons) > _MOST else []
        said = "; ".join([*reasons[:_MOST], *more]) or "it has no layers with weights"
        raise CompressionError(f"{config.method}: fits no layer of {type(model).__name__}: {said}")
    return report_of(model, before, (config,), outcome.changed, outcome.skipped)


def bake_(model: nn.Module) -> nn.Module:
    """Make a compressed model plain again, in place, with the weights that it computed; return it.

    Layers are torch's own again, their outputs as before (up to the order of sums where products were made by Fourier
    transforms). A model that is plain already stays as it is.
    """
    for layer in compressed_layers(model).values():
        detach_(layer)
    return model
