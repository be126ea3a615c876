"""How far is a run? One progress bar after the other, for each training of it."""

from __future__ import annotations

from rich.console import Console

from bale.cli.progress import ImageProgress
from bale.train import ImageStep


class Bars:
    """The bars of a run, which begin with its title; `close` ends the last of them."""

    def __init__(self, console: Console, title: str) -> None:
        self.console, self.title = console, title
        self.bar: ImageProgress | None = None
        self.steps = 0

    def on_step(self, what: str, step: ImageStep) -> None:
        if self.bar is None or step.step <= self.steps:
            self.close()
            self.bar = ImageProgress(self.console, f"{self.title}: {what}", step.steps, step.step - 1)
            self.bar.__enter__()
        self.steps = step.step
        self.bar.on_step(step)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
            self.bar = None
