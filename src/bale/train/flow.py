"""How does FlowNet-S learn flow? From synthetic pairs that are drawn while it learns, and never end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.optim.lr_scheduler import CosineAnnealingLR

from bale.errors import VideoError
from bale.train.randomness import own_randomness
from bale.train.resumable import Resumable, TrainingStep, telling
from bale.train.tensor_bytes import short_digest
from bale.video.flow.flownet import MULTIPLE, UNIT, FlowNetS, centred, pair
from bale.video.flow.synthetic import Pairs, SceneConfig, draw_pairs, lit
from bale.video.flow.textures import Textures

# Of the sum of a level's errors, finest first, as FlowNet's authors weigh them; read in a port's code. A level has a
# quarter of the places of the one before, so that the mean error of the finest counts four times the coarsest's.
WEIGHTS = (0.005, 0.01, 0.02, 0.08, 0.32)
SCENES = SceneConfig(size=(128, 128), sprites=6, radius=(5.0, 28.0), pan=16.0, speed=20.0, light=0.05, noise=0.015)
_BARE_PAN = 8.0  # pixels, while warming up
_BARE_SHARE = 0.25  # of steps, once warm
_FLIPS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))  # axes of images


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
            of few large ones; a fifth where it is not given. From scenes in which most places stand still a network
            first learns to say that nothing moves, and then learns little else for thousands of steps.
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
    warm_up = steps // 5 if warm_up is None else warm_up
    _check(warm_up=(warm_up, 0))
    textures = Textures.procedural(seed=seed) if textures is None else textures
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    facts = {"steps": steps, "warm_up": warm_up, "batch_size": batch_size, "lr": lr, "seed": seed}
    facts |= {"scenes": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(scenes).items()}}
    facts |= {"textures": short_digest({"pictures": textures.pictures})}

    run = Resumable(
        model=network,
        optimizer=optimizer,
        told=telling(on_step, steps),
        folder=None if save is None else Path(save),
        facts=facts,
        device=next(network.parameters()).device,
        schedule=CosineAnnealingLR(optimizer, T_max=max(1, steps)),
    )
    pairs = _Pairs(scenes, textures, batch_size, seed, warm_up, Textures.blobs(seed=seed))

    def update(step: int) -> float:
        return _update(network, optimizer, pairs.of(step), step, run.device)

    with own_randomness(run.device, seed):  # a checkpoint restores torch's random state, which is not ours to change
        run.go_on()
        run.train_steps(
            steps, save_every, lambda step: _update(network, optimizer, pairs.of(step), step, run.device), 1
        )
    return run.place.total / max(1, run.place.position)


def _update(
    network: FlowNetS, optimizer: torch.optim.Optimizer, pairs: Pairs, step: int, device: torch.device
) -> float:
    """Learn from pairs, and return the loss before it; raises VideoError for one that is not finite."""
    optimizer.zero_grad()
    images = pair(centred(pairs.current), centred(pairs.key)).to(device)
    # The convolutions of narrow layers are a sixth faster on a CPU in this order of memory.
    flows = network.pyramid(images.contiguous(memory_format=torch.channels_last))
    loss = multiscale_loss(flows, pairs.flow.to(device))
    value = loss.item()
    if not value < inf:
        raise VideoError(f"the loss is {value} at step {step + 1}: a lower learning rate (lr) usually helps")
    loss.backward()
    optimizer.step()
    return value


@dataclass
class _Pairs:
    """The pairs of each step: the same whenever they are asked for."""

    scenes: SceneConfig
    textures: Textures
    batch_size: int
    seed: int
    warm_up: int
    blobs: Textures
    drawn: tuple[int, Pairs] | None = None  # which draw, and what it was

    def of(self, step: int) -> Pairs:
        """Return the pairs of a step, counted from 0."""
        draw = step // len(_FLIPS)
        config, textures, count = self._drawn_from(draw * len(_FLIPS))
        if self.drawn is None or self.drawn[0] != draw:
            clean = replace(config, noise=0.0, light=0.0)  # each of the four gets its own
            self.drawn = draw, draw_pairs(count, clean, textures, self._generator(2 * draw))
        generator = self._generator(2 * step + 1)
        colours = torch.randperm(3, generator=generator)
        pairs = flipped(self.drawn[1], _FLIPS[step % len(_FLIPS)])
        pairs = replace(pairs, current=pairs.current[:, colours], key=pairs.key[:, colours])
        return lit(pairs, config, generator)

    def _drawn_from(self, step: int) -> tuple[SceneConfig, Textures, int]:
        """Return what a step's pairs are drawn from, and how many; all steps have about as many pixels."""
        chance = torch.rand((), generator=torch.Generator().manual_seed((self.seed << 32) + (1 << 31) + step))
        if chance >= self._bare_share(step):
            return self.scenes, self.textures, self.batch_size
        count = self.batch_size * self.scenes.size[0] * self.scenes.size[1] // MULTIPLE**2
        bare = SceneConfig((MULTIPLE, MULTIPLE), sprites=0, standing=0.0, pan=_BARE_PAN, turn=0.0)
        return bare, self.blobs, count

    def _bare_share(self, step: int) -> float:
        # Not from one step to the next: Adam knows only the small gradients of what is learnt, and the first large ones
        # would throw the network back to saying that nothing moves, for good.
        return max(_BARE_SHARE, min(1.0, 1.5 - step / (2 * self.warm_up))) if self.warm_up else 0.0

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed << 32) + number)


def multiscale_loss(flows: Sequence[Tensor], target: Tensor) -> Tensor:
    """Return FlowNet's loss, in units of 20 pixels: endpoint errors summed over places, times the level's weight,
    divided by the places of the finest level.

    flows   of `FlowNetS.pyramid`
    target  float32 [pairs, 2, height, width]; each level is compared with its mean over the places' areas. Hidden
            places count too, as in the published training: they have a flow, which their surroundings tell
    """
    total = target.new_zeros(())
    for flow, weight in zip(flows, WEIGHTS, strict=True):
        goal = interpolate(target, flow.shape[2:], mode="area")
        total = total + weight * torch.linalg.vector_norm(flow - goal, dim=1).sum()
    return total / (UNIT * flows[0][:, 0].numel())


def endpoint_error(flow: Tensor, target: Tensor, valid: Tensor | None = None) -> float:
    """Return the mean distance between a flow [n, 2, rows, columns], on any grid, and the true one, in its pixels.

    target  float32 [n, 2, height, width], in pixels of this size, as `flow` is
    valid   bool [n, height, width]: which places count; None is all. NaN where none does
    """
    if flow.shape[2:] != target.shape[2:]:
        flow = interpolate(flow, target.shape[2:], mode="bilinear", align_corners=False)
    errors = torch.linalg.vector_norm(flow - target, dim=1)
    return float((errors if valid is None else errors[valid]).mean())


def flipped(pairs: Pairs, axes: tuple[int, ...]) -> Pairs:
    """Return pairs mirrored along axes of their images (2 is up and down, 3 left and right), and so their motions."""
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
