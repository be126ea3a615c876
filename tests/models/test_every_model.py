"""What holds for every model that is written for one sample: it is a plain module, whose cells take tensors alone.

Models that take a batch of images are held to `test_every_image_model.py`.
"""

import copy
import pickle

import pytest
import torch
from tests.models.made import CASES, drawn, made
from tests.models.made_images import IMAGE_CASES
from torch import nn

import bale.models

SIZES = (1, 2, 5, 9)
everyone = pytest.mark.parametrize("name", CASES)


def test_every_exported_model_is_of_one_sample_or_of_a_batch_of_images():
    exported = {
        name
        for name in bale.models.__all__
        if isinstance(model := getattr(bale.models, name), type) and issubclass(model, nn.Module)
    }
    assert exported == CASES.keys() | IMAGE_CASES.keys()
    assert not CASES.keys() & IMAGE_CASES.keys()


@everyone
def test_the_seed_decides(name):
    (sample,) = drawn(name, (5,))
    assert torch.equal(made(name, seed=1)(sample), made(name, seed=1)(sample))
    assert not torch.equal(made(name, seed=1)(sample), made(name, seed=2)(sample))


@everyone
def test_copies_compute_the_same(name):
    model, other = made(name), made(name, seed=5)
    other.load_state_dict(model.state_dict())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other):
        for sample in drawn(name, SIZES):
            assert torch.equal(copied(sample), model(sample))


@everyone
def test_state_dict_holds_the_parameters_alone(name):
    model = made(name)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@everyone
def test_forward_follows_the_models_dtype_and_device(name):
    model = made(name)
    (sample,) = drawn(name, (5,))
    assert model(sample).dtype == torch.float64
    assert model.float()(sample).dtype == torch.float32
    assert model.to("meta")(sample).device.type == "meta"


@everyone
def test_gradients_reach_every_parameter(name):
    model = made(name)
    sum(model(sample).square().sum() for sample in drawn(name, (4, 6, 8))).backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), path


@everyone
def test_every_cell_takes_tensors_alone(name):
    def check(module, args, kwargs):
        assert args and not kwargs
        flat, _ = torch.utils._pytree.tree_flatten(args)
        assert all(isinstance(argument, torch.Tensor) for argument in flat)

    model = made(name)
    for module in list(model.modules())[1:]:
        module.register_forward_pre_hook(check, with_kwargs=True)
    for sample in drawn(name, SIZES):
        model(sample)


@everyone
def test_a_sample_is_left_as_it_was(name):
    model, samples = made(name), drawn(name, SIZES)
    first = [model(sample) for sample in samples]
    assert samples == drawn(name, SIZES)
    for sample, logits in zip(samples, first, strict=True):
        assert torch.equal(model(sample), logits)
