"""Do the boxes of a film tell the flow between its frames?"""

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from bale.errors import CheckpointError, VideoError
from bale.train.flow import tune_flow
from bale.train.flow_loss import endpoint_error, multiscale_loss
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.flow.textures import Textures
from bale.video.flow.tracks import TrackConfig, TrackedFilm, draw_tracked_pairs
from bale.video.metrics.mot import MotFrame

EXACT = TrackConfig((64, 64), scale=1.0, light=0.0, noise=0.0, pan=12.0, panning=0.7)
FRAMES, HEIGHT, WIDTH = 8, 96, 128


def film(sides: int = 16, things: int = 3, speed: int = 2, seed: int = 0, smooth: bool = False) -> TrackedFilm:
    """Squares of noise that slide over noise, whole pixels a frame; one of them leaves half-way."""
    rng = np.random.default_rng(seed)
    back = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    if smooth:
        back = (255 * Textures.blobs(1, seed).pictures[0, :HEIGHT, :WIDTH].numpy()).astype(np.uint8)
    faces = rng.integers(0, 256, (things, sides, sides, 3), dtype=np.uint8)
    starts = np.stack((rng.integers(20, WIDTH - 40, things), rng.integers(20, HEIGHT - 40, things)), 1)
    steps = rng.integers(-speed, speed + 1, (things, 2))
    frames, boxes = [], []
    for time in range(FRAMES):
        at = starts + steps * time
        there = [who for who in range(things) if who or time < FRAMES // 2]
        image = back.copy()
        for who in sorted(there, key=lambda who: at[who, 1]):  # lower ones are nearer
            left, top = at[who]
            image[top : top + sides, left : left + sides] = faces[who]
        frames.append(image)
        own = np.array([[*at[who], *(at[who] + sides)] for who in there], np.float32).reshape(-1, 4)
        boxes.append(MotFrame(own, np.array(there), np.ones(len(there), np.float32), np.zeros(len(there), np.int64)))
    return TrackedFilm(frames, boxes)


def looked_up(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """What `images` show at p + flow."""
    height, width = images.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack(((x + flow[:, 0]) / (width - 1), (y + flow[:, 1]) / (height - 1)), -1) * 2 - 1
    return grid_sample(images, place, align_corners=True)


@pytest.mark.parametrize(("things", "hidden"), [(1, 0.0), (3, 0.25)])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_at_p_in_the_current_image_is_at_p_plus_flow_in_the_key(things, hidden, seed):
    pairs = draw_tracked_pairs(film(things=things, seed=seed), 24, EXACT, torch.Generator().manual_seed(seed))
    assert pairs.counts is not None
    inside, beside = pairs.counts > 1, pairs.counts == 1
    assert 0.005 < inside.float().mean() < 0.5
    differs = (looked_up(pairs.key, pairs.flow) - pairs.current).abs().amax(1) > 0.02
    # What nearer things hide in the key; and a square has corners that the shape of a thing has not.
    assert differs[inside].float().mean() <= hidden
    assert differs[beside].float().mean() < 0.07
    assert (looked_up(pairs.key, torch.zeros_like(pairs.flow)) - pairs.current).abs().amax(1)[inside].mean() > 0.1


def test_half_as_large_images_have_half_the_flow():
    whole, half = (
        draw_tracked_pairs(film(), 1, TrackConfig(size, scale, panning=0.0), torch.Generator().manual_seed(3))
        for size, scale in (((64, 64), 1.0), ((32, 32), 0.5))
    )
    assert half.current.shape == (1, 3, 32, 32)
    assert torch.allclose(half.current, torch.nn.functional.avg_pool2d(whole.current, 2), atol=1e-6)
    assert torch.allclose(half.flow[..., 8, 8] * 2, whole.flow[..., 16, 16], atol=1e-5)


def test_what_nobody_knows_does_not_count():
    made = film(things=1)  # it is there in the first half only
    pairs = draw_tracked_pairs(made, 64, EXACT, torch.Generator().manual_seed(0))
    assert pairs.counts is not None
    alone = [(counts == 0).any() and not (counts > 1).any() for counts in pairs.counts]
    assert any(alone)
    flows = [torch.zeros(1, 2, side, side) for side in (16, 8, 4, 2, 1)]
    some, none = torch.zeros(1, 64, 64), torch.full((1, 2, 64, 64), 100.0)
    assert multiscale_loss(flows, none, some) == 0
    some[:, :32] = 1
    none[:, :, :32] = 0
    assert multiscale_loss(flows, none, some) == 0 and multiscale_loss(flows, none) > 0


def test_counts_of_one_change_nothing():
    flows = [torch.randn(2, 2, side, side) for side in (16, 8, 4, 2, 1)]
    target = torch.randn(2, 2, 64, 64)
    weighed = multiscale_loss(flows, target, torch.ones(2, 64, 64))
    assert torch.allclose(multiscale_loss(flows, target), weighed)


def test_a_network_learns_what_moves_in_a_film(tmp_path):
    made = film(sides=32, things=1, smooth=True)
    config = TrackConfig((64, 64), scale=1.0, reach=3, panning=1.0, pan=5.0)
    network = FlowNetS(width=1 / 8)
    held_out = draw_tracked_pairs(made, 16, config, torch.Generator().manual_seed(99))
    assert held_out.counts is not None
    seen = held_out.counts > 0

    def error() -> float:
        stream = FlowNetFlow(network, scale=1).start()
        found = [
            stream.flow(stream.prepare(current[None]), stream.prepare(key[None]), None).field
            for current, key in zip(held_out.current, held_out.key, strict=True)
        ]
        return endpoint_error(torch.cat(found), held_out.flow, seen)

    told: list[int] = []

    def tune(tuned: FlowNetS) -> float:
        return tune_flow(
            tuned, made, steps=300, lr=2e-3, tracks=config, save=tmp_path, on_step=lambda step: told.append(step.step)
        )

    mean, unmoved = tune(network), endpoint_error(torch.zeros_like(held_out.flow), held_out.flow, seen)
    assert error() < 0.85 * unmoved
    # A run that is done is not run again.
    again = FlowNetS(width=1 / 8)
    assert tune(again) == mean and told == list(range(1, 301))
    assert torch.equal(again.layers["conv1"].weight, network.layers["conv1"].weight)
    with pytest.raises(CheckpointError, match="begins from"):
        tune(FlowNetS(width=1 / 8, seed=1))


def test_films_and_windows_that_cannot_be():
    made = film()
    with pytest.raises(VideoError, match="a film of 3 frames with boxes of 8"):
        TrackedFilm(made.frames[:3], made.boxes)
    with pytest.raises(VideoError, match="windows of 192 x 128 pixels in frames of 128 x 96"):
        draw_tracked_pairs(made, 1, TrackConfig((128, 192), scale=1.0), torch.Generator())
    with pytest.raises(VideoError, match="near is a share"):
        TrackConfig(near=1.5)
    with pytest.raises(VideoError, match=r"sides of tracks must be multiples of 64, got \(32, 64\)"):
        tune_flow(FlowNetS(width=1 / 64), made, steps=1, tracks=TrackConfig((32, 64)))
