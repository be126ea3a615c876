"""How is a person kept informed of what takes long? A bar on a terminal, a line now and then in a log."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bale.train import ImageStep, StepRecord

_LINES = 20  # in a log, about; the first step always has one


class _Bar:
    """A bar on a terminal; enter it around what takes long."""

    def __init__(self, console: Console, description: str, total: int, done: int = 0) -> None:
        self.console = console
        self.total = total
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
        self.task = self.bar.add_task(description, total=total, completed=done, state="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def line(self, text: str) -> None:
        """A line in a log."""
        if not self.console.is_terminal:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class TrainingProgress(_Bar):
    """Shows steps as they happen; enter it around the training, pass `on_step` and `on_stage` on."""

    def __init__(self, console: Console, total: int, done: int = 0) -> None:
        super().__init__(console, "training", total, done)
        self.done = done
        self.loss: float | None = None

    def on_step(self, record: StepRecord) -> None:
        """Show a step: the loss is a moving average, the speed that of this step."""
        self.loss = record.loss if self.loss is None else 0.95 * self.loss + 0.05 * record.loss
        state = f"loss {self.loss:.3f}  {record.samples / record.wall:,.0f} samples/s"
        self.bar.update(self.task, completed=record.step, state=state)
        if record.step == self.done + 1 or record.step % max(1, self.total // _LINES) == 0:
            self.line(f"step {record.step}/{self.total}  {state}")

    def on_stage(self, text: str) -> None:
        """Say what comes next."""
        self.bar.update(self.task, description=text, state="")
        self.line(text)


class LearningProgress(_Bar):
    """Shows episodes of learning as they happen, each way from the first; pass `on_episode` on."""

    def __init__(self, console: Console, episodes: int) -> None:
        super().__init__(console, "learning", episodes)
        self.episode = 0
        self.fewest: int | None = None

    def on_episode(self, episode: int, batches: int | None) -> None:
        """Show an episode, and the fewest batches so far; a line in a log where there are fewer than before."""
        if episode <= self.episode:  # begun again, the other way
            self.fewest = None
            self.bar.update(self.task, description="learning in reverse")
            self.line("and in reverse")
        self.episode = episode
        state = "" if batches is None else f"{batches:,} batches"
        self.bar.update(self.task, completed=episode, state=state)
        if batches != self.fewest:
            self.fewest = batches
            self.line(f"episode {episode}/{self.total}  {state}")


class ImageProgress(_Bar):
    """Shows steps of training on images; enter it around the training, pass `on_step` on."""

    def __init__(self, console: Console, description: str, total: int, done: int = 0) -> None:
        super().__init__(console, description, total, done)
        self.description = description
        self.done = done
        self.loss: float | None = None

    def on_step(self, record: ImageStep) -> None:
        """Show a step: the loss is a moving average."""
        self.loss = record.loss if self.loss is None else 0.95 * self.loss + 0.05 * record.loss
        state = f"loss {self.loss:.3f}"
        self.bar.update(self.task, completed=record.step, state=state)
        if record.step == self.done + 1 or record.step % max(1, self.total // _LINES) == 0:
            self.line(f"{self.description}: step {record.step}/{self.total}  {state}")


class TrainingsProgress:
    """Shows one training on images after another, a bar each; enter it around all of them.

    Call `begin` before each training, pass `on_step` on.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: ImageProgress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self, description: str, total: int, done: int = 0) -> None:
        """End the bar that is there; begin another, of a training of which so many steps are done already."""
        self.end()
        self.bar = ImageProgress(self.console, description, total, done)
        self.bar.__enter__()

    def on_step(self, record: ImageStep) -> None:
        """Show a step."""
        assert self.bar is not None  # `begin` comes first
        self.bar.on_step(record)

    def end(self) -> None:
        """Take the last bar away."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
            self.bar = None


class SimulationProgress(_Bar):
    """Shows samples that a chip has computed; enter it around the simulation, pass `on_samples` on."""

    def __init__(self, console: Console, description: str, total: int) -> None:
        super().__init__(console, description, total)
        self.description = description
        self.samples = 0
        self.bar.update(self.task, state="first in floating point and in integers")

    def on_samples(self, many: int) -> None:
        """Count samples that are done; a line in a log for each twentieth of all."""
        before, self.samples = self.samples, self.samples + many
        self.bar.update(self.task, completed=self.samples, state="")
        if before * _LINES // self.total < self.samples * _LINES // self.total:
            self.line(f"{self.description}: sample {self.samples}/{self.total}")


class SearchProgress(_Bar):
    """Shows designs of a search as they are finished, by whichever worker; enter it around the search."""

    def __init__(self, console: Console, total: int, done: int = 0) -> None:
        super().__init__(console, "searching", max(total, done), done)

    def on_design(self, done: int, text: str, best: str) -> None:
        """Show how many designs are done, what became of the last one, and the best so far."""
        self.bar.update(self.task, completed=done, state=best)
        self.line(f"{done}/{self.total}: {text}; {best}")

    def on_test(self, many: int, of: int) -> None:
        """Show how many designs of the front were run on the images of the test."""
        self.bar.update(self.task, description="testing", total=of, completed=many, state="")
