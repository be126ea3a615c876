"""Training on images that was stopped and goes on ends, bit for bit, like training that was not stopped."""

import json
import signal
from io import StringIO

import pytest
import torch
from rich.console import Console
from torch import nn

from bale.cli.progress import ImageProgress
from bale.data import Images
from bale.errors import BaleError, CheckpointError
from bale.train import Checkpoint, Place, TrainConfig, load_checkpoint, steps_done, train_images

EPOCHS, EPOCH = 3, 3  # steps in an epoch: 20 images in mini-batches of 8
LAST = EPOCHS * EPOCH
FILES = ("checkpoint.json", "model.safetensors", "optimizer.safetensors", "random.safetensors", "state.safetensors")


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(5)
    pixels = torch.randint(0, 256, (20, 1, 4, 4), generator=generator).byte()
    return Images(pixels, torch.arange(20) % 3, ("a", "b", "c"), "random")


class Pull:
    """Pulls weights to where they were some steps ago: a penalty that depends on all steps before, as ADMM's does."""

    def __init__(self, model):
        self.weight = model.last.weight
        self.goal = torch.zeros_like(self.weight)
        self.strength = torch.tensor(0.01)

    def penalty(self):
        noise = 1 + 0.1 * torch.rand(())  # from the run's own random state
        return self.strength * noise * (self.weight - self.goal).square().sum()

    def move(self):
        self.goal = 0.5 * self.goal + 0.5 * self.weight.detach()
        self.strength = 1.1 * self.strength

    def state_dict(self):
        return {"goal": self.goal, "strength": self.strength}

    def load_state_dict(self, state):
        self.goal, self.strength = state["goal"], state["strength"]


class Net(nn.Sequential):
    """Draws (dropout) and counts (batch norm)."""

    def __init__(self, hidden=6):
        super().__init__()
        self.flat = nn.Flatten()
        self.first = nn.Linear(16, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.drop = nn.Dropout()
        self.last = nn.Linear(hidden, 3)


class Run:
    """A model from nothing, its state, and what happened on the way."""

    def __init__(self, seed=0, model=None):
        torch.manual_seed(seed)
        self.model = Net() if model is None else model
        self.pull = Pull(self.model)
        self.told, self.losses = [], []

    def train(self, images, folder=None, stop=None, **changes):
        def on_step(record):
            self.told.append(record)
            self.pull.move()
            if record.step == stop:
                raise KeyboardInterrupt

        numbers = {"epochs": EPOCHS, "batch_size": 8, "lr": 0.01, "seed": 3, **changes}
        others = {"on_step": on_step, "penalty": self.pull.penalty, "state": self.pull}
        return train_images(self.model, images, save=folder, **{**others, **numbers})

    def stopped(self, images, folder, stop):
        with pytest.raises(KeyboardInterrupt):
            self.train(images, folder, stop)
        return self


def assert_same(one, other):
    for left, right in (one.model, other.model), (one.pull, other.pull):
        left, right = left.state_dict(), right.state_dict()
        assert left.keys() == right.keys()
        for name in left:
            assert torch.equal(left[name], right[name]), name


@pytest.fixture(scope="module")
def whole(images):
    run = Run()
    run.losses = run.train(images)
    return run


@pytest.mark.parametrize("stop", [1, EPOCH - 1, EPOCH, EPOCH + 1, 2 * EPOCH, LAST])
def test_a_run_that_was_stopped_goes_on_exactly(images, whole, tmp_path, stop):
    first = Run().stopped(images, tmp_path, stop)
    assert steps_done(tmp_path) == stop
    second = Run(seed=99)  # another process has other weights and another random state
    random = torch.get_rng_state()
    assert second.train(images, tmp_path) == whole.losses
    assert first.told + second.told == whole.told
    assert_same(second, whole)
    assert torch.equal(torch.get_rng_state(), random)
    assert not second.model.training


def test_saving_changes_nothing(images, whole, tmp_path):
    run = Run()
    assert run.train(images, tmp_path / "new" / "folder") == whole.losses
    assert_same(run, whole)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(FILES)


def test_a_run_may_be_stopped_after_every_step(images, whole, tmp_path):
    told = []
    for stop in range(1, LAST + 1):
        told += Run(seed=stop - 1).stopped(images, tmp_path, stop).told
    end = Run(seed=99)
    assert end.train(images, tmp_path) == whole.losses
    assert told == whole.told
    assert_same(end, whole)


def test_a_finished_run_is_at_its_end_at_once(images, whole, tmp_path):
    Run().train(images, tmp_path)
    before = contents(tmp_path)
    again = Run(seed=99)
    assert again.train(images, tmp_path) == whole.losses
    assert again.told == [] and steps_done(tmp_path) == LAST
    assert_same(again, whole)
    assert not again.model.training and contents(tmp_path) == before


def test_a_network_alone_goes_on_too(images, tmp_path):
    """Without penalty and state, and with a weight that two layers share."""

    def make():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 3))
        model[2].weight = model[1].weight
        return model

    def stop(record):
        if record.step == 4:
            raise KeyboardInterrupt

    straight, first, second = make(), make(), make()
    losses = train_images(straight, images, epochs=3, batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        train_images(first, images, epochs=3, batch_size=8, on_step=stop, save=tmp_path)
    assert train_images(second, images, epochs=3, batch_size=8, save=tmp_path) == losses
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), second.parameters(), strict=True))
    assert second[2].weight is second[1].weight


def test_a_checkpoint_comes_after_every_epoch(images, tmp_path):
    seen = []
    train_images(
        Net(), images, epochs=3, batch_size=8, on_step=lambda _: seen.append(steps_done(tmp_path)), save=tmp_path
    )
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6, 6]
    assert steps_done(tmp_path) == LAST


def press_in_step(run, monkeypatch, where, step, times=1):
    """Press Ctrl-C while the optimizer, or `on_step`, is at work on a step."""
    owner, name = (torch.optim.Adam, "step") if where == "step" else (run.pull, "move")
    work, calls = getattr(owner, name), []

    def pressed(*args, **kwargs):
        calls.append(name)
        if len(calls) == step:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return work(*args, **kwargs)

    monkeypatch.setattr(owner, name, pressed)


@pytest.mark.parametrize("step", [2, EPOCH, LAST])
@pytest.mark.parametrize("where", ["step", "on_step"])
def test_a_ctrl_c_waits_and_costs_nothing(images, whole, tmp_path, monkeypatch, python_handles_ctrl_c, where, step):
    first = Run()
    with monkeypatch.context() as patch:
        press_in_step(first, patch, where, step)
        first.stopped(images, tmp_path, stop=None)
    assert steps_done(tmp_path) == step
    assert len(first.told) == (step - 1 if where == "step" else step)
    second = Run(seed=99)
    assert second.train(images, tmp_path) == whole.losses
    assert first.told + second.told == whole.told  # each step once, though Ctrl-C came between a step and its on_step
    assert_same(second, whole)


@pytest.mark.parametrize("where", ["step", "on_step"])
def test_a_second_ctrl_c_leaves_the_last_checkpoint(images, whole, tmp_path, monkeypatch, python_handles_ctrl_c, where):
    """In a step, or in what changes the state after it, things may not belong together."""
    first = Run()
    with monkeypatch.context() as patch:
        press_in_step(first, patch, where, EPOCH + 2, times=2)
        first.stopped(images, tmp_path, stop=None)
    assert steps_done(tmp_path) == EPOCH
    second = Run(seed=99)
    assert second.train(images, tmp_path) == whole.losses
    assert_same(second, whole)


def test_a_step_that_is_broken_off_leaves_the_last_checkpoint(images, whole, tmp_path, monkeypatch):
    """As where somebody else handles Ctrl-C: between backward and update, say, nothing belongs together."""
    update, first, updates = torch.optim.Adam.step, Run(), []

    def press(optimizer, *args):
        updates.append(optimizer)
        if len(updates) == EPOCH + 2:
            raise KeyboardInterrupt
        return update(optimizer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", press)
        first.stopped(images, tmp_path, stop=None)
    assert steps_done(tmp_path) == EPOCH
    second = Run(seed=99)
    assert second.train(images, tmp_path) == whole.losses
    assert_same(second, whole)


def test_an_error_leaves_the_last_checkpoint(images, tmp_path):
    run = Run()

    def fail(record):
        if record.step == EPOCH + 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run.train(images, tmp_path, on_step=fail)
    assert steps_done(tmp_path) == EPOCH


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_refused(folder, call, problem):
    """With one line that names the folder; the folder stays as it was."""
    before = contents(folder)
    with pytest.raises(CheckpointError, match=problem) as error:
        call()
    assert str(error.value).startswith(str(folder)) and "\n" not in str(error.value)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"epochs": 4}, "epochs 3 there, 4 here"),
        ({"batch_size": 5}, "batch_size 8 there, 5 here"),
        ({"lr": 0.02, "seed": 4}, r"is of another run: lr 0\.01 there, 0\.02 here; seed 3 there, 4 here; use another"),
        ({"penalty": None}, "penalty True there, False here"),
        ({"state": None}, "state True there, False here"),
    ],
)
def test_other_numbers_are_refused(images, tmp_path, change, problem):
    Run().stopped(images, tmp_path, 1)
    run = Run(seed=99)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    assert_refused(tmp_path, lambda: run.train(images, tmp_path, **change), problem)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


def test_other_facts_are_refused(images, tmp_path):
    facts = {"start": "a1", "sizes": (1, 2)}
    Run().train(images, tmp_path, facts=facts)
    Run().train(images, tmp_path, facts=facts)
    problem = "is of another run: start 'a1' there, 'b2' here; use another folder"
    assert_refused(tmp_path, lambda: Run().train(images, tmp_path, facts=facts | {"start": "b2"}), problem)
    assert_refused(tmp_path, lambda: Run().train(images, tmp_path), "is of another run: start 'a1' there, None here")


@pytest.mark.parametrize(
    ("facts", "problem"),
    [({"start": {1, 2}}, "expected what JSON can hold"), ({"epochs": 2}, "epochs is one of the run's own")],
)
def test_facts_that_cannot_be(images, facts, problem):
    with pytest.raises(BaleError, match="facts: ") as error:
        Run().train(images, facts=facts)
    assert problem in str(error.value)


def test_other_images_are_refused(images, tmp_path):
    Run().stopped(images, tmp_path, 1)
    other = Images(images.images, images.labels, images.classes, "others")
    assert_refused(tmp_path, lambda: Run().train(images[:19], tmp_path), "images 20 there, 19 here; use another folder")
    assert_refused(tmp_path, lambda: Run().train(other, tmp_path), "data 'random' there, 'others' here")


class Longer(Net):
    def __init__(self):
        super().__init__()
        self.more = nn.PReLU()


class Shorter(Net):
    def __init__(self):
        super().__init__()
        self.norm = nn.Identity()


class Reordered(Net):
    """The same names and shapes, for which an optimizer has other numbers."""

    def __init__(self):
        super().__init__()
        del self.first.weight
        self.first.weight = nn.Parameter(torch.zeros(6, 16))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda: Net(7),
            r"first\.weight is \[6, 16\] torch\.float32 there, \[7, 16\] torch\.float32 here; use",
        ),
        (lambda: Net().double(), r"first\.weight is \[6, 16\] torch\.float32 there, \[6, 16\] torch\.float64 here"),
        (Longer, r"is of another model: it has no more\.weight"),
        (Shorter, r"it has norm\.\w+, the model has not"),
        (Reordered, "its parameters are in another order"),
    ],
)
def test_another_model_is_refused(images, tmp_path, make, problem):
    Run().stopped(images, tmp_path, 1)
    assert_refused(tmp_path, lambda: Run(model=make()).train(images, tmp_path), problem)


def test_a_state_that_does_not_take_its_own_back_is_refused(images, tmp_path):
    Run().stopped(images, tmp_path, 1)
    run = Run()
    run.pull.load_state_dict = lambda state: state["rho"]
    assert_refused(tmp_path, lambda: run.train(images, tmp_path), "another model, optimizer or state: 'rho'; use")


def test_a_folder_of_another_kind_of_run_is_refused_both_ways(images, tmp_path):
    trees, pictures, model = tmp_path / "trees", tmp_path / "pictures", Net()
    Checkpoint.of(model, torch.optim.Adam(model.parameters()), Place(), TrainConfig(), {}).save(trees)
    assert_refused(trees, lambda: Run().train(images, trees), r"is of format 1; .* writes 'images 1'; use another")
    assert_refused(trees, lambda: steps_done(trees), "is of format 1")
    Run().stopped(images, pictures, 1)
    assert_refused(pictures, lambda: load_checkpoint(pictures), "is of format images 1, this bale .* reads 1")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damage_is_named(images, tmp_path, name, damage):
    Run().stopped(images, tmp_path, 1)
    path = tmp_path / name
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif name == "checkpoint.json":
        path.write_text("{}")
    else:
        path.unlink()
    assert_refused(tmp_path, lambda: Run().train(images, tmp_path), f"{name}: is (damaged|missing)")


@pytest.mark.parametrize("change", [{"facts": None}, {"losses": 3}, {"optimizer": {}}, {"parameters": ["a"]}])
def test_an_index_that_makes_no_sense(images, tmp_path, change):
    Run().stopped(images, tmp_path, 1)
    path = tmp_path / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert_refused(tmp_path, lambda: Run().train(images, tmp_path), "is damaged|is of another model")


def test_steps_done_of_no_checkpoint_and_of_a_damaged_one(images, tmp_path):
    assert steps_done(tmp_path) == steps_done(tmp_path / "none") == 0
    (tmp_path / "checkpoint.json").write_text('{"files": {}, "format": "images 1"}')
    assert_refused(tmp_path, lambda: steps_done(tmp_path), "is damaged: it names no step")


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(images, tmp_path):
    (tmp_path / "file").touch()
    run = Run()
    with pytest.raises(CheckpointError, match="cannot be written"):
        run.train(images, tmp_path / "file" / "below")
    assert run.told == []


def test_what_is_no_tensor_is_refused_before_the_first_step(images, tmp_path):
    run = Run()
    run.pull.state_dict = lambda: {"rho": 0.5}
    with pytest.raises(BaleError, match="state_dict of the state has rho, a float; a checkpoint holds tensors only"):
        run.train(images, tmp_path)
    assert run.told == [] and not contents(tmp_path)


def test_a_bar_begins_at_the_checkpoint_and_a_log_has_its_first_step(images, tmp_path):
    Run().stopped(images, tmp_path, 4)
    log = StringIO()
    with ImageProgress(Console(file=log), "training", 100, done=steps_done(tmp_path)) as progress:
        assert progress.bar.tasks[0].completed == 4
        Run().train(images, tmp_path, on_step=progress.on_step)
    assert progress.bar.tasks[0].completed == LAST
    assert log.getvalue().startswith("training: step 5/100  loss ") and log.getvalue().count("\n") == 1
