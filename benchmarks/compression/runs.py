"""Which runs is the study made of? Networks, methods with their settings, and seeds; what matters most comes first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.compress import Config, parse_config

# Networks, and the width of their first convolutions: those that train in minutes (docs/compression.md).
NETWORKS: dict[str, tuple[str, int | None]] = {
    "lenet5": ("lenet5", None),
    "lstm": ("lstm", None),
    "vgg8": ("vgg8", 16),
    "resnet20": ("resnet20", 8),
}
# Wider ones, which run when they are named: does what holds of the narrow ones hold of them?
WIDER: dict[str, tuple[str, int | None]] = {"vgg8-64": ("vgg8", 64), "resnet20-16": ("resnet20", 16)}

# An LSTM's outputs cannot go, and its weights have no traffic of their own.
_NOT_FOR_LSTM = ("structured", "communication-aware")

CONTROL = "none"  # the dense network, trained for as many epochs more as the others: what training alone brings

SMARTDEAL = "smartdeal:rate=0.12"
CANNON = "communication-aware:cost=0.5"

# In the order in which they run: first those of which an accuracy is wanted, then what they are compared with.
SETTINGS = (
    SMARTDEAL,
    CANNON,
    "adc-aware:adc_bits=5",
    "block-circulant:block=8",
    "block-circulant:block=8,least_blocks=4",
    "block-circulant:block=4",
    CONTROL,
    "magnitude:density=0.1",
    "uniform:bits=3",
    "structured:keep=0.7 + uniform:bits=8",
    "structured:keep=0.7 + adc-aware:adc_bits=5",
    "block-circulant:block=8 + uniform:bits=8",
    "adc-aware:adc_bits=4",
    "uniform:bits=4",
    "uniform:bits=2",
    "magnitude:density=0.05",
    "structured:keep=0.5 + uniform:bits=8",
)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a setting on some networks, in the mean of its seeds.

    drop           the most accuracy below the dense network's
    ratio          the least times that the file is smaller
    communication  the most that is left of the cost C of the dense network's traffic
    """

    models: tuple[str, ...]
    drop: float = 0.01
    ratio: float = 1.0
    communication: float = 1.0


_CONVOLUTIONS = ("vgg8", "resnet20", *WIDER)
WANTED = {
    SMARTDEAL: Wanted((*NETWORKS, *WIDER), ratio=10),
    CANNON: Wanted(("lenet5", *_CONVOLUTIONS), communication=0.5),
    "adc-aware:adc_bits=5": Wanted((*NETWORKS, *WIDER)),
    "block-circulant:block=8": Wanted(_CONVOLUTIONS),
    "block-circulant:block=8,least_blocks=4": Wanted(_CONVOLUTIONS),
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
    """A network, compressed by a setting or only trained for longer, from one seed."""

    model: str
    setting: str
    seed: int
    amount: Amount

    @property
    def configs(self) -> tuple[Config, ...]:
        """The methods; none of the control."""
        return () if self.setting == CONTROL else tuple(parse_config(part) for part in self.setting.split(" + "))

    @property
    def method(self) -> str:
        return " + ".join(config.method for config in self.configs) or CONTROL

    @property
    def meaning(self) -> list[dict[str, Any]]:
        """The methods with all their numbers, those that the setting does not give too, as a line has them."""
        return [config.to_dict() for config in self.configs]

    @property
    def key(self) -> str:
        """As it stands in a line, whatever that was measured on."""
        return f"{self.model} {self.setting} {self.seed} {self.amount}"

    @property
    def folder(self) -> str:
        """Of its checkpoints, which are no other run's, nor its own from when its setting meant something else."""
        plain = self.setting.replace(" + ", "+").replace(":", "-").replace("=", "")
        digest = hashlib.sha256(f"{self.key} {json.dumps(self.meaning)}".encode()).hexdigest()
        return f"{self.model}-{plain}-{self.seed}-{digest[:8]}"

    @classmethod
    def of(cls, line: dict[str, Any]) -> Run:
        """The run of which a line is."""
        amount = Amount(line["dense_epochs"], line["epochs"], line["images"], line["lr"])
        return cls(line["model"], line["setting"], line["seed"], amount)


def read(path: Path | None) -> list[dict[str, Any]]:
    """The lines of a file that may not be there yet."""
    if path is None or not path.exists():
        return []
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]


def holds(line: dict[str, Any]) -> bool:
    """Is a line of a setting that is still one, and still means what was measured?"""
    run = Run.of(line)
    return run.setting in SETTINGS and line.get("configs") == run.meaning


def grid(models: Sequence[str], settings: Sequence[str], seeds: Sequence[int], amount: Amount) -> list[Run]:
    """All runs; setting by setting, so that a study that is cut off has whole settings."""
    return [
        Run(model, setting, seed, amount)
        for setting in settings
        for seed in seeds
        for model in models
        if not (model == "lstm" and setting.startswith(_NOT_FOR_LSTM))
    ]
