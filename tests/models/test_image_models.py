"""The networks of images have the layers of their papers: parameters and multiply-accumulates counted by hand."""

import pytest
import torch
from torch import nn

from bale.models import VGG8, LeNet5, LSTMClassifier, ResNet20
from bale.models.resnet20 import Add, Shortcut


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_accumulates(model, shape):
    """Those of the convolutions and full layers for one image, each counted from its output by a hook."""
    counts = {}

    def count(module, args, output):
        inputs = module.in_features if isinstance(module, nn.Linear) else module.weight[0].numel()
        counts[module] = counts.get(module, 0) + output[0].numel() * inputs

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return list(counts.values())


def test_lenet5_has_the_layers_of_the_paper_with_all_maps_connected():
    by_hand = [5 * 5 * 6 + 6, 6 * 5 * 5 * 16 + 16, 400 * 120 + 120, 120 * 84 + 84, 84 * 10 + 10]
    assert parameters(LeNet5()) == sum(by_hand) == 61_706
    by_hand = [28 * 28 * 6 * 25, 10 * 10 * 16 * 150, 400 * 120, 120 * 84, 84 * 10]
    assert multiply_accumulates(LeNet5(), (1, 28, 28)) == by_hand


@pytest.mark.parametrize("size", [12, 13, 14, 15, 16, 28, 32])
def test_lenet5_fits_its_size(size):
    assert LeNet5(classes=3, channels=2, size=size)(torch.zeros(2, 2, size, size)).shape == (2, 3)


def test_vgg8_counted_by_hand():
    convolutions = 9 * (1 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    norms = 2 * (16 + 16 + 32 + 32 + 64 + 64)
    full = 64 * 3 * 3 * 128 + 128 + 128 * 10 + 10
    assert parameters(VGG8()) == convolutions + norms + full == 147_162


def test_the_large_vgg8_is_the_one_of_neurosim():
    """Its manual: 3 x 3 convolutions of 128-128-256-256-512-512 maps, 8192-1024-10, 615.9 million products."""
    model = VGG8(channels=3, size=32, width=128, hidden=1024)
    maps = [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
    full = [(module.in_features, module.out_features) for module in model.modules() if isinstance(module, nn.Linear)]
    assert maps == [128, 128, 256, 256, 512, 512]
    assert full == [(8192, 1024), (1024, 10)]
    products = multiply_accumulates(model, (3, 32, 32))
    assert products[:2] == [3 * 9 * 128 * 32 * 32, 128 * 9 * 128 * 32 * 32]
    assert sum(products) == 615_917_568


@pytest.mark.parametrize("size", [8, 9, 15, 16, 28])
def test_vgg8_fits_its_size(size):
    model = VGG8(classes=3, channels=2, size=size, width=2, hidden=5)
    assert model(torch.zeros(2, 2, size, size)).shape == (2, 3)


def test_resnet20_counted_by_hand():
    convolutions = 9 * (1 * 8 + 6 * 8 * 8 + 8 * 16 + 5 * 16 * 16 + 16 * 32 + 5 * 32 * 32)
    norms = 2 * (7 * 8 + 6 * 16 + 6 * 32)
    assert parameters(ResNet20()) == convolutions + norms + 32 * 10 + 10 == 67_906


def test_the_papers_resnet20_has_its_layers():
    """Table 6 of He et al.: 20 layers, .27 million parameters; 41 million products by hand, at 32 x 32."""
    model = ResNet20(channels=3, width=16)
    assert parameters(model) == 269_722
    products = multiply_accumulates(model, (3, 32, 32))
    assert len(products) == 20
    assert sum(products) == (
        9 * (3 * 16 + 6 * 16 * 16) * 32 * 32
        + 9 * (16 * 32 + 5 * 32 * 32) * 16 * 16
        + 9 * (32 * 64 + 5 * 64 * 64) * 8 * 8
        + 640
    )


def test_a_shortcut_is_every_other_pixel_and_maps_of_zeros():
    x = torch.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4)
    y = Shortcut(added=2, stride=2)(x)
    assert y.shape == (2, 5, 3, 2)
    assert all(
        torch.equal(y[:, :3, row, column], x[:, :, 2 * row, 2 * column]) for row in range(3) for column in (0, 1)
    )
    assert not y[:, 3:].any()


def test_resnet20_adds_what_its_blocks_read():
    """With the last norm of every block at zero, a block passes on its shortcut alone."""
    model = ResNet20(width=2).eval()
    added = []
    for module in model.modules():
        if isinstance(module, Add):
            module.register_forward_hook(lambda module, args, output: added.append(output))
    for stage in (model.stage1, model.stage2, model.stage3):
        for block in stage:
            nn.init.zeros_(block.norm2.weight)
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first = model.relu(model.norm(model.conv(images)))
    model(images)
    assert len(added) == 9
    assert all(torch.equal(x, first) for x in added[:3])
    assert torch.equal(added[-1][:, :2], first[:, :, ::4, ::4]) and not added[-1][:, 2:].any()


def test_lstm_classifier_counted_by_hand():
    gates = 4 * (28 * 128 + 128 * 128 + 2 * 128)  # PyTorch's have two biases
    assert parameters(LSTMClassifier()) == gates + 128 * 10 + 10 == 82_186


def test_an_lstm_classifier_reads_rows_from_top_to_bottom():
    torch.manual_seed(0)
    model = LSTMClassifier(classes=3, inputs=5, hidden=4).double()
    images = torch.rand(2, 1, 6, 5, dtype=torch.float64)
    cell = nn.LSTMCell(5, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in model.lstm.state_dict().items()})
    state = None
    for row in range(6):
        state = cell(images[:, 0, row], state)
    torch.testing.assert_close(model(images), model.fc(state[0]), rtol=1e-10, atol=1e-10)
    assert torch.equal(model(images), model(images[:, 0]))


def test_an_lstm_classifier_refuses_images_without_rows():
    with pytest.raises(ValueError, match=r"with at least one row, got a tensor \[2, 0, 28\]"):
        LSTMClassifier()(torch.zeros(2, 0, 28))


@pytest.mark.parametrize("make", [LeNet5, VGG8, ResNet20, LSTMClassifier])
def test_no_classes_are_no_classification(make):
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        make(classes=0)


@pytest.mark.parametrize(
    ("make", "sizes", "problem"),
    [
        (LeNet5, {"size": 11}, "size must be at least 12, got 11"),
        (LeNet5, {"channels": 0}, "channels must be at least 1, got 0"),
        (VGG8, {"size": 7}, "size must be at least 8, got 7"),
        (VGG8, {"width": 0}, "width must be at least 1, got 0"),
        (VGG8, {"hidden": 0}, "hidden must be at least 1, got 0"),
        (ResNet20, {"width": 0}, "width must be at least 1, got 0"),
        (LSTMClassifier, {"inputs": 0}, "inputs must be at least 1, got 0"),
        (LSTMClassifier, {"layers": 0}, "layers must be at least 1, got 0"),
    ],
)
def test_sizes_that_are_none_are_refused(make, sizes, problem):
    with pytest.raises(ValueError, match=problem):
        make(**sizes)
