"""Policy file: how does a policy lie in a file? As JSON with a line for each state, which people can read too."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bale.batching.schedule.encoding import Encoding, describe
from bale.batching.schedule.fingerprint import TypeKey, labels
from bale.batching.schedule.json_file import Form, json_list
from bale.errors import PolicyError

if TYPE_CHECKING:
    from bale.batching.schedule.fsm import Policy

FORM = Form("bale policy", 1, "a policy", "is no policy", "learn it again")


def to_text(policy: Policy) -> str:
    """The file's text. Each state also says in words what it means; `fields_of` does not read them."""
    names = labels(policy.types)
    facts = {
        "format": FORM.format,
        "version": FORM.version,
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
    file = FORM.open(text)
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
