"""A config that cannot be meant is refused when it is made."""

import pytest

from bale.batching.schedule import Encoding, Policy, Portfolio
from bale.errors import BaleError, PolicyError
from bale.train import PolicyConfig, TaskConfig, TrainConfig
from bale.train.config import DEFAULT_EPOCHS


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"batch_size": 0}, "batch-size must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"lr": 0.0}, "lr must be above 0 and finite, got 0.0"),
        ({"lr": float("nan")}, "lr must be above 0 and finite, got nan"),
        ({"minutes": -1.0}, "minutes must be above 0 and finite, got -1.0"),
        ({"policy": "luck"}, "policy 'luck' is unknown; known are depth, agenda"),
        ({"policy": "luck.txt"}, "policy 'luck.txt' is unknown; known are depth, agenda"),
    ],
)
def test_wrong_settings(settings, problem):
    with pytest.raises(BaleError) as error:
        TrainConfig(**settings)
    assert str(error.value).startswith(problem)


@pytest.mark.parametrize("settings", [{"hidden": 0}, {"limit": 0}])
def test_wrong_tasks(settings):
    with pytest.raises(BaleError, match="must be at least 1, got 0"):
        TaskConfig(**settings)


def test_epochs_limit_a_run_that_nothing_else_limits():
    assert TrainConfig().last_epoch == DEFAULT_EPOCHS
    assert TrainConfig(steps=5).last_epoch is None
    assert TrainConfig(steps=5, epochs=2).last_epoch == 2


def test_a_config_survives_json():
    config = TrainConfig(steps=5, lr=0.1, policy="depth")
    assert TrainConfig.from_dict(config.to_dict()) == config
    with pytest.raises(BaleError, match="unknown settings colour"):
        TrainConfig.from_dict({"colour": "blue"})


def test_a_policy_may_be_a_file(tmp_path):
    policy = Policy((), Encoding.BASE, False, (), ())
    policy.save(tmp_path / "policy.json")
    config = TrainConfig(policy=str(tmp_path / "policy.json"))
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert config.load_policy() == Portfolio((policy,))
    assert TrainConfig(policy="auto").load_policy() == "auto"
    gone = TrainConfig(policy=str(tmp_path / "gone.json"))  # a checkpoint may be read where the file is no more
    with pytest.raises(PolicyError, match=r"gone\.json: cannot be read"):
        gone.load_policy()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"batch_size": 0}, "batch-size must be at least 1, got 0"),
        ({"mini_batches": 0}, "mini-batches must be at least 1, got 0"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"encoding": "luck"}, "encoding 'luck' is unknown; known are base, max, sort, share"),
    ],
)
def test_wrong_settings_of_learning(settings, problem):
    with pytest.raises(BaleError, match=problem):
        PolicyConfig(**settings)
