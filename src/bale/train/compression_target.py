"""By which numbers does a method reach what is wanted: so many times fewer bytes, an accuracy, bits of a converter?

A target chooses the field of the *last* method that its ladder varies; its other fields, and the methods before it,
stay as they are given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from math import inf, isfinite
from os import PathLike
from pathlib import Path
from typing import Literal, cast, get_args

from torch import nn

from bale.compress import ADCAwareConfig, Config, Filter, Report, SmartDealConfig, compress_, pack
from bale.compress.weights import count_parameters
from bale.data.images import Images
from bale.errors import BaleError, CompressionError
from bale.train.compression import Part, Retraining, compress_and_train
from bale.train.images import ImageStep
from bale.train.packed_accuracy import plain_accuracy

Kind = Literal["ratio", "accuracy", "adc_bits"]

_CLOSE = 1e-9  # accuracies are shares of thousands of images; what is closer is a float's last bit


@dataclass(frozen=True)
class Target:
    """What is wanted of a compressed network.

    "ratio"     so many times fewer bytes: 4 for each parameter of the network before, over those of the packed file
    "accuracy"  above 0 and up to 1; below 0: the network's own before, and at most so much less
    "adc_bits"  of the converters that lose nothing, by the a priori bound; for ADC-aware pruning

    Raises BaleError for a value out of its range.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        ranges: dict[str, tuple[bool, str]] = {
            "ratio": (1 < self.value < inf, "expected more than 1"),
            "accuracy": (
                -1 < self.value <= 1 and self.value != 0,
                "expected above 0 and up to 1, or a drop below 0, such as -0.01 or -1%",
            ),
            "adc_bits": (self.value >= 1 and float(self.value).is_integer(), "expected a whole number from 1"),
        }
        if self.kind not in ranges:
            raise BaleError(f"target: {self.kind!r} is unknown; known are {', '.join(ranges)}")
        holds, expected = ranges[self.kind]
        if not holds:
            raise BaleError(f"target: {self}: {expected}")

    def __str__(self) -> str:
        return f"{self.kind}={self.value:.12g}"

    def least(self, before: float) -> float:
        """The accuracy that is wanted of a network that has had `before`."""
        return self.value if self.value > 0 else before + self.value


def parse_target(text: str) -> Target:
    """Return the target that a text means: KIND=VALUE, where an accuracy may be in percent.

    Raises BaleError for what is no target.

    >>> parse_target("ratio=8"), parse_target("accuracy=-1%")
    (Target(kind='ratio', value=8.0), Target(kind='accuracy', value=-0.01))
    """
    kind, equals, value = (part.strip() for part in text.partition("="))
    known = get_args(Kind)
    if kind not in known or not equals:
        examples = "ratio=8, accuracy=0.9, accuracy=-1% or adc_bits=4"
        raise BaleError(f"target: {text!r} is not understood; expected {examples}")
    percent = kind == "accuracy" and value.endswith("%")
    try:
        number = float(value.removesuffix("%") if percent else value)
    except ValueError:
        raise BaleError(f"target: {text!r}: expected a number after {kind}=, got {value!r}") from None
    return Target(cast(Kind, kind), number / 100 if percent and isfinite(number) else number)


@dataclass(frozen=True)
class Setting:
    """Methods, the last with a field from its ladder, and how many bytes they make of a network before training."""

    configs: tuple[Config, ...]
    packed_bytes: int

    def __str__(self) -> str:
        last = self.configs[-1]
        field = varied_field(last)
        return f"{last.method} {field} {getattr(last, field)}"


def varied_field(config: Config) -> str:
    """The name of the field that a target chooses: of which a method's ladder has several values.

    >>> from bale.compress import MagnitudeConfig
    >>> varied_field(MagnitudeConfig())
    'density'
    """
    ladder = config.ladder()
    return next(field.name for field in fields(config) if len({getattr(rung, field.name) for rung in ladder}) > 1)


def with_adc_bits(configs: Sequence[Config], bits: int) -> tuple[Config, ...]:
    """Return methods, of which the last prunes for converters of so many bits.

    Raises CompressionError where the last one is another method, and where its non-zeros are given already.
    """
    last = configs[-1]
    if not isinstance(last, ADCAwareConfig):
        raise CompressionError(f"target: adc_bits is for adc-aware as the last method, which is {last.method}")
    _check_free(last)
    return (*configs[:-1], replace(last, adc_bits=bits))


def settings_of(model: nn.Module, configs: Sequence[Config], filter_fn: Filter | None = None) -> tuple[Setting, ...]:
    """What a target can choose from: the ladder of the last method, from mild to strong, the others as they are.

    Left out are settings that fit no layer or are out of a method's range, and those that do not make the file smaller
    than all milder ones do (such as blocks that are too large for most layers). The model stays as it is.

    Raises CompressionError where none is left, and for what `compress_` raises of the other methods.
    """
    if not configs:
        raise BaleError("configs: expected at least one method")
    earlier, (*others, last) = copy.deepcopy(model), configs
    _check_free(last)
    for config in others:
        compress_(earlier, config, filter_fn)
    field, settings = varied_field(last), list[Setting]()
    problem: CompressionError | None = None
    for rung in last.ladder():
        trial = copy.deepcopy(earlier)
        try:
            config = replace(last, **{field: getattr(rung, field)})
            compress_(trial, config, filter_fn)
        except CompressionError as error:
            problem = problem or error
            continue
        stacked = (*others, config)
        size = len(pack(trial, stacked))
        if not settings or size < settings[-1].packed_bytes:
            settings.append(Setting(stacked, size))
    if not settings:
        raise problem or CompressionError(f"{last.method}: has no setting to choose from")
    return tuple(settings)


def setting_for_ratio(
    model: nn.Module, configs: Sequence[Config], ratio: float, filter_fn: Filter | None = None
) -> Setting:
    """Return the mildest setting whose packed file is `ratio` times smaller than the network, 4 bytes a parameter.

    Nothing is trained: bytes hang on the weights only by codes that are 0, which a bitmap leaves out. Training changes
    them a little, so look at the file afterwards.

    Raises BaleError, which names the smallest file, where no setting is enough; and what `settings_of` raises.

    >>> from bale.compress import BlockCirculantConfig
    >>> from bale.models import LeNet5
    >>> str(setting_for_ratio(LeNet5(), [BlockCirculantConfig()], 3))
    'block-circulant block 4'
    """
    settings, dense = settings_of(model, configs, filter_fn), 4 * count_parameters(model)
    for setting in settings:
        if dense >= ratio * setting.packed_bytes:
            return setting
    smallest = settings[-1]
    raise BaleError(
        f"target: ratio={ratio:g} is out of reach; {smallest} reaches {dense / smallest.packed_bytes:.2f}: "
        "stack another method, or ask for less"
    )


@dataclass(frozen=True)
class Try:
    """A setting that was trained, the accuracy of the network read from its packed file, and whether that is enough."""

    setting: Setting
    accuracy: float
    holds: bool


@dataclass(frozen=True, eq=False)
class Found:
    """The strongest setting that keeps an accuracy: the network, its report, and all tries."""

    setting: Setting
    model: nn.Module
    report: Report
    tries: tuple[Try, ...]


def most_tries(settings: Sequence[Setting]) -> int:
    """How many of so many settings a bisection looks at, at most."""
    return len(settings).bit_length()


def find_for_accuracy(
    model: nn.Module,
    train: Images,
    test: Images,
    configs: Sequence[Config],
    least: float,
    how: Retraining | None = None,
    *,
    filter_fn: Filter | None = None,
    on_try: Callable[[int, int, Setting], None] | None = None,
    on_part: Callable[[int, Part], None] | None = None,
    on_step: Callable[[ImageStep], None] | None = None,
    save: str | PathLike[str] | None = None,
) -> Found:
    """Find the strongest setting of the last method that keeps an accuracy of `least` on `test`, by bisection.

    Accuracy is taken to fall along the ladder. Trainings differ a little, so it need not quite: a stronger setting than
    the one that is found may hold, too. Every try compresses a copy of `model`, which stays as it is, and trains it
    again. A setting that is chosen by the images of the test fits them a little better than others.

    Args:
        on_try: called before each try with its number, from 1, how many there are at most, and the setting.
        save: a folder for the checkpoints of all tries; see `compress_and_train`, which takes the other arguments as
            they are. A try whose methods or model are others than there is refused.

    Raises BaleError, which names the best try, where no setting holds; and what `settings_of` and `compress_and_train`
    raise.

    >>> from bale.compress import UniformQuantConfig
    >>> from bale.data import digits
    >>> from bale.models import LeNet5
    >>> images = digits("train", size=16).take(64)
    >>> found = find_for_accuracy(LeNet5(size=16), images, images, [UniformQuantConfig()], 0.05, Retraining(epochs=1))
    >>> len(found.tries) <= 3, all(each.accuracy >= 0.05 for each in found.tries if each.holds)
    (True, True)
    """
    settings = settings_of(model, configs, filter_fn)
    tries: list[Try] = []
    best: tuple[Setting, nn.Module, Report] | None = None
    low, high = 0, len(settings)  # all below `low` hold, none from `high` on does
    while low < high:
        middle = (low + high) // 2
        setting = settings[middle]
        if on_try is not None:
            on_try(len(tries) + 1, most_tries(settings), setting)
        trial = copy.deepcopy(model)
        folder = None if save is None else folder_of(save, setting)
        report = compress_and_train(
            trial, train, setting.configs, how, filter_fn=filter_fn, on_part=on_part, on_step=on_step, save=folder
        )
        accuracy = plain_accuracy(trial, test)
        tries.append(Try(setting, accuracy, accuracy >= least - _CLOSE))
        if tries[-1].holds:
            best, low = (setting, trial, report), middle + 1
        else:
            high = middle
    if best is None:
        closest = max(tries, key=lambda each: each.accuracy)
        raise BaleError(
            f"target: no setting keeps an accuracy of {least:.2%}; the best of {len(tries)} was "
            f"{closest.accuracy:.2%} by {closest.setting}: train for more epochs, or ask for less"
        )
    return Found(*best, tuple(tries))


def folder_of(save: str | PathLike[str], setting: Setting) -> Path:
    """Where a try keeps its checkpoints."""
    return Path(save) / str(setting).replace(" ", "-")


def _check_free(config: Config) -> None:
    """Raise CompressionError where a field makes another, which a target is to choose, mean nothing."""
    if isinstance(config, ADCAwareConfig) and config.nonzeros is not None:
        raise CompressionError("adc-aware.nonzeros: is given, and a target chooses adc_bits; leave one of them out")
    if isinstance(config, SmartDealConfig) and config.choice == "nearest":
        raise CompressionError(
            'smartdeal.choice: is "nearest", which has no rate, and a target chooses rate; leave one of them out'
        )
