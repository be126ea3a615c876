"""How is a person kept informed while a model trains? A bar on a terminal, a line now and then in a log."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bale.train import StepRecord

_LINES = 20  # in a log, about; the first step always has one


class TrainingProgress:
    """Shows steps as they happen; enter it around the training, pass `on_step` and `on_stage` on."""

    def __init__(self, console: Console, total: int, done: int = 0) -> None:
        self.console = console
        self.total = total
        self.done = done
        self.loss: float | None = None
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("training", total=total, completed=done, state="")

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_step(self, record: StepRecord) -> None:
        """Show a step: the loss is a moving average, the speed that of this step."""
        self.loss = record.loss if self.loss is None else 0.95 * self.loss + 0.05 * record.loss
        state = f"loss {self.loss:.3f}  {record.samples / record.wall:,.0f} samples/s"
        self.bar.update(self.task, completed=record.step, state=state)
        first = record.step == self.done + 1
        if not self.console.is_terminal and (first or record.step % max(1, self.total // _LINES) == 0):
            self.console.print(f"step {record.step}/{self.total}  {state}", highlight=False, soft_wrap=True)

    def on_stage(self, text: str) -> None:
        """Say what comes next."""
        self.bar.update(self.task, description=text, state="")
        if not self.console.is_terminal:
            self.console.print(text, highlight=False, soft_wrap=True)
