"""How does FlowNet-S learn flow? From synthetic pairs that are drawn while it learns, and never end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.optim.lr_scheduler import CosineAnnealingLR

from bale.errors import VideoError
from bale.train.checkpoint import holds_checkpoint
from bale.train.files import prepare_folder
from bale.train.image_checkpoint import ImageCheckpoint, ImagePlace, load_image_checkpoint
from bale.train.interrupt import BrokenOff, finish_first
from bale.train.randomness import own_randomness
from bale.train.tensor_bytes import short_digest
from bale.video.flow.flownet import MULTIPLE, UNIT, FlowNetS, centred, pair
from bale.video.flow.synthetic import Pairs, SceneConfig, draw_pairs, lit
from bale.video.flow.textures import Textures

# Of the sum of a level's errors, finest first, as FlowNet's authors weigh them; read in a port's code. A level has a
# quarter of the places of the one before, so that the mean error of the finest counts four times the coarsest's.
WEIGHTS = (0.005, 0.01, 0.02, 0.08, 0.32)
SCENES = SceneConfig(size=(128, 192), sprites=6, radius=(5.0, 28.0), light=0.1, noise=0.02)
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))  # axes of images


@dataclass(frozen=True)
class FlowStep:
    """What one step did: `step` counts from 1 to `steps`; `loss` is that of its batch before the network changed."""

    step: int
    steps: int
    loss: float


def train_flow(
    network: FlowNetS,
    *,
    steps: int,
    seed: int = 0,
    batch_size: int = 8,
    lr: float = 1e-3,
    scenes: SceneConfig = SCENES,
    textures: Textures | None = None,
    on_step: Callable[[FlowStep], None] | None = None,
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
    _check(steps=(steps, 0), seed=(seed, 0), batch_size=(batch_size, 1), save_every=(save_every, 1))
    if not 0 < lr < inf:
        raise VideoError(f"lr must be above 0 and finite, got {lr}")
    if scenes.size[0] % MULTIPLE or scenes.size[1] % MULTIPLE:
        raise VideoError(f"sides of scenes must be multiples of {MULTIPLE}, got {scenes.size}")
    textures = Textures.procedural(seed=seed) if textures is None else textures
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    facts = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "width": network.width}
    facts |= {"scenes": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(scenes).items()}}
    facts |= {"textures": short_digest({"pictures": textures.pictures})}
    run = _Run(
        network=network,
        optimizer=optimizer,
        schedule=CosineAnnealingLR(optimizer, T_max=max(1, steps)),
        steps=steps,
        pairs=_Pairs(scenes, textures, batch_size, seed),
        on_step=on_step,
        folder=None if save is None else Path(save),
        save_every=save_every,
        facts=facts,
        device=next(network.parameters()).device,
    )
    with own_randomness(run.device, seed):  # a checkpoint restores torch's random state, which is not ours to change
        run.go_on()
        run.train()
    return run.place.total / max(1, run.place.position)


@dataclass
class _Pairs:
    """The pairs of each step: the same whenever they are asked for."""

    scenes: SceneConfig
    textures: Textures
    batch_size: int
    seed: int
    drawn: tuple[int, Pairs] | None = None  # which draw, and what it was

    def of(self, step: int) -> Pairs:
        """Return the pairs of a step, counted from 0."""
        draw = step // len(_FLIPS)
        if self.drawn is None or self.drawn[0] != draw:
            clean = replace(self.scenes, noise=0.0, light=0.0)
            self.drawn = draw, draw_pairs(self.batch_size, clean, self.textures, self._generator(2 * draw))
        generator = self._generator(2 * step + 1)
        colours = torch.randperm(3, generator=generator)
        pairs = _flipped(self.drawn[1], _FLIPS[step % len(_FLIPS)])
        pairs = replace(pairs, current=pairs.current[:, colours], key=pairs.key[:, colours])
        return lit(pairs, self.scenes, generator)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed << 32) + number)


@dataclass
class _Run:
    """What `train_flow` was asked for, and how far it is."""

    network: FlowNetS
    optimizer: torch.optim.Optimizer
    schedule: CosineAnnealingLR
    steps: int
    pairs: _Pairs
    on_step: Callable[[FlowStep], None] | None
    folder: Path | None
    save_every: int
    facts: dict[str, Any]
    device: torch.device
    place: ImagePlace = field(default_factory=ImagePlace)
    saved: ImagePlace | None = None  # the place of the last checkpoint
    whole: bool = True  # else weights and place may not belong together

    def go_on(self) -> None:
        """Go to the place of the folder's checkpoint; without one, see whether the folder can hold one."""
        if self.folder is None:
            return
        if not holds_checkpoint(self.folder):
            prepare_folder(self.folder)
            return
        checkpoint = load_image_checkpoint(self.folder)
        checkpoint.check(self.folder, self.network, self.facts)
        checkpoint.restore(self.folder, self.network, self.optimizer, None, self.device)
        self.schedule.last_epoch = checkpoint.place.step  # each rate is made from the one before, which Adam keeps
        self.place = self.saved = checkpoint.place

    def train(self) -> None:
        try:
            self.tell()  # of a step that Ctrl-C came in
            while self.place.step < self.steps:
                self.step()
                self.tell()
                if self.place.step % self.save_every == 0:
                    self.checkpoint()
            self.checkpoint()
        except BrokenOff:
            raise
        except KeyboardInterrupt:
            if self.whole:
                with suppress(KeyboardInterrupt):  # an impatient second one, held back until the checkpoint was whole
                    self.checkpoint()
            raise

    def step(self) -> None:
        pairs = self.pairs.of(self.place.step)
        with finish_first():
            self.whole = False
            self.optimizer.zero_grad()
            images = pair(centred(pairs.current), centred(pairs.key)).to(self.device)
            # The convolutions of narrow layers are a sixth faster on a CPU in this order of memory.
            flows = self.network.pyramid(images.contiguous(memory_format=torch.channels_last))
            loss = multiscale_loss(flows, pairs.flow.to(self.device))
            value = loss.item()
            if not value < inf:
                raise VideoError(
                    f"the loss is {value} at step {self.place.step + 1}: a lower learning rate (lr) usually helps"
                )
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.place = self.place.after_step(value, 1)
            self.whole = True

    def tell(self) -> None:
        """Call `on_step` for the last step, unless that was done before the checkpoint."""
        loss = self.place.untold
        if loss is None:
            return
        with finish_first():
            self.place = replace(self.place, untold=None)  # first: if it raises KeyboardInterrupt itself, it is done
            if self.on_step is not None:
                self.on_step(FlowStep(self.place.step, self.steps, loss))

    def checkpoint(self) -> None:
        if self.folder is None or self.saved == self.place:
            return
        with finish_first():
            checkpoint = ImageCheckpoint.of(self.network, self.optimizer, None, self.device, self.place, self.facts)
            checkpoint.save(self.folder)
            self.saved = self.place


def multiscale_loss(flows: Sequence[Tensor], target: Tensor) -> Tensor:
    """Return FlowNet's loss: the endpoint errors of all levels, summed over places, by `WEIGHTS`, in units of 20 pixels.

    flows   of `FlowNetS.pyramid`
    target  float32 [pairs, 2, height, width]; each level is compared with its mean over the places' areas. Hidden
            places count too, as in the published training: they have a flow, which their surroundings tell
    """
    total = target.new_zeros(())
    for flow, weight in zip(flows, WEIGHTS, strict=True):
        goal = interpolate(target, flow.shape[2:], mode="area")
        total = total + weight * torch.linalg.vector_norm(flow - goal, dim=1).sum()
    return total / (UNIT * len(target))


def endpoint_error(flow: Tensor, target: Tensor, valid: Tensor | None = None) -> float:
    """Return the mean distance between a flow [n, 2, rows, columns], on any grid, and the true one, in its pixels.

    target  float32 [n, 2, height, width], in pixels of this size, as `flow` is
    valid   bool [n, height, width]: which places count; None is all. NaN where none does
    """
    if flow.shape[2:] != target.shape[2:]:
        flow = interpolate(flow, target.shape[2:], mode="bilinear", align_corners=False)
    errors = torch.linalg.vector_norm(flow - target, dim=1)
    return float((errors if valid is None else errors[valid]).mean())


def _flipped(pairs: Pairs, axes: tuple[int, ...]) -> Pairs:
    """Return pairs mirrored along axes of their images, and with them their motions."""
    if not axes:
        return pairs
    sign = torch.tensor([-1.0 if axis in axes else 1.0 for axis in (3, 2)])[:, None, None]  # of x, of y
    return Pairs(
        current=pairs.current.flip(axes),
        key=pairs.key.flip(axes),
        flow=pairs.flow.flip(axes) * sign,
        valid=pairs.valid.flip([axis - 1 for axis in axes]),
    )


def _check(**least: tuple[int, int]) -> None:
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise VideoError(f"{name} must be at least {smallest}, got {value}")
