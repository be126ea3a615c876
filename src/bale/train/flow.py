"""How does FlowNet-S learn flow? From synthetic scenes that never end, and then from the boxes of a film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from bale.errors import VideoError
from bale.train.flow_loop import check_numbers, learn
from bale.train.flow_loss import multiscale_loss
from bale.train.flow_pairs import Draw, SceneDraws, StepPairs
from bale.train.resumable import TrainingStep
from bale.train.tensor_bytes import short_digest
from bale.video.flow.flownet import MULTIPLE, FlowNetS, centred, pair
from bale.video.flow.synthetic import SceneConfig
from bale.video.flow.textures import Textures
from bale.video.flow.tracks import TrackConfig, TrackedFilm, draw_tracked_pairs

SCENES = SceneConfig(size=(128, 128), sprites=6, radius=(5.0, 28.0), pan=16.0, speed=20.0, light=0.05, noise=0.015)
TRACKS = TrackConfig()
_LONGEST_WARM_UP = 1000  # steps


def train_flow(
    network: FlowNetS,
    *,
    steps: int,
    seed: int = 0,
    batch_size: int = 4,
    warm_up: int | None = None,
    lr: float = 1e-3,
    scenes: SceneConfig = SCENES,
    textures: Textures | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    save: str | PathLike[str] | None = None,
    save_every: int = 200,
) -> float:
    """Train `network` in place on synthetic pairs, by Adam and the published loss; return the mean loss of all steps.

    Args:
        network: on the CPU or a GPU; its scale map, which flow says nothing of, stays as it is.
        steps: how many batches it learns from.
        seed: of all that is drawn.
        batch_size: pairs in a batch. Drawing one costs more than learning from it, so it is learned from four times:
            as it is, mirrored in either axis and in both, each time with its colours exchanged and its noise anew.
        warm_up: how many of the steps, the first, see cameras that pan over coloured blobs, many small images instead
            of few large ones; a fifth, but 1,000 at most, where it is not given. From scenes in which most places stand
            still a network first learns to say that nothing moves, and then learns little else for thousands of
            steps. In the next steps, twice as many, such pans become fewer; a quarter of all later steps are of them.
        lr: the learning rate of the first step, from which it falls to 0 along half a cosine.
        scenes: what pairs are drawn from; both sides must be multiples of 64.
        textures: what surfaces look like; `Textures.procedural(seed=seed)` where it is not given.
        on_step: called after every step.
        save: a folder for a checkpoint, written every `save_every` steps, at the end and at Ctrl-C. Where it holds one
            of the same run, training goes on from there.

    The same network and arguments give the same weights, bit for bit, on one machine, number of threads and versions,
    with stops or without; on a GPU nearly the same. Ctrl-C comes through as KeyboardInterrupt after the step that is
    running. Raises VideoError for numbers out of range and a loss that is not finite; CheckpointError for a folder
    that cannot be written, or whose checkpoint is damaged or of another network or run.

    >>> network = FlowNetS(width=1 / 64)
    >>> train_flow(network, steps=2, batch_size=1, scenes=SceneConfig((64, 64))) > 0
    True
    """
    check_numbers(steps=steps, seed=seed, batch_size=batch_size, save_every=save_every, lr=lr)
    warm_up = min(steps // 5, _LONGEST_WARM_UP) if warm_up is None else warm_up
    if warm_up < 0:
        raise VideoError(f"warm_up must be at least 0, got {warm_up}")
    _check_size("scenes", scenes.size)
    textures = Textures.procedural(seed=seed) if textures is None else textures
    draw = SceneDraws(scenes, textures, batch_size, seed, warm_up, Textures.blobs(seed=seed))
    facts = {"batch_size": batch_size, "warm_up": warm_up, "scenes": _listed(scenes)}
    facts |= {"textures": short_digest({"pictures": textures.pictures})}
    return learn(
        network,
        _loss_of(network, StepPairs(draw, seed)),
        facts,
        steps=steps,
        seed=seed,
        lr=lr,
        on_step=on_step,
        save=save,
        save_every=save_every,
    )


def tune_flow(
    network: FlowNetS,
    film: TrackedFilm,
    *,
    steps: int,
    seed: int = 0,
    batch_size: int = 4,
    lr: float = 1e-3,
    tracks: TrackConfig = TRACKS,
    on_step: Callable[[TrainingStep], None] | None = None,
    save: str | PathLike[str] | None = None,
    save_every: int = 200,
    data: str = "",
) -> float:
    """Train a `network` that knows flow further, on pairs of a film with boxes; return the mean loss of all steps.

    Small things in front of what looks alike move little, and a network that knows only synthetic scenes says that
    they stand. `bale.video.flow.tracks` says what flow the boxes tell, and that a camera must stand for that.

    Args:
        network: as `train_flow` leaves it; its scale map stays as it is.
        film: frames in a row, and whose boxes are where.
        tracks: how pairs are drawn; both sides must be multiples of 64.
        data: what the film is, which must be the same for a run to go on.

    The others, what is given back, and what is raised: as of `train_flow`; VideoError also for frames that are smaller
    than the windows of `tracks`.
    """
    check_numbers(steps=steps, seed=seed, batch_size=batch_size, save_every=save_every, lr=lr)
    _check_size("tracks", tracks.size)

    def draw(step: int, generator: torch.Generator) -> Draw:
        return Draw(draw_tracked_pairs(film, batch_size, tracks, generator), tracks.light, tracks.noise)

    facts = {"batch_size": batch_size, "tracks": _listed(tracks), "data": data, "frames": len(film.frames)}
    facts |= {"begins from": short_digest(network.state_dict())}
    return learn(
        network,
        _loss_of(network, StepPairs(draw, seed)),
        facts,
        steps=steps,
        seed=seed,
        lr=lr,
        on_step=on_step,
        save=save,
        save_every=save_every,
    )


def _loss_of(network: FlowNetS, pairs: StepPairs) -> Callable[[int], Tensor]:
    """Return what gives the loss of a step."""
    device = next(network.parameters()).device

    def loss_of(step: int) -> Tensor:
        drawn = pairs.of(step)
        images = pair(centred(drawn.current), centred(drawn.key)).to(device)
        # The convolutions of narrow layers are a sixth faster on a CPU in this order of memory.
        flows = network.pyramid(images.contiguous(memory_format=torch.channels_last))
        return multiscale_loss(flows, drawn.flow.to(device), None if drawn.counts is None else drawn.counts.to(device))

    return loss_of


def _check_size(where: str, size: tuple[int, int]) -> None:
    if size[0] % MULTIPLE or size[1] % MULTIPLE:
        raise VideoError(f"sides of {where} must be multiples of {MULTIPLE}, got {size}")


def _listed(config: SceneConfig | TrackConfig) -> dict[str, Any]:
    """The numbers of a config as JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
