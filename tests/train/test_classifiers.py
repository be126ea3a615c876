"""Networks by name: made for the images, the same from the same seed, the user's own from files and modules."""

import sys

import pytest
import torch
from torch import nn

from bale.data import Images, digits
from bale.errors import BaleError
from bale.train import CLASSIFIERS, build_classifier, load_weights, save_weights


@pytest.fixture(scope="module")
def images():
    return digits("train", size=16).take(4)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_they_are_made_for_the_images(images, name):
    model = build_classifier(name, images)
    assert model(images.pixels()).shape == (4, 10)
    assert not model.training


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_seed_says_which_weights(images, name):
    before = torch.random.get_rng_state()
    first, again, other = (build_classifier(name, images, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    assert any(not torch.equal(tensor, other[key]) for key, tensor in first.items())


def test_widths(images):
    assert build_classifier("vgg8", images, width=4).get_parameter("features.0.weight").shape[0] == 4
    assert build_classifier("resnet20", images, width=3).get_parameter("conv.weight").shape[0] == 3


@pytest.mark.parametrize(("name", "problem"), [("lenet5", "takes square images"), ("lstm", "fails on images")])
def test_images_that_do_not_fit(name, problem):
    colour = Images(torch.zeros(2, 3, 12, 16, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"), "colour")
    with pytest.raises(BaleError, match=f"^{name}: {problem}"):
        build_classifier(name, colour)


def test_a_file_may_import_what_lies_beside_it(images, tmp_path):
    (tmp_path / "beside_it.py").write_text("from torch import nn\nLAYER = nn.Linear\n")
    (tmp_path / "nets.py").write_text(
        "from beside_it import LAYER\nfrom torch import nn\n\n"
        "class Nets:\n    @staticmethod\n    def small():\n        return nn.Sequential(nn.Flatten(), LAYER(256, 10))\n"
    )
    paths = list(sys.path)
    try:
        model = build_classifier(f"{tmp_path / 'nets.py'}:Nets.small", images)
    finally:
        sys.modules.pop("beside_it", None)
    assert isinstance(model, nn.Sequential)
    assert sys.path == paths


def test_a_module_comes_as_it_is(images, tmp_path):
    (tmp_path / "nets.py").write_text(
        "from bale.models import LeNet5\nnet = LeNet5(size=16)\nnet.fc3.bias.data[:] = 7\n"
    )
    assert (build_classifier(f"{tmp_path / 'nets.py'}:net", images).get_parameter("fc3.bias") == 7).all()


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_weights_there_and_back(images, tmp_path, suffix):
    first, other = (build_classifier("resnet20", images, seed=seed) for seed in (0, 1))
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(first.state_dict(), path)
    else:
        save_weights(first, path)
    load_weights(other, path)
    assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in first.state_dict().items())


def test_tied_weights_can_be_saved(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "tied.safetensors")
    load_weights(model, tmp_path / "tied.safetensors")


def test_weights_that_cannot_be_written(tmp_path):
    with pytest.raises(BaleError, match="cannot be written"):
        save_weights(nn.Linear(2, 2), tmp_path / "no" / "such.safetensors")
