"""Training batched is training one sample at a time; limits end it; what it reports is what happened."""

import pytest
import torch

from bale.batching.api import batch
from bale.errors import BaleError
from bale.train import STAGES, TrainConfig, accuracy, accuracy_and_named, fit
from bale.train.order import mini_batches
from bale.train.step import classification_loss


def test_the_loop_is_the_plain_one(samples, make_model):
    config = TrainConfig(batch_size=8, epochs=2, lr=0.01)
    model, plain = make_model(), make_model()
    report = fit(model, samples, config)

    optimizer = torch.optim.Adam(plain.parameters(), lr=0.01)
    for epoch in range(2):
        for indices in mini_batches(20, 8, config.seed, epoch):
            optimizer.zero_grad()
            outputs = [plain(samples[index][0]) for index in indices]
            classification_loss(outputs, [samples[index][1] for index in indices])[0].backward()
            optimizer.step()
    assert report.steps == 6
    for trained, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(trained, expected, rtol=1e-4, atol=1e-5)


def test_a_model_learns(samples, make_model):
    model = make_model()
    report = fit(model, samples, TrainConfig(batch_size=8, epochs=15, lr=0.05), valid=samples)
    assert report.epochs[-1].loss < 0.5 * report.epochs[0].loss
    assert report.best is not None and report.best > 0.8


@pytest.mark.parametrize(
    ("limits", "steps", "epoch"),
    [
        ({"steps": 0}, 0, 0),
        ({"steps": 2}, 2, 0),
        ({"steps": 3}, 3, 1),
        ({"steps": 7}, 7, 2),
        ({"epochs": 0}, 0, 0),
        ({"epochs": 2}, 6, 2),
        ({"epochs": 2, "steps": 4}, 4, 1),
        ({"epochs": 1, "steps": 99}, 3, 1),
        ({"minutes": 1e-9}, 0, 0),
    ],
)
def test_the_first_limit_ends_the_run(samples, make_model, limits, steps, epoch):
    report = fit(make_model(), samples, TrainConfig(batch_size=8, **limits), valid=samples[:4])
    assert (report.steps, report.step, report.epoch) == (steps, steps, epoch)
    assert not report.interrupted
    measured = [record.epoch for record in report.epochs if record.valid is not None]
    assert measured == list(range(epoch))


def test_the_report_adds_up(samples, make_model):
    records = []
    report = fit(make_model(), samples, TrainConfig(batch_size=8, epochs=2), on_step=records.append)
    assert [record.step for record in records] == [1, 2, 3, 4, 5, 6]
    assert [record.epoch for record in records] == [0, 0, 0, 1, 1, 1]
    assert [record.samples for record in records] == [8, 8, 4, 8, 8, 4]
    assert [record.rows for record in records] == [8, 8, 4, 8, 8, 4]
    for name in ("samples", "rows", "nodes", "batches", "bound"):
        assert getattr(report, name) == sum(getattr(record, name) for record in records)
    assert tuple(report.seconds) == STAGES
    assert all(record.batches >= record.bound > 0 for record in records)
    assert report.wall >= sum(report.seconds.values())
    first = records[:3]
    assert report.epochs[0].samples == report.epochs[0].rows == 20
    assert report.epochs[0].loss == pytest.approx(sum(record.loss * record.samples for record in first) / 20)
    assert report.epochs[0].accuracy == pytest.approx(sum(record.correct for record in first) / 20)


def test_the_seed_decides(samples, make_model, assert_same):
    models = [make_model(), make_model(), make_model()]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        fit(model, samples, TrainConfig(batch_size=8, steps=2, seed=seed))
    assert_same(models[0], models[1])
    with pytest.raises(AssertionError):
        assert_same(models[0], models[2])


def test_a_loss_that_is_not_finite_ends_the_run(samples, make_model, assert_same):
    model = make_model()
    with torch.no_grad():
        model.head.bias[0] = torch.inf
    before = make_model()
    before.load_state_dict(model.state_dict())
    with pytest.raises(BaleError, match=r"the loss is .* at step 1: a lower learning rate"):
        fit(model, samples, TrainConfig(batch_size=8))
    assert_same(model, before)


def test_no_samples_no_steps(make_model):
    report = fit(make_model(), [], TrainConfig(epochs=2))
    assert report.steps == 0 and report.samples_per_second is None


def test_accuracy_is_the_share_of_right_answers_in_eval_mode(samples, make_random_model):
    model = make_random_model().eval()
    right = sum(int(model(tree).argmax()) == label for tree, label in samples)
    model.train()
    report = fit(model, samples, TrainConfig(epochs=0))
    assert report.best is None
    batched = batch(model)
    assert accuracy(batched, samples, batch_size=7) == right / len(samples)
    assert model.training
    assert accuracy(batched, [], batch_size=7) is None


def test_named_accuracy_leaves_the_rest_out_of_samples_and_answers(samples, make_random_model):
    model = make_random_model().eval()
    batched = batch(model)
    for rest in range(3):
        answers = [(model(tree).tolist(), label) for tree, label in samples if label != rest]
        others = [label for label in range(3) if label != rest]
        right = sum(max(others, key=logits.__getitem__) == label for logits, label in answers)
        expected = accuracy(batched, samples, 7), right / len(answers)
        assert accuracy_and_named(batched, samples, batch_size=7, rest=rest) == expected
    assert accuracy_and_named(batched, samples, batch_size=7, rest=None) == (accuracy(batched, samples, 7), None)
    only = [(tree, 1) for tree, _ in samples]
    assert accuracy_and_named(batched, only, batch_size=7, rest=1)[1] is None
    assert accuracy_and_named(batched, [], batch_size=7, rest=1) == (None, None)
