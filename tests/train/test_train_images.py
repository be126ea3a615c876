"""Training on images is Adam along a cosine, the same at every call, and leaves nothing behind but the parameters."""

import math
import signal

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bale.data import Images, digits
from bale.errors import BaleError
from bale.models import LeNet5, LSTMClassifier, ResNet20
from bale.train import image_accuracy, train_images
from bale.train.order import mini_batches


@pytest.fixture(scope="module")
def train():
    return digits("train", size=16)


def lenet():
    torch.manual_seed(0)
    return LeNet5(size=16)


def with_dropout():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10)).double()


def same(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(left[0] == right[0] and torch.equal(left[1], right[1]) for left, right in pairs)


@pytest.mark.parametrize("make", [lenet, lambda: ResNet20(width=4), lambda: LSTMClassifier(inputs=16, hidden=32)])
def test_the_loss_falls_and_accuracy_rises(train, make):
    torch.manual_seed(0)
    model, some = make(), train.take(400)
    before = image_accuracy(model, some)
    losses = train_images(model, some, epochs=4, batch_size=32, lr=5e-3)
    assert len(losses) == 4 and losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]
    assert image_accuracy(model, some) > before + 0.2


@pytest.mark.parametrize("make", [lenet, with_dropout])
def test_the_same_call_gives_the_same_parameters_and_another_seed_others(train, make):
    some, models = train.take(70), [make(), make(), make()]
    losses = [train_images(model, some, epochs=2, seed=seed) for model, seed in zip(models, (1, 1, 2), strict=True)]
    assert losses[0] == losses[1] != losses[2]
    assert same(models[0], models[1]) and not same(models[0], models[2])


def test_what_the_model_draws_depends_on_the_seed_alone(train):
    some, models = train.take(70), [with_dropout(), with_dropout()]
    for model, before in zip(models, (3, 4), strict=True):
        torch.manual_seed(before)
        train_images(model, some, epochs=1)
        drawn = torch.rand(3)
        torch.manual_seed(before)
        assert torch.equal(drawn, torch.rand(3))  # as if nothing had been trained
    assert same(*models)


def test_a_step_is_adam_along_a_cosine_to_zero(train):
    some, model, by_hand = train.take(50), lenet().double(), lenet().double()
    losses = train_images(model, some, epochs=2, batch_size=20, lr=1e-2, seed=7)
    optimizer, expected, step = torch.optim.Adam(by_hand.parameters()), [], 0
    for epoch in range(2):
        total = 0.0
        for rows in mini_batches(50, 20, seed=7, epoch=epoch):
            optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * step / 6)) / 2
            optimizer.zero_grad()
            pixels = (some.images[rows].float() / 255).double()
            loss = cross_entropy(by_hand(pixels), some.labels[rows])
            loss.backward()
            optimizer.step()
            total, step = total + len(rows) * loss.item(), step + 1
        expected.append(total / 50)
    assert losses == pytest.approx(expected, rel=1e-10)
    for one, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_every_step_is_told(train):
    records = []
    losses = train_images(lenet(), train.take(50), epochs=2, batch_size=20, on_step=records.append)
    assert [(record.step, record.steps, record.epoch) for record in records] == [
        (step, 6, (step - 1) // 3) for step in range(1, 7)
    ]
    first = [record.loss for record in records[:3]]
    assert losses[0] == pytest.approx((20 * first[0] + 20 * first[1] + 10 * first[2]) / 50)


def test_the_model_is_left_in_eval_mode_with_its_norms_moved(train):
    model = ResNet20(width=2)
    train_images(model, train.take(20), epochs=1)
    assert not any(module.training for module in model.modules())
    assert model.norm.running_mean.any()


@pytest.mark.parametrize("where", ["in a step", "between steps"])
def test_an_interrupt_comes_through_after_a_whole_step(train, python_handles_ctrl_c, where):
    """A Ctrl-C in the backward pass of the second step: the optimizer still makes its update."""
    some, model, whole = train.take(50), lenet(), lenet()
    state, steps, passes = torch.get_rng_state(), [], []

    def press(gradient):
        passes.append(1)
        if where == "in a step" and len(passes) == 2:
            signal.raise_signal(signal.SIGINT)

    def told(record):
        steps.append(record.step)
        if where == "between steps" and record.step == 2:
            raise KeyboardInterrupt

    model.conv1.weight.register_hook(press)
    with pytest.raises(KeyboardInterrupt):
        train_images(model, some, epochs=5, batch_size=20, on_step=told)
    assert not model.training and torch.equal(torch.get_rng_state(), state)
    assert (len(passes), steps) == (2, [1] if where == "in a step" else [1, 2])

    def stop(record):
        if record.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_images(whole, some, epochs=5, batch_size=20, on_step=stop)
    assert same(model, whole)


def test_a_loss_that_is_not_finite_is_refused_before_it_spoils_the_parameters(train):
    model = lenet()
    with torch.no_grad():
        model.fc3.bias[0] = torch.nan
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(BaleError, match=r"the loss is nan at step 1: a lower learning rate \(lr\) usually helps"):
        train_images(model, train.take(20), epochs=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items() if name != "fc3.bias")
    assert not model.training


def test_a_penalty_is_added_to_what_is_minimised_but_not_to_what_is_told(train):
    some, model, by_hand, told = train.take(50), lenet().double(), lenet().double(), []

    def penalty():
        return 0.3 * (model.fc3.weight - 1).square().sum()

    losses = train_images(model, some, epochs=1, batch_size=20, lr=1e-2, penalty=penalty, on_step=told.append)
    optimizer, entropies = torch.optim.Adam(by_hand.parameters()), []
    for step, rows in enumerate(mini_batches(50, 20, seed=0, epoch=0)):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * step / 3)) / 2
        optimizer.zero_grad()
        entropy = cross_entropy(by_hand((some.images[rows].float() / 255).double()), some.labels[rows])
        entropy.backward()
        by_hand.fc3.weight.grad += 2 * 0.3 * (by_hand.fc3.weight.detach() - 1)
        entropies.append(entropy.item())
        optimizer.step()
    assert [record.loss for record in told] == pytest.approx(entropies, rel=1e-10)
    assert losses == pytest.approx([sum(map(math.prod, zip((20, 20, 10), entropies, strict=True))) / 50], rel=1e-10)
    for one, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_penalty_of_nothing_changes_nothing(train):
    some, models = train.take(50), [with_dropout(), with_dropout()]
    losses = [
        train_images(model, some, epochs=2, penalty=penalty)
        for model, penalty in zip(models, (None, lambda: torch.zeros(())), strict=True)
    ]
    assert losses[0] == losses[1] and same(*models)


def test_a_penalty_that_is_not_finite_or_not_one_number_is_refused_before_the_update(train):
    model = lenet()
    for penalty, problem in (
        (torch.tensor(torch.inf), r"the loss is inf at step 1: a lower learning rate \(lr\) usually helps"),
        (torch.ones(2), r"a penalty is one number, a tensor of no axes; got \[2\]: sum it up"),
    ):
        with pytest.raises(BaleError, match=problem):
            train_images(model, train.take(20), epochs=1, penalty=lambda penalty=penalty: penalty)
        assert same(model, lenet())


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_accuracy_counts_the_images_whose_label_is_largest(train, batch_size):
    model, some = lenet().eval(), train.take(23)
    right = sum(
        max(range(10), key=model(image[None] / 255)[0].tolist().__getitem__) == label
        for image, label in zip(some.images, some.labels.tolist(), strict=True)
    )
    assert image_accuracy(model, some, batch_size) == right / 23


def test_accuracy_leaves_every_module_in_its_mode(train):
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(256), nn.Linear(256, 10)).train()
    model[1].eval()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    image_accuracy(model, train.take(5))
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"lr": 0.0}, r"lr must be above 0 and finite, got 0\.0"),
        ({"lr": math.inf}, "lr must be above 0 and finite, got inf"),
        ({"lr": math.nan}, "lr must be above 0 and finite, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused(train, numbers, problem):
    with pytest.raises(BaleError, match=problem):
        train_images(lenet(), train, **{"epochs": 1, **numbers})


def test_no_images_are_refused(train):
    with pytest.raises(BaleError, match="digits: has no images; expected at least one"):
        train_images(lenet(), train[:0], epochs=1)
    with pytest.raises(BaleError, match="digits: has no images; expected at least one"):
        image_accuracy(lenet(), train[:0])
    with pytest.raises(BaleError, match="batch_size must be at least 1, got 0"):
        image_accuracy(lenet(), train, batch_size=0)


def test_labels_without_logits_are_refused_before_the_first_step():
    """The label 3 is in the second mini-batch only."""
    some = Images(torch.zeros(4, 1, 16, 16).byte(), torch.tensor([0, 1, 2, 3]), ("a", "b", "c", "d"), "made")
    model = LeNet5(classes=3, size=16)
    steps = []
    for call in (
        lambda: train_images(model, some, epochs=1, batch_size=1, on_step=steps.append),
        lambda: image_accuracy(model, some, batch_size=1),
    ):
        with pytest.raises(
            BaleError, match=r"made: an image has the label 3 \(d\), and .* 3 logits; make it with classes=4"
        ):
            call()
    assert not steps


def test_a_model_of_something_else_is_refused(train):
    with pytest.raises(BaleError, match=r"for 5 images the model returned \[5, 6, 16, 16\]"):
        image_accuracy(lenet().conv1, train.take(5))
