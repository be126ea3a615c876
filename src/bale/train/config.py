"""What does a user decide? Frozen configs: of the task, of how it is trained, of how a policy for it is learned."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from bale.batching.schedule import POLICIES, Encoding, Policy, Portfolio
from bale.errors import BaleError

DEFAULT_EPOCHS = 1


@dataclass(frozen=True)
class TaskConfig:
    """What is learnt, and by which network.

    data    "python" (functions of the standard library; classes: the 50 commonest first words of names, and `other`),
            "python-named" (only functions whose name begins with one of the 50), "identifiers" (the standard library's,
            without separators; where do words begin?), "sst:PATH" (bracketed trees), "lattice:PATH" (lattices with
            tags) or "tags:PATH" (sentences with tags); None is the one that fits the model
    model   one of `bale.train.MODELS`; None is the one that fits the data
    hidden  width of the states
    limit   how many samples are read, all splits together; None is all
    """

    data: str | None = None
    model: str | None = None
    hidden: int = 128
    limit: int | None = None

    def __post_init__(self) -> None:
        _at_least(self, 1, "hidden", "limit")

    @property
    def data_name(self) -> str:
        """The data that are read: those that were asked for, or what fits the model and needs no files."""
        if self.data is not None:
            return self.data
        return "identifiers" if (self.model or "").startswith("lattice-") else "python"


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained (Adam, cross-entropy).

    epochs, steps  training ends at whichever comes first, counted from the very first step, also after a resume;
                   where neither is given, after `DEFAULT_EPOCHS` epochs
    minutes        ends training early, after this much time in this process; results then depend on the machine
    seed           of the model's first weights and of the order of the samples
    policy         one of `bale.batching.schedule.POLICIES`, or the file of a learned policy, name.json, which then
                   competes with all others as in "auto"
    threads        torch's; more than one seldom pays for rows this short, and costs dearly where cores are shared
    save_every     steps between two checkpoints, besides the ones at the ends of epochs
    """

    batch_size: int = 64
    lr: float = 5e-3
    epochs: int | None = None
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    policy: str = "auto"
    threads: int = 1
    save_every: int = 50

    def __post_init__(self) -> None:
        _at_least(self, 1, "batch_size", "threads", "save_every")
        _at_least(self, 0, "epochs", "steps", "seed")
        for name in ("lr", "minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BaleError(f"{_option(name)} must be above 0 and finite, got {value}")
        if self.policy not in POLICIES and not self.policy.endswith(".json"):
            raise BaleError(
                f"policy {self.policy!r} is unknown; known are {', '.join(POLICIES)}, and the file of a learned one, "
                "name.json"
            )

    def load_policy(self) -> str | Portfolio:
        """What `bale.batch` takes as its policy. Raises PolicyError for a file that is missing or no policy."""
        return self.policy if self.policy in POLICIES else Portfolio((Policy.load(self.policy),))

    @property
    def last_epoch(self) -> int | None:
        """The number of epochs after which training ends, if it does not end before."""
        return DEFAULT_EPOCHS if self.epochs is None and self.steps is None else self.epochs

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON can hold it; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Rebuild a config; raises BaleError where a key is unknown."""
        known = {field.name for field in fields(cls)}
        if unknown := values.keys() - known:
            raise BaleError(f"unknown settings {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
        return cls(**values)


@dataclass(frozen=True)
class PolicyConfig:
    """How a policy is learned, and on what policies are compared.

    batch_size    samples in a mini-batch; a policy holds best for mini-batches about as large
    mini_batches  how many are learned on, and on how many held-out ones policies are compared
    seed          of the order of the samples, and of what learning tries

    For the others see `bale.learn_policy`.
    """

    batch_size: int = 64
    mini_batches: int = 4
    encoding: str = "share"
    episodes: int = 1000
    bootstrap: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _at_least(self, 1, "batch_size", "mini_batches", "episodes")
        _at_least(self, 0, "seed")
        encodings = [str(encoding) for encoding in Encoding]
        if self.encoding not in encodings:
            raise BaleError(f"encoding {self.encoding!r} is unknown; known are {', '.join(encodings)}")


def _at_least(config: TaskConfig | TrainConfig | PolicyConfig, least: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            raise BaleError(f"{_option(name)} must be at least {least}, got {value}")


def _option(name: str) -> str:
    """The name as people meet it on the command line."""
    return name.replace("_", "-")
