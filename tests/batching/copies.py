"""Counts the bytes that copies between batches write while a call runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bale.batching.execute import captured_frame, frame, memory, plain_frame
from bale.batching.execute.gather import Matrix
from bale.batching.execute.plain_frame import PlainFrame

# Of each torch function that writes rows: the argument that is as large as what it writes, None for its result.
WRITES = {"index_select": None, "copy_": None, "add_": None, "zero_": None, "index_copy_": 3}


class Copied:
    """The bytes that functions between batches have written so far."""

    def __init__(self) -> None:
        self.written = 0
        self._inside = False

    def take(self) -> int:
        """What was written since the last time."""
        found, self.written = self.written, 0
        return found

    @contextmanager
    def listening(self) -> Iterator[None]:
        if self._inside:  # one function of those that are heard calls another
            yield
            return
        self._inside = True
        try:
            with _Heard(self):
                yield
        finally:
            self._inside = False


class _Heard(TorchDispatchMode):
    def __init__(self, copied: Copied):
        super().__init__()
        self.copied = copied

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in WRITES:
            written = result if WRITES[name] is None else args[WRITES[name]]
            self.copied.written += written.numel() * written.element_size()
        return result


@contextmanager
def counting() -> Iterator[Copied]:
    """Everything that moves values between batches is heard, and compiled loops say what they write."""
    counted = Copied()
    with pytest.MonkeyPatch.context() as monkeypatch:
        _listen(counted, monkeypatch)
        yield counted


def _listen(counted: Copied, monkeypatch: pytest.MonkeyPatch) -> None:

    def heard(owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with counted.listening():
                return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    for owner in (captured_frame, plain_frame):
        heard(owner, "fetch_operand")
        heard(owner, "fetch_gradient")
    for name in ("_operand", "_write_outputs", "_write_block"):
        heard(PlainFrame, name)
    divide = frame.divide

    def counted_divide(rows: torch.Tensor, counts: Any) -> None:
        before = counted.written
        divide(rows, counts)
        counted.written = before + int((counts > 1).sum()) * rows.shape[1] * rows.element_size()

    monkeypatch.setattr(frame, "divide", counted_divide)

    def loop(name: str, rows_of: Callable[..., int]) -> None:
        """However it is done: so many rows are written, as wide as those of the first argument."""
        function: Callable[..., Any] = getattr(memory, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            source, before = args[0], counted.written
            tensor = source.tensor if isinstance(source, Matrix) else torch.from_numpy(source)
            function(*args, **kwargs)
            counted.written = before + rows_of(*args) * tensor.shape[1] * tensor.element_size()

        monkeypatch.setattr(memory, name, wrapper)

    loop("take", lambda source, index, low, count, *rest: count)
    loop("take_pieces", lambda source, index, low, high, *rest: int((high - low).sum()))
    loop("take_sum", lambda source, index, start, first, count, *rest: count)
    loop("sum_crowded", lambda m, reader, start, summed, target, low, n: int(summed[low + n] - summed[low]))
