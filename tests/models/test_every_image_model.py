"""What holds for every model of images: a plain module of a batch, whose every step is a module that hooks see."""

import copy
import pickle

import pytest
import torch
from tests.models.made_images import CLASSES, IMAGE_CASES, drawn, made
from torch import fx

everyone = pytest.mark.parametrize("name", IMAGE_CASES)


class Leaves(fx.Tracer):
    """Traces down to the modules that have no modules."""

    def is_leaf_module(self, m, module_qualified_name):
        return not any(m.children())


@everyone
def test_a_batch_of_images_has_a_row_of_logits_each(name):
    model = made(name)
    assert [tuple(model(drawn(name, count)).shape) for count in (2, 5)] == [(2, CLASSES), (5, CLASSES)]
    assert tuple(model.eval()(drawn(name, 0)).shape) == (0, CLASSES)


@everyone
def test_an_image_alone_has_the_logits_that_it_has_in_a_batch(name):
    model, images = made(name).eval(), drawn(name, 5)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, rtol=1e-10, atol=1e-10)


@everyone
def test_the_seed_decides(name):
    images = drawn(name, 3)
    assert torch.equal(made(name, seed=1)(images), made(name, seed=1)(images))
    assert not torch.equal(made(name, seed=1)(images), made(name, seed=2)(images))


@everyone
def test_copies_compute_the_same(name):
    model, other, images = made(name).eval(), made(name, seed=5).eval(), drawn(name, 3)
    other.load_state_dict(model.state_dict())
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other):
        assert torch.equal(copied(images), model(images))


@everyone
def test_forward_follows_the_models_dtype_and_device(name):
    model, images = made(name), drawn(name, 3)
    assert model(images).dtype == torch.float64
    assert model.float()(images.float()).dtype == torch.float32
    assert model.to("meta")(images.float().to("meta")).device.type == "meta"


@everyone
def test_gradients_reach_every_parameter(name):
    model = made(name)
    model(drawn(name, 6)).square().sum().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), path


@everyone
def test_every_step_is_a_module_of_its_own(name):
    model = made(name)
    nodes = list(Leaves().trace(model).nodes)
    steps = [node for node in nodes if node.op not in ("placeholder", "output", "call_module")]
    assert {getattr(node.target, "__name__", node.target) for node in steps} == set(IMAGE_CASES[name].own)
    called = [node.target for node in nodes if node.op == "call_module"]
    leaves = [path for path, module in model.named_modules() if not any(module.children())]
    assert sorted(called) == sorted(leaves)  # each once: a hook's name says which


@everyone
def test_images_are_left_as_they_were(name):
    model, images = made(name).eval(), drawn(name, 3)
    first = model(images)
    assert torch.equal(images, drawn(name, 3))
    assert torch.equal(model(images), first)


@everyone
def test_images_of_another_shape_are_refused(name):
    model, images = made(name), drawn(name, 3)
    for wrong in (images[0, 0], images.repeat(1, 2, 1, 1), images[None]):
        with pytest.raises(ValueError, match=r"expected images \[n, .* got a tensor \[" + str(wrong.shape[0])):
            model(wrong)
