"""How is a person kept informed of a stream that runs? A line on a terminal, one now and then in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bale.video.metrics.latency import Result

_RECENT = 300  # frames that speed and p99 are of: ten seconds at 30 a second
_PAUSE = 0.25  # seconds between two looks of a terminal
_LOG_PAUSE = 10.0  # ... of a log


class LiveStatistics:
    """Speed, latency, key rate and lost frames while they happen; enter it around the stream, pass results to `show`.

    A frame costs a few additions: what takes longer is done a few times a second. Speed and p99 are of the last 300
    frames, the mean, the key rate and what was lost of the whole stream. `clock` returns seconds.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        total: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.console = console
        self.name = name
        self.total = total
        self._clock = clock
        self._frames = self._dropped = self._problems = self._keys = 0
        self._last_key: int | None = None
        self._latency_sum = 0.0
        self._latencies: deque[float] = deque(maxlen=_RECENT)
        self._finished: deque[float] = deque(maxlen=_RECENT)
        self._pause = _PAUSE if console.is_terminal else _LOG_PAUSE
        self._shown = clock()
        columns = (
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}"),
        )
        self._bar = Progress(
            *columns,
            console=console,
            disable=not console.is_terminal,
            transient=True,
            auto_refresh=False,
            redirect_stdout=False,  # which may be a file
        )
        self._task = self._bar.add_task(name, total=total, state="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, result: Result) -> None:
        """Count a frame, and show where everything stands if it is time to."""
        self._frames += 1
        if result.kind == "dropped":
            self._dropped += 1
        else:
            self._problems += bool(result.problem)
            self._latency_sum += result.latency
            self._latencies.append(result.latency)
        if result.key_index is not None and result.key_index != self._last_key:
            self._keys, self._last_key = self._keys + 1, result.key_index
        self._finished.append(result.finished)
        now = self._clock()
        if now - self._shown >= self._pause:
            self._shown = now
            self._refresh()

    def state(self) -> str:
        """Where everything stands, in a line."""
        of = "" if self.total is None else f"/{self.total:,}"
        parts = [f"frame {self._frames:,}{of}", f"{self._speed():,.1f} a second"]
        if self._latencies:
            mean = 1e3 * self._latency_sum / (self._frames - self._dropped)
            p99 = 1e3 * float(np.quantile(self._latencies, 0.99, method="inverted_cdf"))
            parts.append(f"latency {mean:,.1f} ms, p99 {p99:,.1f}")
        if self._frames:
            parts.append(f"keys {self._keys / self._frames:.1%}")
        parts += [f"{self._dropped:,} dropped"] if self._dropped else []
        parts += [f"{self._problems:,} with a problem"] if self._problems else []
        return "  ".join(parts)

    def _speed(self) -> float:
        span = self._finished[-1] - self._finished[0] if self._finished else 0.0
        return (len(self._finished) - 1) / span if span > 0 else 0.0

    def _refresh(self) -> None:
        state = self.state()
        if self.console.is_terminal:
            self._bar.update(self._task, completed=self._frames, state=state, refresh=True)
        else:
            self.console.print(f"{self.name}: {state}", highlight=False, markup=False, soft_wrap=True)
