"""FlowNet-S learns flow from synthetic pairs; a run that was stopped ends, bit for bit, like one that was not."""

import signal
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from bale.errors import CheckpointError, VideoError
from bale.train.flow import train_flow
from bale.train.flow_loss import WEIGHTS, endpoint_error, multiscale_loss
from bale.train.flow_pairs import flipped
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.flow.synthetic import Pairs, SceneConfig, draw_pairs
from bale.video.flow.textures import Textures

SMALL = SceneConfig((64, 64), sprites=1, noise=0.01, light=0.05)
TEXTURES = Textures.procedural(3)
STEPS = 7


def tiny():
    return FlowNetS(width=1 / 64, scale_channels=2)


def train(network, steps=STEPS, stop=None, textures=TEXTURES, **changes):
    losses = []

    def on_step(record):
        assert record.steps == steps
        losses.append((record.step, record.loss))
        if record.step == stop:
            raise KeyboardInterrupt

    numbers = {"batch_size": 2, "warm_up": 3, "scenes": SMALL, "save_every": 2, **changes}
    return train_flow(network, steps=steps, textures=textures, on_step=on_step, **numbers), losses


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def held_out_error(network, pairs):
    stream = FlowNetFlow(network, scale=1).start()
    errors = []
    for current, key, flow in zip(pairs.current, pairs.key, pairs.flow, strict=True):
        found = stream.flow(stream.prepare(current[None]), stream.prepare(key[None]), None)
        errors.append(endpoint_error(found.field, flow[None]))
    return sum(errors) / len(errors)


def test_learns_the_flow_of_pairs_that_it_has_not_seen():
    scenes = SceneConfig((64, 64), sprites=0, standing=0.0, pan=4.0, turn=0.0)
    textures = Textures.blobs(8)
    network = FlowNetS(width=1 / 8)
    train_flow(network, steps=400, batch_size=4, lr=2e-3, warm_up=0, scenes=scenes, textures=textures)
    pairs = draw_pairs(16, scenes, textures, torch.Generator().manual_seed(99))
    unmoved = endpoint_error(torch.zeros_like(pairs.flow), pairs.flow)
    assert held_out_error(network, pairs) < 0.75 * unmoved


def test_one_seed_gives_one_network():
    first, second, other = tiny(), tiny(), tiny()
    state = torch.get_rng_state()
    mean, losses = train(first)
    assert torch.equal(torch.get_rng_state(), state)
    assert train(second) == (mean, losses) and same(first.state_dict(), second.state_dict())
    train(other, seed=1)
    assert not same(first.state_dict(), other.state_dict())
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    assert mean == pytest.approx(sum(loss for _, loss in losses) / STEPS)


@pytest.mark.parametrize("stop", [1, 2, 5, 7])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, stop):
    whole, halves = tiny(), tiny()
    expected, losses = train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(halves, stop=stop, save=tmp_path)
    again = tiny()
    mean, rest = train(again, save=tmp_path)
    assert same(whole.state_dict(), again.state_dict()) and mean == expected
    assert rest == losses[stop:]
    assert train(tiny(), save=tmp_path) == (expected, [])


def test_ctrl_c_ends_training_after_a_whole_step(tmp_path, python_handles_ctrl_c):
    class Pressed(FlowNetS):
        def pyramid(self, images):
            signal.raise_signal(signal.SIGINT)
            return super().pyramid(images)

    with pytest.raises(KeyboardInterrupt):
        train(Pressed(width=1 / 64, scale_channels=2), save=tmp_path)
    expected, again = tiny(), tiny()
    _, losses = train(expected)
    assert train(again, save=tmp_path)[1] == losses  # nobody was told of the first step before Ctrl-C
    assert same(expected.state_dict(), again.state_dict())


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train(tiny(), save=tmp_path)
    for changes, problem in (
        ({"lr": 1e-4}, "lr 0.001 there, 0.0001 here"),
        ({"scenes": replace(SMALL, pan=3.0)}, "scenes .*'pan': 3.0"),
        ({"textures": Textures.procedural(4)}, "textures"),
        ({"steps": 9}, "steps 7 there, 9 here"),
    ):
        with pytest.raises(CheckpointError, match=problem):
            train(tiny(), save=tmp_path, **changes)
    with pytest.raises(CheckpointError, match="is of another model: "):
        train(FlowNetS(width=1 / 32), save=tmp_path)


def test_the_scale_map_is_not_trained():
    network = tiny()
    train(network)
    assert not network.layers["scale"].weight.any() and (network.layers["scale"].bias == 1).all()


def test_the_loss_weighs_summed_endpoint_errors():
    target = torch.rand(2, 2, 64, 128, generator=torch.Generator().manual_seed(0))
    flows = [torch.zeros(2, 2, 64 >> level, 128 >> level) for level in (2, 3, 4, 5, 6)]
    expected = 0.0
    for flow, weight in zip(flows, WEIGHTS, strict=True):
        mean = nn.functional.adaptive_avg_pool2d(target, flow.shape[2:])
        expected += weight * float(mean.square().sum(dim=1).sqrt().sum()) / (2 * 16 * 32) / 20
    assert float(multiscale_loss(flows, target)) == pytest.approx(expected, rel=1e-5)
    exact = [interpolate(target, flow.shape[2:], mode="area") for flow in flows]
    assert float(multiscale_loss(exact, target)) == 0


def test_endpoint_error_is_a_distance_in_pixels():
    target = torch.zeros(1, 2, 4, 6)
    target[:, 0], target[:, 1] = 3, 4
    assert endpoint_error(torch.zeros(1, 2, 4, 6), target) == 5
    assert endpoint_error(torch.tensor([3.0, 0.0]).reshape(1, 2, 1, 1), target) == 4
    half = torch.arange(6).expand(1, 4, 6) < 3
    assert endpoint_error(target * half[:, None], target, half) == 0


def test_mirrored_pairs_are_exact_pairs():
    scenes = SceneConfig((16, 24), sprites=0, standing=0.0, pan=5.0)
    pairs = draw_pairs(1, scenes, TEXTURES, torch.Generator().manual_seed(0))
    mirrored = flipped(pairs, (2, 3))
    assert isinstance(mirrored, Pairs)
    # What is at p in the one is at the opposite place in the other, and goes there by the opposite motion.
    assert torch.equal(mirrored.flow[:, :, 3, 5], -pairs.flow[:, :, 12, 18])
    assert torch.equal(mirrored.current[:, :, 3, 5], pairs.current[:, :, 12, 18])
    assert torch.equal(flipped(pairs, (3,)).flow[:, :, 3, 5], pairs.flow[:, :, 3, 18] * torch.tensor([-1.0, 1.0]))
    assert torch.equal(flipped(pairs, (2,)).valid[:, 3], pairs.valid[:, 12])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": -1}, "steps must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0}, "lr must be above 0"),
        ({"warm_up": -1}, "warm_up must be at least 0"),
        ({"scenes": SceneConfig((64, 96))}, r"multiples of 64, got \(64, 96\)"),
    ],
)
def test_numbers_out_of_range_are_refused(changes, problem):
    with pytest.raises(VideoError, match=problem):
        train(tiny(), **changes)


def test_a_loss_that_is_not_finite_is_refused():
    network = tiny()
    with torch.no_grad():
        network.layers["flow2"].weight.fill_(float("nan"))
    with pytest.raises(VideoError, match="the loss is nan at step 1"):
        train(network)
