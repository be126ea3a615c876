"""FlowNet-S is the published one at width 1, its list of steps is all that it does, and its files say what it is."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import leaky_relu

from bale.errors import CheckpointError, VideoError
from bale.video.flow.flownet import INPUT, SLOPE, UNIT, FlowNetS, centred, pair
from bale.video.flow.weights import load_flownet, save_flownet

# Inputs and outputs of the layers of a port of FlowNet-S to PyTorch: kernel 7, 5, 5 and 3 from there on.
PUBLISHED = {
    "conv1": (6, 64, 7, 2),
    "conv2": (64, 128, 5, 2),
    "conv3": (128, 256, 5, 2),
    "conv3_1": (256, 256, 3, 1),
    "conv4": (256, 512, 3, 2),
    "conv4_1": (512, 512, 3, 1),
    "conv5": (512, 512, 3, 2),
    "conv5_1": (512, 512, 3, 1),
    "conv6": (512, 1024, 3, 2),
    "conv6_1": (1024, 1024, 3, 1),
    "deconv5": (1024, 512, 4, 2),
    "deconv4": (1026, 256, 4, 2),
    "deconv3": (770, 128, 4, 2),
    "deconv2": (386, 64, 4, 2),
    "flow6": (1024, 2, 3, 1),
    "flow5": (1026, 2, 3, 1),
    "flow4": (770, 2, 3, 1),
    "flow3": (386, 2, 3, 1),
    "flow2": (194, 2, 3, 1),
    "upsampled5": (2, 2, 4, 2),
    "upsampled4": (2, 2, 4, 2),
    "upsampled3": (2, 2, 4, 2),
    "upsampled2": (2, 2, 4, 2),
}


def images(seed=0, pairs=2, height=64, width=128):
    return torch.rand(pairs, 6, height, width, generator=torch.Generator().manual_seed(seed)) - 0.5


def test_width_1_has_the_published_layers():
    steps = {step.name: step.layer for step in FlowNetS(width=1).steps}
    found = {
        name: (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for name, layer in steps.items()
    }
    assert found == PUBLISHED
    assert {name for name, layer in steps.items() if layer.bias is None} == {f"upsampled{n}" for n in (2, 3, 4, 5)}


def test_a_width_narrows_every_hidden_layer():
    whole, narrow = PUBLISHED, {step.name: step.layer for step in FlowNetS(width=1 / 8).steps}
    for name, (_, channels, *_) in whole.items():
        assert narrow[name].out_channels == (channels if channels == 2 else channels // 8)


def test_the_steps_are_all_that_the_network_does():
    network = FlowNetS(width=1 / 32, scale_channels=3)
    values = {INPUT: images()}
    for step in network.steps:
        result = step.layer(torch.cat([values[source] for source in step.sources], dim=1))
        values[step.name] = leaky_relu(result, SLOPE) if step.activated else result
    flow, scale = network(images())
    assert torch.equal(flow, UNIT * values["flow2"])
    assert scale is not None and torch.equal(scale, values["scale"])
    for level, predicted in zip((2, 3, 4, 5, 6), network.pyramid(images()), strict=True):
        assert torch.equal(predicted, UNIT * values[f"flow{level}"])
        assert predicted.shape == (2, 2, 64 >> level, 128 >> level)


def test_a_copy_has_steps_of_its_own():
    network = FlowNetS(width=1 / 64)
    copied = copy.deepcopy(network)
    with torch.no_grad():
        copied.layers["conv1"].weight.zero_()
    assert network.steps[0].layer is network.layers["conv1"] and network.layers["conv1"].weight.any()
    assert copied.steps[0].layer is copied.layers["conv1"]


def test_the_scale_map_begins_as_1():
    _, scale = FlowNetS(width=1 / 64, scale_channels=5)(images())
    assert scale is not None and torch.equal(scale, torch.ones(2, 5, 16, 32))


def test_first_weights_depend_on_the_seed_alone():
    one, same, other = (FlowNetS(width=1 / 64, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["layers.conv1.weight"], other["layers.conv1.weight"])


def test_an_input_is_two_images_less_a_constant_mean():
    first, second = torch.rand(2, 1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    both = pair(centred(first), centred(second))
    mean = torch.tensor([0.45, 0.432, 0.411])[:, None, None]
    assert torch.equal(both[:, :3], first - mean) and torch.equal(both[:, 3:], second - mean)


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (1, 6, 60, 64), (1, 6, 64, 32), (6, 64, 64)])
def test_refuses_other_shapes(shape):
    with pytest.raises(VideoError, match=r"sides that 64 divides, got \["):
        FlowNetS(width=1 / 64)(torch.zeros(shape))


@pytest.mark.parametrize(("numbers", "problem"), [({"width": 0}, "width"), ({"scale_channels": 0}, "scale_channels")])
def test_refuses_numbers_out_of_range(numbers, problem):
    with pytest.raises(VideoError, match=f"^{problem} must be"):
        FlowNetS(**numbers)


@pytest.mark.parametrize("scale_channels", [None, 4])
def test_a_file_gives_the_network_back(tmp_path, scale_channels):
    network = FlowNetS(width=1 / 64, scale_channels=scale_channels, seed=3)
    save_flownet(network, tmp_path / "flow.safetensors")
    again = load_flownet(tmp_path / "flow.safetensors")
    assert (again.width, again.scale_channels) == (1 / 64, scale_channels)
    assert torch.equal(again(images())[0], network(images())[0])


def test_a_network_gets_a_scale_map_that_its_file_has_not(tmp_path):
    network = FlowNetS(width=1 / 64, seed=3)
    save_flownet(network, tmp_path / "flow.safetensors")
    flow, scale = load_flownet(tmp_path / "flow.safetensors", scale_channels=7)(images())
    assert torch.equal(flow, network(images())[0])
    assert scale is not None and torch.equal(scale, torch.ones(2, 7, 16, 32))


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "flow.safetensors"
    save_flownet(FlowNetS(width=1 / 64, scale_channels=4), path)
    with pytest.raises(CheckpointError, match=r"flow\.safetensors: is a FlowNet-S of width 0\.015625; expected 0\.125"):
        load_flownet(path, width=1 / 8)
    with pytest.raises(CheckpointError, match="its scale map has 4 channels; expected 8"):
        load_flownet(path, scale_channels=8)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "flow.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_flownet(path)
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        load_flownet(path)
    save_file({"weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="is no FlowNet-S"):
        load_flownet(path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_flownet(FlowNetS(width=1 / 64), tmp_path / "none" / "flow.safetensors")


def test_a_damaged_network_is_refused(tmp_path):
    path, about = tmp_path / "flow.safetensors", {"format": "bale FlowNet-S 1", "scale_channels": "0"}
    save_flownet(FlowNetS(width=1 / 64), path)
    weights = load_file(path)
    for width, changed, problem in (
        ("wide", weights, "is damaged: could not convert"),
        ("9", weights, "is damaged: width must be"),
        ("0.125", weights, "is damaged: Error.* in loading state_dict"),
        ("0.015625", weights | {"layers.flow2.bias": torch.full((2,), float("nan"))}, "flow2.bias has numbers"),
    ):
        save_file(changed, path, about | {"width": width})
        with pytest.raises(CheckpointError, match=problem):
            load_flownet(path)
