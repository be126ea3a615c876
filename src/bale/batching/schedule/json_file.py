"""JSON file: how is a file of ours read, so that an error names the file and the field?"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from bale.errors import PolicyError

Result = TypeVar("Result")
Kind = TypeVar("Kind")
_KINDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Form:
    """What kind of file it is: its mark and version, and how people are told that another is none, or is old."""

    format: str
    version: int
    what: str  # "a policy"
    none: str  # "is no policy"
    again: str  # "learn it again"

    def read(self, path: str | PathLike[str], parse: Callable[[str], Result]) -> Result:
        """What `parse` makes of the text. Raises PolicyError, naming the file and what is wrong in it."""
        try:
            return parse(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise PolicyError(f"{path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise PolicyError(f"{path}: {self.none}: {error}") from error
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}") from error

    def open(self, text: str) -> At:
        """The object that a text of this kind is. Raises PolicyError for another kind, and another version."""
        try:
            file = At(json.loads(text), "")
        except (ValueError, RecursionError) as error:  # the latter where there are brackets in brackets without end
            raise PolicyError(f"is not the JSON of {self.what}: {error}") from error
        if not isinstance(file.value, dict) or file.value.get("format") != self.format:
            raise PolicyError(f'{self.none}: expected an object whose "format" is "{self.format}"')
        if file.value.get("version") != self.version:
            raise PolicyError(
                f"is of version {file.value.get('version')!r}; this bale reads version {self.version}: {self.again}"
            )
        return file


@dataclass(frozen=True)
class At:
    """A value of a file, and where it stands."""

    value: Any
    where: str

    def of(self, kind: type[Kind]) -> Kind:
        if type(self.value) is not kind:  # to isinstance, true is an integer
            raise PolicyError(f"{self.where} is {json.dumps(self.value)}; expected {_KINDS[kind]}")
        return self.value

    def __getitem__(self, name: str) -> At:
        where = f"{self.where}.{name}".lstrip(".")
        if name not in self.of(dict):
            raise PolicyError(f"{where} is missing")
        return At(self.value[name], where)

    def entries(self) -> list[At]:
        return [At(value, f"{self.where}[{k}]") for k, value in enumerate(self.of(list))]


def json_list(name: str, rows: list[dict[str, Any]]) -> str:
    """A field of JSON that holds a list, a line for each entry."""
    lines = ",\n    ".join(json.dumps(row) for row in rows)
    return f"{json.dumps(name)}: [\n    {lines}\n  ]" if rows else f"{json.dumps(name)}: []"
