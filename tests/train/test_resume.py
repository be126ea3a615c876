"""A run that was stopped and resumed ends with the parameters, bit for bit, of one that was not."""

import pytest
import torch

from bale.errors import CheckpointError
from bale.train import TrainConfig, fit, load_checkpoint

EPOCH = 3  # steps: 20 samples in mini-batches of 8


@pytest.fixture(scope="module")
def runs():
    """Whole runs by their limits: each is made once, and compared with many that were stopped."""
    return {}


@pytest.fixture
def run_whole(runs, samples, make_random_model):
    """The model of a run that was not stopped."""

    def run(config, valid=()):
        key = config, bool(valid)
        if key not in runs:
            runs[key] = make_random_model()
            fit(runs[key], samples, config, valid=valid)
        return runs[key]

    return run


@pytest.mark.parametrize("stop", [0, EPOCH - 1, EPOCH, EPOCH + 1])
def test_resume_is_exact(samples, make_random_model, run_whole, assert_same, tmp_path, stop):
    config = TrainConfig(batch_size=8, steps=2 * EPOCH + 1)
    whole = run_whole(config, valid=samples[:5])
    first = make_random_model()
    fit(first, samples, TrainConfig(batch_size=8, steps=stop), valid=samples[:5], save=tmp_path)
    torch.manual_seed(99)  # another process has another random state
    second = make_random_model()
    torch.nn.init.zeros_(second.head.weight)
    report = fit(second, samples, config, valid=samples[:5], resume=load_checkpoint(tmp_path))
    assert report.steps == config.steps - stop and report.step == config.steps
    assert_same(whole, second)


@pytest.mark.parametrize("stop", [1, EPOCH, EPOCH + 1])
def test_a_ctrl_c_costs_nothing(samples, make_random_model, run_whole, assert_same, tmp_path, stop):
    config = TrainConfig(batch_size=8, epochs=3)
    whole = run_whole(config)

    def press(record):
        if record.step == stop:
            raise KeyboardInterrupt

    report = fit(make_random_model(), samples, config, on_step=press, save=tmp_path)
    assert report.interrupted and report.steps == stop
    resumed = make_random_model()
    report = fit(resumed, samples, config, resume=load_checkpoint(tmp_path))
    assert not report.interrupted
    assert_same(whole, resumed)


def test_a_ctrl_c_while_validating_validates_again(samples, make_model, assert_same, tmp_path, monkeypatch):
    config = TrainConfig(batch_size=8, epochs=2)
    whole = make_model()
    expected = fit(whole, samples, config, valid=samples[:5])

    def press(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bale.train.loop.accuracy", press)
        report = fit(make_model(), samples, config, valid=samples[:5], save=tmp_path)
    assert report.interrupted and report.steps == EPOCH and report.best is None
    resumed = make_model()
    report = fit(resumed, samples, config, valid=samples[:5], resume=load_checkpoint(tmp_path))
    assert report.best == expected.best
    assert_same(whole, resumed)


def test_a_step_that_is_broken_off_leaves_the_last_checkpoint(samples, make_model, tmp_path, monkeypatch):
    """Between backward and update, say, parameters and place do not belong together."""
    steps = []

    def press(optimizer, *args):
        steps.append(optimizer)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.Adam, "step", press)
    report = fit(make_model(), samples, TrainConfig(batch_size=8, epochs=3, save_every=2), save=tmp_path)
    assert report.interrupted and report.steps == 2
    assert load_checkpoint(tmp_path).place.step == 2


def test_checkpoints_come_every_few_steps_after_epochs_and_at_the_end(samples, make_model, tmp_path):
    seen = []

    def look(record):
        present = (tmp_path / "checkpoint.json").exists()
        seen.append(load_checkpoint(tmp_path).place.step if present else None)

    fit(make_model(), samples, TrainConfig(batch_size=4, steps=8, save_every=3), on_step=look, save=tmp_path)
    assert seen == [None, None, None, 3, 3, 5, 6, 6]  # an epoch is five steps
    assert load_checkpoint(tmp_path).place.step == 8


def test_the_best_accuracy_survives(samples, make_model, tmp_path):
    first = fit(make_model(), samples, TrainConfig(batch_size=8, epochs=1), valid=samples[:5], save=tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.place.best == first.best is not None
    second = fit(make_model(), samples, TrainConfig(batch_size=8, epochs=1), resume=checkpoint)
    assert second.steps == 0 and second.best == first.best


def test_a_new_learning_rate_is_taken(samples, make_model, assert_same, tmp_path):
    fit(make_model(), samples, TrainConfig(batch_size=8, steps=1), save=tmp_path)
    models = [make_model(), make_model()]
    for model, rate in zip(models, (0.002, 0.2), strict=True):
        fit(model, samples, TrainConfig(batch_size=8, steps=2, lr=rate), resume=load_checkpoint(tmp_path))
    with pytest.raises(AssertionError):
        assert_same(*models)


def test_a_checkpoint_of_another_model_is_refused(samples, make_model, make_random_model, tmp_path):
    fit(make_model(), samples, TrainConfig(batch_size=8, steps=1), save=tmp_path)
    for other in (make_model(hidden=7), make_random_model()):
        with pytest.raises(CheckpointError, match="the checkpoint is of another model") as error:
            fit(other, samples, TrainConfig(), resume=load_checkpoint(tmp_path))
        assert "\n" not in str(error.value)
