"""Does a network on a chip say what PyTorch's quantised network says, image by image?"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from bale.codesign.figure import Figure
from bale.data import Images
from bale.errors import BaleError
from bale.hardware import OnChip, run_on_chip

EVERY = 32  # images whose every conversion is made, those that are proven lossless too


def exact_images(on_chip: OnChip, model: nn.Module, images: Images) -> Iterator[Figure]:
    """The shares of images whose outputs are PyTorch's quantised ones, bit for bit, of a mapping that loses nothing.

    Of all images, where proven conversions are stood in for, and of some with every conversion. Raises `BaleError` for
    a mapping whose converters may lose something, and for an image whose outputs differ.
    """
    lossy = [
        name
        for name, mapped in on_chip.placement.matrices.items()
        if mapped.bounds.exact_bits > on_chip.converters[name]
    ]
    if lossy:
        raise BaleError(f"{lossy[0]}: its converters have fewer bits than its columns need; nothing is exact there")
    for many, every in ((len(images), False), (min(EVERY, len(images)), True)):
        some = images[:many]
        run = run_on_chip(on_chip, model, some.pixels(), some.labels, every_conversion=every)
        if not (run.exact and run.output_error == 0 and run.agreement == 1):
            raise BaleError(f"of {many} images some outputs differ from PyTorch's by up to {run.output_error:g}")
        name = "images whose outputs are PyTorch's quantised ones" + (", every conversion made" if every else "")
        facts = {"images": many, "accuracy_on_chip": run.accuracy, "accuracy_quantised": run.accuracy_quantised}
        facts |= {"accuracy_float": run.accuracy_float, "clipped": run.clipped}
        yield Figure(name, "", 1.0, "share", None, facts)
