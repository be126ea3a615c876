"""Rule: which of its ways does a cell's code take, by rows and width? Numbers of a machine, fixed while a process runs.

The ways give equal results, but for last bits (half.py has the one that does not, and nobody takes it unasked), so the
rule decides about time alone. It is a rule and no timing, so that a run does not depend on what else the machine does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

from bale.batching.schedule.json_file import Form
from bale.errors import BaleError, PolicyError

FORM = Form("bale rule", 1, "a rule", "is no rule", "measure again with `bale tune`")


@dataclass(frozen=True)
class Rule:
    """Numbers that say when a way of running pays. `bale tune` measures them; the defaults are those of a 2-core EPYC.

    packed_from    batches of a type from which its weights are copied, once a call, into the order in which products
                   read them
    packed_up_to   numbers in a weight up to which that pays: a larger one does not stay in the cache
    shared_from    numbers (rows x width) from which a kernel's rows are shared by torch.get_num_threads() threads
    half_from      numbers in a weight from which its products are in bfloat16, where that is asked for
    measured       where and how they were measured, for people
    """

    packed_from: int = 32
    packed_up_to: int = 3 << 16
    shared_from: int = 1 << 16
    half_from: int = 1 << 15
    measured: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise BaleError(f"{name} is {value!r}; expected a whole number, at least 0")

    def save(self, path: str | PathLike[str]) -> None:
        """Write the rule as JSON. Raises BaleError where the file cannot be written."""
        text = json.dumps({"format": FORM.format, "version": FORM.version, **asdict(self)}, indent=2)
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise BaleError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Rule:
        """Raises BaleError, naming the file and the field, where it is no rule."""

        def parse(text: str) -> Rule:
            file = FORM.open(text)
            return cls(**{name: file[name].of(int) for name in _NUMBERS}, measured=file["measured"].of(dict))

        try:
            return FORM.read(path, parse)
        except PolicyError as error:
            raise BaleError(str(error)) from error
        except BaleError as error:
            raise BaleError(f"{path}: {error}") from error


_NUMBERS = tuple(each.name for each in fields(Rule) if each.name != "measured")


def rule_path() -> Path:
    """Where `bale tune` writes and every process looks: `bale/rule.json` in XDG_CONFIG_HOME, by default ~/.config."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "bale" / "rule.json"


@lru_cache(maxsize=1)
def machine_rule() -> Rule:
    """This machine's rule, read once in a process; the defaults where it was never measured."""
    path = rule_path()
    return Rule.load(path) if path.exists() else Rule()
