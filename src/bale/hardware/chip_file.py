"""How is a chip written down? As YAML: sections of a `Chip`, its units by name; an error names file, line and field."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from difflib import get_close_matches
from enum import StrEnum
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from bale.errors import ChipError
from bale.hardware.chip import Chip, Unit
from bale.hardware.presets import PRESETS, preset

_BASE = "base"
# As people and JSON write them: 4e-5, which is a word to YAML 1.1, and 0100, which it takes for 64.
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_SHOWN = 40  # characters of a wrong value in an error


def load_chip(source: str | PathLike[str]) -> Chip:
    """Return a chip by a preset's name (`isaac_ce`, `isaac_adc(6)`, `small_tiles`), or from a YAML file.

    A file has the fields of `Chip`, as `dump_chip` writes them; with `base: isaac_ce` only those that differ. Raises
    `ChipError`, `file:line: field: what was expected`.
    """
    known = preset(str(source))
    if known is not None:
        return known
    path = Path(source)
    if not path.is_file():
        raise ChipError(f"{source}: neither a file nor a preset; presets are {', '.join(PRESETS)}")
    try:
        return parse_chip(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ChipError(f"{source}: cannot be read: {error}") from error


def parse_chip(text: str, path: str = "<text>") -> Chip:
    """Read a chip's YAML; `path` says in an error where the text is from."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ChipError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    return _Reader(path).chip(root)


def chip_dict(chip: Chip) -> dict[str, Any]:
    """The chip as plain numbers and names, as its file has them."""
    plain = _plain(asdict(chip))
    plain["units"] = {unit.pop("name"): unit for unit in plain["units"]}
    return plain


def dump_chip(chip: Chip) -> str:
    """The chip as YAML; `parse_chip` reads the same chip."""
    return yaml.safe_dump(chip_dict(chip), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, StrEnum) else value


class _Reader:
    """Reads nodes of YAML, which know their lines, into dataclasses."""

    def __init__(self, path: str) -> None:
        self.path = path

    def error(self, node: yaml.Node, field: str, problem: str) -> ChipError:
        return ChipError(f"{self.path}:{node.start_mark.line + 1}: {f'{field}: ' if field else ''}{problem}")

    def chip(self, root: yaml.Node | None) -> Chip:
        if not isinstance(root, yaml.MappingNode):
            raise ChipError(f"{self.path}: expected the fields of a chip, such as name: my_chip")
        nodes = self.entries(root, "")
        base: dict[str, Any] = {}
        if _BASE in nodes:
            _, node = nodes.pop(_BASE)
            name = self.scalar(node, _BASE, str)
            try:
                known = preset(name)
            except ChipError as error:
                raise self.error(node, _BASE, str(error)) from None
            if known is None:
                raise self.error(node, _BASE, f"no preset {name!r}; presets are {', '.join(PRESETS)}")
            base = {field.name: getattr(known, field.name) for field in fields(Chip)}
        return self.build(Chip, root, "", nodes, base)

    def entries(self, node: yaml.Node, field: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """A mapping's keys, each with the nodes of key and value."""
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, field, "expected fields, one a line, such as bits: 8")
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, field, "expected the name of a field before the colon")
            name = key.value
            if name in found:
                raise self.error(key, _join(field, name), "stands here twice")
            found[name] = key, value
        return found

    def build(
        self,
        kind: type,
        node: yaml.Node,
        where: str,
        nodes: dict[str, tuple[yaml.Node, yaml.Node]],
        base: Mapping[str, Any],
    ) -> Any:
        """An object of a dataclass: of the nodes, and of `base` where there is no node."""
        hints = get_type_hints(kind)
        known: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}
        values = dict(base)
        for name, (key, value) in nodes.items():
            if name not in known or (kind is Unit and name == "name"):
                near = get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"
                raise self.error(key, _join(where, name), f"no such field{hint}")
            values[name] = self.value(value, _join(where, name), hints[name], base.get(name))
        for name, field in known.items():
            if name not in values and field.default is MISSING:
                raise self.error(node, _join(where, name), "is missing")
        try:
            return kind(**values)
        except ChipError as error:
            raise ChipError(f"{self.path}:{self.line(str(error), where, nodes, node)}: {error}") from None

    def line(self, message: str, where: str, nodes: dict[str, tuple[yaml.Node, yaml.Node]], node: yaml.Node) -> int:
        """The line of the field that a check's message begins with, as far as this mapping has it."""
        named = message.split(":")[0].split(".")
        last = next((part for part in reversed(named) if part in nodes), None)
        first = named[0]
        if last is None and first in nodes:
            last = first
        at = nodes[last][0] if last is not None else node
        return at.start_mark.line + 1

    def value(self, node: yaml.Node, field: str, hint: Any, base: Any) -> Any:
        if get_origin(hint) is tuple:
            return self.units(node, field, base or ())
        if is_dataclass(hint):
            assert isinstance(hint, type)
            fallback = {} if base is None else {part.name: getattr(base, part.name) for part in fields(hint)}
            return self.build(hint, node, field, self.entries(node, field), fallback)
        return self.scalar(node, field, hint)

    def units(self, node: yaml.Node, field: str, base: tuple[Unit, ...]) -> tuple[Unit, ...]:
        """Units by name, after the base's in its order, in the place of its where the name is the same."""
        units = {unit.name: unit for unit in base}
        for name, (_, value) in self.entries(node, field).items():
            old = units.get(name)
            fallback = {"name": name}
            if old is not None:
                fallback = {part.name: getattr(old, part.name) for part in fields(Unit)}
            where = _join(field, name)
            units[name] = self.build(Unit, value, where, self.entries(value, where), fallback)
        return tuple(units.values())

    def scalar(self, node: yaml.Node, field: str, hint: Any) -> Any:
        """A number, word or truth value of the type that the field has; nothing is turned into another quietly."""
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, field, "expected one value, got several")
        if get_origin(hint) in (Union, types.UnionType):
            hint = next(part for part in get_args(hint) if part is not type(None))
            if _tag(node) == "null":
                return None
        value, expected = _read(node, hint)
        if value is None:
            text = node.value if len(node.value) <= _SHOWN else node.value[:_SHOWN] + "..."
            raise self.error(node, field, f"expected {expected}, got {text!r}")
        return value


def _read(node: yaml.ScalarNode, hint: Any) -> tuple[Any, str]:
    """A value of the type, or None where it is none; and what the type is called."""
    text = node.value
    if get_origin(hint) is Literal:
        return text if text in get_args(hint) else None, f"one of {', '.join(get_args(hint))}"
    if issubclass(hint, StrEnum):
        return hint(text) if text in list(hint) else None, f"one of {', '.join(hint)}"
    if hint is bool:
        return {"true": True, "false": False}.get(text.lower()) if node.style is None else None, "true or false"
    if hint is str:
        return text if _tag(node) == "str" else None, "a word"
    number = float(text) if node.style is None and _NUMBER.fullmatch(text) else None
    if hint is float:
        return number, "a number"
    whole = number is not None and abs(number) < 2**53 and number == int(number)
    return int(number) if number is not None and whole else None, "a whole number"


def _tag(node: yaml.Node) -> str:
    return str(node.tag).rsplit(":", 1)[-1]


def _join(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name
