"""Which runs is the study made of? Networks, methods with their settings, and seeds; what matters most comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bale.compress import Config, parse_config

# Networks and the width of their first convolutions: those that train in minutes (docs/compression.md).
NETWORKS: dict[str, int | None] = {"lenet5": None, "lstm": None, "vgg8": 16, "resnet20": 8}

# In the order in which they run: first those of which an accuracy is wanted, then points beside them, then baselines.
SETTINGS = (
    "adc-aware:adc_bits=5",
    "block-circulant:block=8",
    "block-circulant:block=4",
    "magnitude:density=0.1",
    "uniform:bits=3",
    "structured:keep=0.7",
    "structured:keep=0.7 + adc-aware:adc_bits=5",
    "block-circulant:block=8 + uniform:bits=8",
    "adc-aware:adc_bits=4",
    "uniform:bits=4",
    "uniform:bits=2",
    "magnitude:density=0.05",
    "structured:keep=0.5",
)
METHODS = tuple(dict.fromkeys(part.split(":")[0] for setting in SETTINGS for part in setting.split(" + ")))

# The accuracy that is wanted of some: at most so much below the dense network's.
WANTED_DROP = 0.01
WANTED = {
    "adc-aware:adc_bits=5": tuple(NETWORKS),
    "block-circulant:block=8": ("vgg8", "resnet20"),
}


@dataclass(frozen=True)
class Amount:
    """How much is trained: epochs of the dense network and of its compression, on so many images."""

    dense_epochs: int = 10
    epochs: int = 6
    images: int = 60_000
    lr: float = 3e-3

    def fields(self) -> dict[str, Any]:
        return {"dense_epochs": self.dense_epochs, "epochs": self.epochs, "images": self.images, "lr": self.lr}


@dataclass(frozen=True)
class Run:
    """A network, compressed by a setting, from one seed."""

    model: str
    setting: str
    seed: int
    amount: Amount

    @property
    def configs(self) -> tuple[Config, ...]:
        return tuple(parse_config(part) for part in self.setting.split(" + "))

    @property
    def method(self) -> str:
        return " + ".join(config.method for config in self.configs)

    @property
    def key(self) -> str:
        """As it stands in a line, whatever that was measured on."""
        return f"{self.model} {self.setting} {self.seed} {self.amount}"

    @property
    def folder(self) -> str:
        """Of its checkpoints."""
        plain = self.setting.replace(" + ", "+").replace(":", "-").replace("=", "")
        return f"{self.model}-{plain}-{self.seed}-{self.amount.epochs}x{self.amount.images}"

    @classmethod
    def of(cls, line: dict[str, Any]) -> Run:
        """The run of which a line is."""
        amount = Amount(line["dense_epochs"], line["epochs"], line["images"], line["lr"])
        return cls(line["model"], line["setting"], line["seed"], amount)


def grid(models: Sequence[str], settings: Sequence[str], seeds: Sequence[int], amount: Amount) -> list[Run]:
    """All runs; setting by setting, so that a study that is cut off has whole settings."""
    return [
        Run(model, setting, seed, amount)
        for setting in settings
        for seed in seeds
        for model in models
        if not (model == "lstm" and setting.startswith("structured"))  # no layer's outputs can go
    ]
