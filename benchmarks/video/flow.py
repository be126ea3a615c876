"""Which flow network do the benchmarks of video run? FlowNet-S, trained on exact flow of scenes made of the film.

Textures are those of `bale.video` and pieces of the film's first 500 frames; motions are synthetic, so no flow of the
film itself is needed. A folder keeps a checkpoint, from which a run that was stopped goes on, and the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bale.train import TrainingStep, train_flow
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.textures import Textures
from bale.video.flow.weights import load_flownet, save_flownet
from benchmarks.video.detector import read_images
from benchmarks.video.streams import FILM, TRAIN

WIDTH, STEPS = 1 / 8, 20_000
_EVERY = 25  # frames of the film between two that give textures


def trained_flow(
    work: Path, film: Path = FILM, steps: int = STEPS, on_step: Callable[[TrainingStep], None] | None = None
) -> FlowNetS:
    """Return the network from the folder `work`; where it is not there it is trained, for a quarter of an hour.

    Raises BaleError for a film that is not there and for a folder that holds another run.
    """
    weights = work / "flownet.safetensors"
    if weights.is_file():
        return load_flownet(weights, width=WIDTH)
    images = list(read_images(film, TRAIN[::_EVERY]))
    network = FlowNetS(width=WIDTH)
    textures = Textures.procedural(seed=0).with_images(images)
    train_flow(network, steps=steps, textures=textures, on_step=on_step, save=work / "flow")
    save_flownet(network, weights)
    return network
