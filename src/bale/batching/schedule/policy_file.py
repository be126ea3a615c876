"""Policy file: how does a policy lie in a file? As JSON with a line for each state, which people can read too."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bale.batching.schedule.encoding import Encoding, describe
from bale.batching.schedule.fingerprint import TypeKey, labels
from bale.errors import PolicyError

if TYPE_CHECKING:
    from bale.batching.schedule.fsm import Policy

FORMAT, VERSION = "bale policy", 1

Kind = TypeVar("Kind")
_KINDS = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


def to_text(policy: Policy) -> str:
    """The file's text. Each state also says in words what it means; `fields_of` does not read them."""
    names = labels(policy.types)
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "encoding": str(policy.encoding),
        "backward": policy.backward,
        "learned": dict(policy.learned),
    }
    states = [
        {
            "state": state,
            "run": choice,
            "means": f"{', '.join(describe(policy.encoding, state, names))}: {names[choice]}",
        }
        for state, choice in zip(policy.states, policy.choices, strict=True)
    ]
    fields = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in facts.items()]
    fields += [json_list("types", [asdict(key) for key in policy.types]), json_list("states", states)]
    return "{\n  " + ",\n  ".join(fields) + "\n}\n"


def fields_of(text: str) -> dict[str, Any]:
    """The fields of the Policy that a text is of. Raises PolicyError, naming what is wrong, where there is none."""
    try:
        file = At(json.loads(text), "")
    except (ValueError, RecursionError) as error:  # the latter where there are brackets in brackets without end
        raise PolicyError(f"is not the JSON of a policy: {error}") from error
    if not isinstance(file.value, dict) or file.value.get("format") != FORMAT:
        raise PolicyError(f'is no policy: expected an object whose "format" is "{FORMAT}"')
    if file.value.get("version") != VERSION:
        raise PolicyError(
            f"is of version {file.value.get('version')!r}; this bale reads version {VERSION}: learn it again"
        )
    encodings = {str(encoding): encoding for encoding in Encoding}
    encoding = file["encoding"].of(str)
    if encoding not in encodings:
        raise PolicyError(f"encoding {encoding!r} is unknown; known are {', '.join(encodings)}")
    rows = file["states"].entries()
    return {
        "types": tuple(
            TypeKey(*(key[name].of(str) for name in ("name", "fingerprint", "reads")))
            for key in file["types"].entries()
        ),
        "encoding": encodings[encoding],
        "backward": file["backward"].of(bool),
        "states": tuple(tuple(code.of(int) for code in row["state"].entries()) for row in rows),
        "choices": tuple(row["run"].of(int) for row in rows),
        "learned": file["learned"].of(dict),
    }


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
