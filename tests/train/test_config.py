"""A config that cannot be meant is refused when it is made."""

import pytest

from bale.errors import BaleError
from bale.train import TaskConfig, TrainConfig
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
