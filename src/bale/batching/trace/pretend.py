"""When does a lazy value say that it is a tensor? When Python asks; never when torch's C++ asks.

`isinstance(ref, torch.Tensor)` must be True, so that user code branches as it would on a tensor, and isinstance looks
at `__class__`. But torch's argument parser asks the very same question where a number may stand (`torch.where(c, ref,
0.0)`), and a plain object that says yes is then read as a tensor's memory: a crash. Both come from the same frame;
only the instruction that the frame is executing tells them apart.
"""

from __future__ import annotations

import dis
import re
import sys
from functools import lru_cache
from types import CodeType

_ASKS = frozenset({"LOAD_ATTR", "LOAD_METHOD", "MATCH_CLASS"})


def asked_by_python(depth: int = 2) -> bool:
    """Is the frame `depth` above executing `isinstance(...)`, `x.__class__` or a class pattern?"""
    frame = sys._getframe(depth)
    return frame.f_lasti in _questions(frame.f_code)


# torch's own Python that hands what says it is a tensor straight to C++: function transforms, and what checkpointing
# saves (its check that something requires grad does no harm, and warns where the answer is no).
_HANDS_ON = re.compile(r"torch[/\\](_functorch[/\\].*|utils[/\\]checkpoint)\.py$")
_HARMLESS = "check_backward_validity"


@lru_cache(maxsize=8192)
def _questions(code: CodeType) -> frozenset[int]:
    """Offsets of the instructions of `code` that ask for a class in Python."""
    if _HANDS_ON.search(code.co_filename) and code.co_name != _HARMLESS:
        return frozenset()
    found: set[int] = set()
    starts: set[tuple[int | None, int | None]] = set()
    for instruction in dis.get_instructions(code):
        where = instruction.positions
        start = (where.lineno, where.col_offset) if where is not None else (None, None)
        if instruction.opname.startswith("LOAD_") and instruction.argval == "isinstance":
            starts.add(start)
        elif instruction.opname in _ASKS:
            found.add(instruction.offset)
        elif instruction.opname in ("CALL", "PRECALL") and start in starts and None not in start:
            found.add(instruction.offset)  # a call expression starts where the name of its function does
    return frozenset(found)
