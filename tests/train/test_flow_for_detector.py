"""Does flow learn through a detector, and is the detector left as it was?"""

from itertools import permutations
from math import inf, nan

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from bale.errors import CheckpointError, VideoError
from bale.train.flow_for import _Carried, _pair, tune_flow_for
from bale.video.detectors.centre_point import CentrePointDetector, centre_loss, targets
from bale.video.detectors.sprites import TinyDetector, sprite_film
from bale.video.flow.estimator import Flow
from bale.video.flow.flownet import FlowNetS
from bale.video.flow.learned import FlowNetFlow
from bale.video.flow.textures import Textures
from bale.video.images import image_tensor
from bale.video.propagate import propagate


def still(network: FlowNetS) -> FlowNetS:
    """The same network, which says that nothing moves."""
    with torch.no_grad():
        for name, parameter in network.layers.named_parameters():
            if name in ("flow2.weight", "flow2.bias"):
                parameter.zero_()
    return network


def sprites(frames: int = 6):
    made = sprite_film(frames, (96, 128), seed=3)
    boxes, labels = ([torch.from_numpy(each) for each in side] for side in (made.boxes, made.labels))
    return list(made.images), boxes, labels


def test_the_loss_is_the_detectors_on_carried_features():
    images, boxes, labels = sprites()
    detector = TinyDetector(stride=8)
    network = FlowNetS(width=1 / 32)
    for current, key, alike in ((0, 3, 0.0), (4, 2, 0.0), (4, 2, 2.0)):
        carried = _Carried(detector, network, images, boxes, labels, scale=1 / 2)
        found = carried.loss(current, key, alike)
        stream = FlowNetFlow(network, scale=1 / 2).start()
        frames = [image_tensor(images[each], 8) for each in (current, key)]
        flow = stream.flow(*(stream.prepare(each) for each in frames), None)
        own, features = (detector.features(each).half().float() for each in frames)
        warped = propagate(features, Flow(flow.field.clone(), None), (96, 128))
        wanted = targets([boxes[current]], [labels[current]], 3, 8, (12, 16))
        expected = centre_loss(detector.points(warped), wanted)
        expected = expected + alike * (warped - own).abs().mean() / own.abs().mean()
        assert torch.allclose(found, expected, rtol=1e-4)
        (gradient,) = torch.autograd.grad(found, [network.layers["conv1"].weight])
        assert gradient.abs().sum() > 0


def test_a_pair_is_two_frames_within_reach():
    pairs = {_pair(9, 3, np.random.default_rng(seed)) for seed in range(600)}
    assert pairs == {(one, other) for one in range(9) for other in range(9) if 0 < abs(one - other) <= 3}


class Blurred(CentrePointDetector):
    """Features are the colours of blocks of 4 x 4 pixels."""

    def __init__(self) -> None:
        super().__init__(["thing"], 3, 4, 4, 4)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(image, 4)


def test_flow_learns_to_carry(tmp_path):
    scene = (255 * Textures.blobs(1, 5).pictures[0].numpy()).astype(np.uint8)
    images = [scene[:64, left : left + 64] for left in (0, 6, 12)]  # a camera pans
    nothing = [torch.zeros(0, 4)] * 3, [torch.zeros(0, dtype=torch.int64)] * 3
    torch.manual_seed(0)
    detector, network, told = Blurred(), still(FlowNetS(width=1 / 8)), []
    before = {name: each.clone() for name, each in detector.state_dict().items()}

    def unlike() -> float:
        carried = _Carried(detector, network, images, *nothing, 1)
        pairs = permutations(range(3), 2)
        with torch.no_grad():
            return sum((carried.loss(*each, 1.0) - carried.loss(*each, 0.0)).item() for each in pairs)

    def tune(tuned: FlowNetS) -> float:
        numbers = {"steps": 80, "lr": 2e-3, "reach": 2, "scale": 1, "alike": 30.0}
        return tune_flow_for(
            detector, tuned, images, *nothing, **numbers, save=tmp_path, on_step=lambda step: told.append(step.step)
        )

    unmoved, mean = unlike(), tune(network)
    assert unlike() < 0.9 * unmoved
    assert all(torch.equal(each, before[name]) for name, each in detector.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in detector.parameters())
    # A run that is done is not run again, and is that of one network.
    again = still(FlowNetS(width=1 / 8))
    assert tune(again) == mean and told == list(range(1, 81))
    assert torch.equal(again.layers["conv1"].weight, network.layers["conv1"].weight)
    with pytest.raises(CheckpointError, match="begins from"):
        tune(FlowNetS(width=1 / 8, seed=1))


def test_a_scale_map_learns_too():
    images, boxes, labels = sprites()
    network = FlowNetS(width=1 / 32, scale_channels=16)
    before = network.layers["scale"].weight.clone()
    tune_flow_for(TinyDetector(stride=8), network, images, boxes, labels, steps=2)
    assert not torch.equal(network.layers["scale"].weight, before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"reach": 0}, "a reach of 1 or more, got 6 and 0"),
        ({"alike": nan}, "alike must be at least 0 and finite"),
        ({"alike": inf}, "alike must be at least 0 and finite"),
        ({"scale": 0.0}, "scale must be above 0"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"lr": 0.0}, "lr must be above 0"),
    ],
)
def test_numbers_out_of_range_are_named(wrong, message):
    with pytest.raises(VideoError, match=message):
        tune_flow_for(TinyDetector(stride=8), FlowNetS(width=1 / 64), *sprites(), **({"steps": 1} | wrong))


def test_frames_that_do_not_go_together_are_named():
    images, boxes, labels = sprites(2)
    with pytest.raises(VideoError, match="boxes of 1"):
        tune_flow_for(TinyDetector(stride=8), FlowNetS(width=1 / 64), images, boxes[:1], labels, steps=1)
    with pytest.raises(VideoError, match="at least two frames"):
        tune_flow_for(TinyDetector(stride=8), FlowNetS(width=1 / 64), images[:1], boxes[:1], labels[:1], steps=1)
    images[1] = images[1][:, :96]
    with pytest.raises(VideoError, match="differ in size"):
        tune_flow_for(TinyDetector(stride=8), FlowNetS(width=1 / 64), images, boxes, labels, steps=1)
