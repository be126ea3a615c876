"""`bale codesign`: which methods, with which numbers, on which chip? A search that workers share and that goes on."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import nn

from bale.cli.app import INTERRUPTED, command
from bale.cli.networks import (
    BATCH_SIZE,
    EPOCHS,
    EPOCHS_OF_FEW,
    EPOCHS_TEXT,
    FEW,
    IMAGE_DATA,
    NETWORK,
    ReadImages,
    check_at_least,
    check_weights,
    of_amount,
    read_images,
    with_weights,
)
from bale.cli.options import check_json, check_picture, option, save_picture, write_json
from bale.cli.progress import SearchProgress
from bale.codesign.search import (
    Budgets,
    Candidate,
    Design,
    Front,
    Outcome,
    Problem,
    Search,
    Space,
    Splits,
    finish,
    front,
    nearest,
    parse_budget,
    parse_drop,
    split,
    work_together,
)
from bale.compress import load_packed_, save_packed
from bale.errors import BaleError
from bale.hardware import LAWS, PRESETS, Chip, chip_dict, load_chip
from bale.report import codesign_dict, codesign_table, draw_front
from bale.report.codesign import design_command, nearest_text
from bale.report.quantities import digits
from bale.train import Retraining, build_classifier, image_accuracy, load_weights

_AGAIN, _AGAIN_OF_FEW = 2, 10  # epochs
_IMAGES = 10_000
_TEST = 1000  # as `bale simulate` has it
_BUDGET = "NAME=NUMBER,...: area of the tiles in use in mm2, energy of an image in uJ, latency in us."
_CHIP = f"Whose crossbars, cells and bits are varied: a preset, {', '.join(PRESETS)}, or a YAML file."


@command
def codesign(
    spec: Annotated[str, typer.Argument(metavar="MODEL", help=f"The network: {NETWORK}", show_default=False)],
    data: Annotated[str | None, option(IMAGE_DATA, "fashion-mnist where it is installed, else digits")] = None,
    width: Annotated[int | None, option("Maps of the first convolutions of vgg8 and resnet20.", "16 and 8")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="A state_dict, .safetensors or .pt, or a packed .bale, instead of training first."),
    ] = None,
    budget: Annotated[str | None, option(_BUDGET, "none")] = None,
    accuracy_drop: Annotated[
        str | None, option("The most that a design may lose: 1%, a percentage point, or 0.01.", "as much as it likes")
    ] = None,
    trials: Annotated[int, typer.Option(help="Designs to try, those that lie in the folder among them.")] = 30,
    workers: Annotated[int, typer.Option(help="Processes; more may join from other shells.")] = 1,
    epochs: Annotated[
        int | None,
        option(
            "Train a design again so long, after each of its methods.",
            f"{_AGAIN}, or {_AGAIN_OF_FEW} of fewer than {FEW:,} images",
        ),
    ] = None,
    images: Annotated[int, typer.Option(help="Images to train designs again on, or all where there are fewer.")] = (
        _IMAGES
    ),
    dense_epochs: Annotated[
        int | None, option("Train the dense network so long first; 0: weights as they come.", EPOCHS_TEXT)
    ] = None,
    chip: Annotated[str, typer.Option(help=_CHIP)] = "isaac_ce",
    adc_law: Annotated[
        str | None, option(f"What converters cost by their bits: {', '.join(LAWS)}.", "the chip's")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of first weights, of orders of training, and of the search.")] = 0,
    save: Annotated[Path | None, option("Folder of the search, which goes on there.", "runs/codesign-MODEL")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw energy against area, and the front, to this .svg, .png or .pdf.")
    ] = None,
    threads: Annotated[
        int, typer.Option(help="torch's threads of a worker: one number for all, or last bits would differ.")
    ] = 1,
    download: Annotated[bool, typer.Option("--download", help="Download Fashion-MNIST where it is not found.")] = False,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON to this file, or to stdout for -.")
    ] = None,
) -> None:
    """Search for a network and a chip together: methods of compression, their numbers, crossbars, cells and bits.

    Each design is compressed, mapped, and, where it is within the budgets, trained again and run on its chip, whose
    converters lose nothing. Designs are judged by images of training that are held out. The report is the Pareto front
    of energy, area and accuracy, with its accuracy on images of the test. The search lies in a folder: the same command
    goes on there after Ctrl-C (exit code 130), or joins in. The report goes to stdout, progress to stderr.
    """
    check_at_least(0, epochs=epochs, dense_epochs=dense_epochs, seed=seed)
    check_at_least(1, trials=trials, workers=workers, images=images, threads=threads)
    check_weights(weights, None)
    if weights is not None and dense_epochs is not None:
        raise BaleError("--weights has what was trained, and --dense-epochs trains; give one of them")
    check_json(json_to)
    if picture is not None:
        check_picture(picture)
    drop = None if accuracy_drop is None else parse_drop(accuracy_drop)
    budgets = Budgets(**({} if budget is None else parse_budget(budget)), drop=drop)
    base = _base(chip, adc_law)
    torch.set_num_threads(threads)
    notes = Console(stderr=True)
    read = read_images(data, download, notes)
    name = spec.rsplit("/", 1)[-1]
    asked = _Asked(
        spec=spec,
        data=read.name,
        width=width,
        weights=weights,
        budgets=budgets,
        base=base,
        images=images,
        again=of_amount(read.train, _AGAIN, _AGAIN_OF_FEW) if epochs is None else epochs,
        before=of_amount(read.train, EPOCHS, EPOCHS_OF_FEW) if dense_epochs is None else dense_epochs,
        seed=seed,
        threads=threads,
        folder=save or Path("runs") / f"codesign-{name.replace(':', '-')}",
    )
    begun: list[Path] = []
    try:
        found, facts, random = _search(asked, read, trials, workers, notes, begun)
    except KeyboardInterrupt:
        told = f"; the same command goes on from {asked.folder}" if begun else ""
        typer.echo(f"interrupted{told}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    write_json({**codesign_dict(spec, found, budgets), "settings": asked.settings(), "trained": facts}, json_to)
    if picture is not None:
        save_picture(draw_front(name, found, budgets), picture)
    if str(json_to) != "-":
        _print(asked, read, found, facts["text"], random)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What is searched for which network, so that another process can begin with it."""

    spec: str
    data: str
    width: int | None
    weights: Path | None
    budgets: Budgets
    base: Chip
    images: int
    again: int
    before: int
    seed: int
    threads: int
    folder: Path

    @property
    def dense(self) -> Path:
        """The dense network, trained; what says where its weights are from stands in its facts."""
        return self.folder / "dense.bale"

    def settings(self) -> dict[str, Any]:
        """All that outcomes depend on, by the options' names."""
        file = self.spec.rpartition(":")[0]
        return {
            "MODEL": _with_digest(self.spec, Path(file)) if file.endswith(".py") else self.spec,
            "--data": self.data,
            "--width": self.width,
            "--weights": None if self.weights is None else _with_digest(str(self.weights), self.weights),
            "--budget": {name: value for name, value in asdict(self.budgets).items() if name != "drop"},
            "--accuracy-drop": self.budgets.drop,
            "--epochs": self.again,
            "--images": self.images,
            "--dense-epochs": None if self.weights else self.before,
            "--chip": self.base.name,
            "--adc-law": self.base.adc.law,
            "the chip's numbers, SHA-256": _digest(json.dumps(chip_dict(self.base)).encode()),
            "--seed": self.seed,
            "--threads": self.threads,
        }

    def network(self, read: ReadImages) -> nn.Module:
        """The network before its training."""
        return build_classifier(self.spec, read.train, width=self.width, seed=self.seed)

    def open(self, model: nn.Module) -> Search:
        """The study, with the methods that fit the network."""
        space = Space().that_fits(model)
        settings = {**self.settings(), "space": asdict(space)}
        return Search.open(self.folder, settings, space, self.base, self.budgets, self.seed)

    def problem(self, model: nn.Module, read: ReadImages, splits: Splits) -> Problem:
        """What each design is judged by; the model is trained."""
        return Problem(
            model=model,
            train=read.train,
            again=splits.again,
            validation=splits.validation,
            accuracy=image_accuracy(model, splits.validation),
            base=self.base,
            budgets=self.budgets,
            how=Retraining(epochs=self.again, batch_size=BATCH_SIZE, seed=self.seed),
            folder=self.folder / "networks",
        )


def _search(
    asked: _Asked, read: ReadImages, trials: int, workers: int, notes: Console, begun: list[Path]
) -> tuple[Front, dict[str, Any], bool]:
    """Train the dense network, search, and test what was found; also where the dense weights are from."""
    splits = split(read.train, asked.images)
    model = asked.network(read)
    if asked.weights is not None:
        load_weights(asked.network(read), asked.weights)  # what does not fit is an error before the folder is of it
    search = asked.open(model)  # of another search is an error now, not after training
    begun.append(asked.folder)
    if not asked.dense.exists():
        _train_dense(asked, model, splits, notes)
    model = asked.network(read)
    facts = dict(load_packed_(model, asked.dense).facts)
    problem = asked.problem(model.eval(), read, splits)
    with SearchProgress(notes, trials, search.counts.finished) as progress:
        tell = _teller(search, progress)
        if workers == 1:
            search.work(problem.evaluate, trials, on_outcome=tell)
        else:
            begin = partial(_begin, asked)
            work_together(search, begin, trials, workers, threads=asked.threads, on_outcome=tell)
        test = read.test.take(min(_TEST, len(read.test)))
        found = finish(problem, search.candidates(), test, asked.folder, progress.on_test)
    return found, facts, bool(facts["random"])


def _begin(asked: _Asked) -> tuple[Search, Callable[[Design], Outcome]]:
    """What another process begins with: the same study, the same network, trained already."""
    read = read_images(asked.data, False, Console(quiet=True))
    model = asked.network(read)
    search = asked.open(model)
    trained = copy.deepcopy(model)
    load_packed_(trained, asked.dense)
    return search, asked.problem(trained.eval(), read, split(read.train, asked.images)).evaluate


def _train_dense(asked: _Asked, model: nn.Module, splits: Splits, notes: Console) -> None:
    """Train the network, or read its weights, and write it where workers find it."""
    name = asked.spec.rsplit("/", 1)[-1]
    epochs = None if asked.weights is not None else asked.before
    trained = with_weights(asked.spec, name, model, splits.dense, asked.weights, epochs, asked.seed, notes)
    facts = {**trained.facts, "text": trained.text, "random": trained.random}
    # Who joins in may be about to write the same network: each has a name of its own until it is whole.
    own = asked.dense.with_name(f"dense-{os.getpid()}.bale")
    save_packed(model, own, facts=facts)
    os.replace(own, asked.dense)


def _teller(search: Search, progress: SearchProgress) -> Callable[[Candidate], None]:
    def tell(candidate: Candidate) -> None:
        design = candidate.design
        text = f"design {candidate.number}, {design.methods_text} on {design.chip_text}: {_outcome_text(candidate)}"
        best = _best_text(search.candidates(), search.budgets)
        progress.on_design(search.counts.finished, text, best)

    return tell


def _outcome_text(candidate: Candidate) -> str:
    outcome, costs = candidate.outcome, candidate.outcome.costs
    again = "" if candidate.copy_of is None else f", as design {candidate.copy_of}"
    if costs is None:
        return f"{outcome.refused}{again}"
    drop = f"not trained, {outcome.refused}" if outcome.drop is None else _drop_text(outcome.drop)
    return f"{digits(costs.energy)} uJ, {digits(costs.area)} mm2, {drop}{again}"


def _drop_text(drop: float) -> str:
    return f"{100 * abs(drop):.2f} points {'less' if drop >= 0 else 'more'}"


def _best_text(candidates: list[Candidate], budgets: Budgets) -> str:
    """Of designs within budgets the one that takes least energy, or what comes nearest to them."""
    missed = nearest(candidates, budgets)
    if missed is not None:
        return nearest_text(missed)
    found = front(candidates, budgets)
    return f"best: design {found[0].number}, {_outcome_text(found[0])}" if found else "nothing fits yet"


def _base(source: str, law: str | None) -> Chip:
    chip = load_chip(source)
    if law is None:
        return chip
    if law not in LAWS:
        raise BaleError(f"--adc-law {law}: no such law; there are {', '.join(LAWS)}")
    return replace(chip, adc=replace(chip.adc, law=law, energy_pj=None, area_um2=None))


def _print(asked: _Asked, read: ReadImages, found: Front, weights: str, random: bool) -> None:
    again = f"{asked.again} epoch{'' if asked.again == 1 else 's'} a method, seed {asked.seed}"
    law = f"{asked.base.name} varied, converters by the law {asked.base.adc.law}"
    lines = [("data", read.text), ("weights", weights), ("trained again", again), ("chip", law)]
    warnings = ["the network had random weights: its accuracy means nothing"] if random else []
    options = f" --data {shlex.quote(read.name)}" + ("" if asked.width is None else f" --width {asked.width}")
    console = Console()
    console.print(codesign_table(asked.spec, found, asked.budgets, lines, warnings))
    if found.designs:
        console.print("\na design by itself, from its files:", style="bold")
        console.print(design_command(asked.spec, found.designs[0], options), highlight=False, soft_wrap=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _with_digest(text: str, file: Path) -> str:
    """So that another content of a file of the same name is seen."""
    return f"{text} (SHA-256 {_digest(file.read_bytes())})"
