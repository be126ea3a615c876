"""Does a network on a chip say what PyTorch's quantised network says, image by image?"""

from __future__ import annotations

from torch import nn

from bale.codesign.figure import Figure
from bale.data import Images
from bale.errors import BaleError
from bale.hardware import OnChip, run_on_chip

EVERY = 32  # images whose every conversion is made, those that are proven lossless too


def exact_images(on_chip: OnChip, model: nn.Module, images: Images, of: str, every: int = EVERY) -> Figure:
    """The share of images whose outputs are PyTorch's quantised ones, bit for bit, of a mapping that loses nothing.

    Of all images, where products stand in for conversions that are proven lossless, and of the first `every` with each
    conversion made. `of` names the network. Raises `BaleError` for a mapping whose converters may lose something, and,
    with the matrix, where sums or outputs of an image differ.
    """
    for name, mapped in on_chip.placement.matrices.items():
        needed, there = mapped.bounds.exact_bits, on_chip.converters[name]
        if needed > there:
            raise BaleError(f"{of}: {name}: its columns need converters of {needed} bits, and have {there}: not exact")
    all_of_them = run_on_chip(on_chip, model, images.pixels(), images.labels)
    some = run_on_chip(on_chip, model, images[:every].pixels(), every_conversion=True)
    for run in (all_of_them, some):
        if not run.exact or run.clipped or run.output_error or run.agreement != 1:
            wrong = next((layer.name for layer in run.layers if layer.wrong), "outputs")
            raise BaleError(f"{of}: {wrong}: should lose nothing, and outputs differ by {run.output_error:g}")
    facts = {
        "chip": on_chip.chip.name,
        "every conversion of": min(every, len(images)),
        "conversions": sum(layer.converted.conversions for run in (all_of_them, some) for layer in run.layers),
        "adc bits by matrix": dict(on_chip.converters),
        "accuracy on chip": all_of_them.accuracy,
        "accuracy quantised": all_of_them.accuracy_quantised,
    }
    name = f"images whose outputs are PyTorch's quantised ones: {of}"
    return Figure(name, f"{len(images):,} images", 1.0, "share", None, facts)
