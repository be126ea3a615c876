"""Which designs are there to choose from? Stacks of methods with their numbers, times chips: a space with branches."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import nn

from bale.codesign.search.structure import Structure
from bale.compress import (
    ADCAwareConfig,
    BlockCirculantConfig,
    Config,
    StructuredConfig,
    UniformQuantConfig,
    compress_,
    config_from_dict,
)
from bale.errors import BaleError
from bale.hardware import LAWS, Chip, Encoding

if TYPE_CHECKING:  # half a second to import, which no other command should wait for
    from optuna.trial import BaseTrial

# The methods that stack, by the name that a study has for the branch.
STACKS: dict[str, tuple[type[Config], ...]] = {
    "dense": (),
    "uniform": (UniformQuantConfig,),
    "structured": (StructuredConfig,),
    "block-circulant": (BlockCirculantConfig,),
    "adc-aware": (ADCAwareConfig,),
    "structured + adc-aware": (StructuredConfig, ADCAwareConfig),
    "block-circulant + adc-aware": (BlockCirculantConfig, ADCAwareConfig),
}
_MILDEST: dict[type[Config], Config] = {
    UniformQuantConfig: UniformQuantConfig(8),
    StructuredConfig: StructuredConfig(0.5),
    BlockCirculantConfig: BlockCirculantConfig(4),
    ADCAwareConfig: ADCAwareConfig(8),
}
_MOST_CONVERTER_BITS = 8  # of ADC-aware pruning: more is no pruning


@dataclass(frozen=True)
class Design:
    """A candidate: how weights are compressed, which crossbars they lie in, and how much room there is for copies.

    room  crossbars that copies of matrices may take, with the first ones, in times of what one copy of each takes;
          1: no copies
    """

    methods: tuple[Config, ...]
    structure: Structure
    room: int = 1

    @property
    def methods_text(self) -> str:
        """As `bale compress --method` takes them, with a + between them."""
        return " + ".join(map(config_text, self.methods)) or "dense"

    @property
    def chip_text(self) -> str:
        copies = "" if self.room == 1 else f", copies in {self.room}x the room"
        return f"{self.structure}{copies}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "methods": [config.to_dict() for config in self.methods],
            "structure": {**asdict(self.structure), "encoding": str(self.structure.encoding)},
            "room": self.room,
        }

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Design:
        """What `to_dict` has made."""
        structure = {**given["structure"], "encoding": Encoding(given["structure"]["encoding"])}
        return cls(tuple(map(config_from_dict, given["methods"])), Structure(**structure), given["room"])

    @property
    def key(self) -> str:
        """Of equal designs equal."""
        return json.dumps(self.to_dict(), sort_keys=True)


@dataclass(frozen=True)
class Space:
    """What may be chosen. Each field has the choices of one number; `stacks` are of `STACKS`.

    ADC-aware pruning is for encodings that give signs columns of their own, and looks at the chip's crossbars and bits;
    a chip's weights have the bits of uniform quantisation where that is the method.

    tenths  of each layer's outputs, what structured pruning keeps
    bits    of weights, by uniform quantisation
    """

    stacks: tuple[str, ...] = tuple(STACKS)
    blocks: tuple[int, ...] = (4, 8, 16)
    least_blocks: tuple[int, ...] = (1, 2)
    tenths: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9)
    bits: tuple[int, ...] = (3, 4, 8)
    rows: tuple[int, ...] = (64, 128, 256)
    columns: tuple[int, ...] = (64, 128, 256)
    cell_bits: tuple[int, ...] = (1, 2, 4)
    encodings: tuple[str, ...] = tuple(map(str, Encoding))
    weight_bits: tuple[int, ...] = (4, 5, 6, 7, 8)
    input_bits: tuple[int, ...] = (4, 5, 6, 7, 8)
    rooms: tuple[int, ...] = (1, 2, 4)

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name):
                raise BaleError(f"{field.name}: a space needs at least one choice")
        for name, known in (("stacks", STACKS), ("encodings", list(map(str, Encoding)))):
            for choice in getattr(self, name):
                if choice not in known:
                    raise BaleError(f"{name}: {choice!r} is unknown; known are {', '.join(known)}")
        if self._signed == () and any(ADCAwareConfig in STACKS[stack] for stack in self.stacks):
            raise BaleError("encodings: ADC-aware pruning needs differential or sign-magnitude among them")

    @property
    def _signed(self) -> tuple[str, ...]:
        return tuple(name for name in self.encodings if name != Encoding.OFFSET)

    def suggest(self, trial: BaseTrial, base: Chip) -> Design:
        """Let Optuna choose a design, number by number; a number has the same name and choices in every branch."""
        methods = STACKS[_choose(trial, "stack", self.stacks)]
        adc_aware = ADCAwareConfig in methods
        encoding = (
            _choose(trial, "signed encoding", self._signed) if adc_aware else _choose(trial, "encoding", self.encodings)
        )
        uniform = UniformQuantConfig in methods
        structure = Structure(
            rows=_choose(trial, "rows", self.rows),
            columns=_choose(trial, "columns", self.columns),
            cell_bits=_choose(trial, "cell bits", self.cell_bits),
            encoding=Encoding(encoding),
            weight_bits=_choose(trial, "uniform bits", self.bits)
            if uniform
            else _choose(trial, "weight bits", self.weight_bits),
            input_bits=_choose(trial, "input bits", self.input_bits),
        )
        configs = {
            StructuredConfig: lambda: StructuredConfig(_choose(trial, "kept tenths", self.tenths) / 10),
            BlockCirculantConfig: lambda: BlockCirculantConfig(
                _choose(trial, "block", self.blocks), least_blocks=_choose(trial, "least blocks", self.least_blocks)
            ),
            UniformQuantConfig: lambda: UniformQuantConfig(structure.weight_bits),
            ADCAwareConfig: lambda: _adc_aware(trial, structure, base),
        }
        chosen: list[Callable[[], Config]] = [configs[method] for method in methods]
        return Design(tuple(make() for make in chosen), structure, _choose(trial, "room", self.rooms))

    def that_fits(self, model: nn.Module) -> Space:
        """The space without the stacks that fit no layer of a model. Raises BaleError where none is left."""
        fitting = []
        for name in self.stacks:
            trial = copy.deepcopy(model)
            try:
                for method in STACKS[name]:
                    compress_(trial, _MILDEST[method])
            except BaleError:
                continue
            fitting.append(name)
        if not fitting:
            raise BaleError(f"stacks: none of {', '.join(self.stacks)} fits a layer of {type(model).__name__}")
        choices = {field.name: getattr(self, field.name) for field in fields(self)}
        return Space(**{**choices, "stacks": tuple(fitting)})

    def first(self, base: Chip) -> dict[str, Any] | None:
        """The choices of the dense network on a chip like `base`, to compare with; None where the space has it not."""
        given = {
            "stack": "dense",
            "encoding": str(base.encoding),
            "rows": base.crossbar.rows,
            "columns": base.crossbar.columns,
            "cell bits": base.cell.bits,
            "weight bits": max(self.weight_bits),
            "input bits": max(self.input_bits),
            "room": min(self.rooms),
        }
        choices = {
            "stack": self.stacks,
            "encoding": self.encodings,
            "rows": self.rows,
            "columns": self.columns,
            "cell bits": self.cell_bits,
        }
        return given if all(given[name] in known for name, known in choices.items()) else None


def config_text(config: Config) -> str:
    """A method as `parse_config` reads it, with the fields that are not the default's."""
    default = type(config)()
    numbers = {name: number for name, number in config.numbers().items() if number != getattr(default, name)}
    listed = ",".join(f"{name}={'none' if number is None else number}" for name, number in numbers.items())
    return f"{config.method}:{listed}" if listed else config.method


def _adc_aware(trial: BaseTrial, structure: Structure, base: Chip) -> ADCAwareConfig:
    """For the chip's crossbars; converters have at least the bits of a cell, and those that their law begins with."""
    law = LAWS.get(base.adc.law)
    one_cell = ((2**structure.cell_bits - 1) * (2**base.dac_bits - 1)).bit_length()
    least = max(2, one_cell, 0 if law is None else law.fewest)
    bits = trial.suggest_int("converter bits", least, max(least, _MOST_CONVERTER_BITS))
    return ADCAwareConfig(
        bits,
        rows=structure.rows,
        weight_bits=structure.weight_bits,
        cell_bits=structure.cell_bits,
        dac_bits=base.dac_bits,
    )


def _choose(trial: BaseTrial, name: str, choices: tuple[Any, ...]) -> Any:
    return trial.suggest_categorical(name, choices)
