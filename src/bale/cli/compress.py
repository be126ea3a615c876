"""`bale compress`: a network of fewer bytes, trained again, in one file, with what that did to it."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
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
    Trained,
    check_at_least,
    check_weights,
    of_amount,
    read_images,
    with_weights,
)
from bale.cli.options import check_json, check_writable, option, write_json
from bale.cli.progress import TrainingsProgress
from bale.cli.saved_options import is_packed_of, keep_options, keep_packed
from bale.codesign import with_traffic
from bale.compress import METHODS, CommunicationAwareConfig, Config, Report, compress_, parse_config
from bale.data import Images
from bale.errors import BaleError
from bale.hardware import PRESETS
from bale.report import CompressionResult, compression_dict, compression_table
from bale.train import (
    Part,
    Retraining,
    Setting,
    Target,
    Try,
    build_classifier,
    compress_and_train,
    find_for_accuracy,
    image_accuracy,
    parse_target,
    setting_for_ratio,
    steps_done,
    with_adc_bits,
    write_and_test,
)
from bale.train.compression import part_folder
from bale.train.compression_target import folder_of, settings_of, varied_field

_RETRAIN_OF_FEW = 30
_HOW = Retraining(batch_size=BATCH_SIZE)
_METHOD = "block-circulant"
_CHIP = "small_tiles"
_TARGET = (
    "ratio=X, times fewer bytes; accuracy=X, or =-X or =-X% for a drop; adc_bits=N, for adc-aware. It chooses a field "
    "of the last method."
)


@command
def compress(
    spec: Annotated[str, typer.Option("--model", help=f"The network: {NETWORK}", show_default=False)],
    data: Annotated[str | None, option(IMAGE_DATA, "fashion-mnist where it is installed, else digits")] = None,
    width: Annotated[int | None, option("Maps of the first convolutions of vgg8 and resnet20.", "16 and 8")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="A state_dict, .safetensors or .pt, or a packed .bale, instead of training first."),
    ] = None,
    epochs: Annotated[int | None, option("Train so long before; 0: weights as they come.", EPOCHS_TEXT)] = None,
    methods: Annotated[
        list[str] | None,
        option(f"METHOD[:FIELD=VALUE,...] of {', '.join(METHODS)}; several stack, in this order.", _METHOD, "--method"),
    ] = None,
    chip: Annotated[
        str | None,
        option(f"For communication-aware: a preset, {', '.join(PRESETS)}, or a YAML file.", _CHIP),
    ] = None,
    target: Annotated[str | None, option(_TARGET, "the fields as they are given")] = None,
    retrain_epochs: Annotated[
        int | None,
        option("Train so long afterwards.", f"{_HOW.epochs}, or {_RETRAIN_OF_FEW} of fewer than {FEW:,} images"),
    ] = None,
    lr: Annotated[float, typer.Option(help="Adam's learning rate when training afterwards.")] = _HOW.lr,
    seed: Annotated[int, typer.Option(help="Of first weights and of orders of training.")] = 0,
    save: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints; the same command then goes on where Ctrl-C left it.")
    ] = None,
    packed: Annotated[Path | None, option("Write the compressed network to this file.", "MODEL-METHOD.bale")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the packed file that is there.")] = False,
    threads: Annotated[int | None, option("torch's threads.", "as torch finds best")] = None,
    download: Annotated[bool, typer.Option("--download", help="Download Fashion-MNIST where it is not found.")] = False,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON to this file, or to stdout for -.")
    ] = None,
) -> None:
    """Compress a network by one or more methods, train it again, write it to a packed file, and say what that did.

    A known network is trained here first, unless --weights has what was trained. Accuracy is that of the packed file,
    read back, on the images of the test. A ratio is reached by bytes that are known before training; an accuracy by
    training several settings. The report goes to stdout, progress to stderr. Ctrl-C ends at once, with exit code 130;
    with --save the same command goes on from there, and ends, on as many threads, with the same result bit for bit.
    """
    texts = methods or [_METHOD]
    asked = _Asked(
        spec=spec,
        configs=tuple(map(parse_config, texts)),
        target=None if target is None else parse_target(target),
        weights=weights,
        epochs=epochs,
        how=replace(_HOW, lr=lr, seed=seed),
        save=save,
        chip=chip,
    )
    asked.check_target(texts[-1])
    asked.check_chip()
    path = packed or Path(f"{asked.file_name}.bale")
    check_at_least(0, epochs=epochs, retrain_epochs=retrain_epochs, seed=seed)
    check_at_least(1, threads=threads)
    if not 0 < lr < inf:
        raise BaleError(f"--lr must be above 0 and finite, got {lr}")
    check_weights(weights, epochs)
    _check_files(path, force, save, json_to)
    if threads is not None:
        torch.set_num_threads(threads)
    notes = Console(stderr=True)
    try:
        images = read_images(data, download, notes)
        again = of_amount(images.train, _HOW.epochs, _RETRAIN_OF_FEW) if retrain_epochs is None else retrain_epochs
        asked = replace(asked, how=replace(asked.how, epochs=again))
        _compress(asked, images, width, path, json_to, notes)
    except KeyboardInterrupt:
        told = "with --save FOLDER it could go on later" if save is None else f"the same command goes on from {save}"
        typer.echo(f"interrupted; {told}", err=True)
        raise typer.Exit(INTERRUPTED) from None


@dataclass(frozen=True)
class _Asked:
    """What is to be done to which network, in the options' words."""

    spec: str
    configs: tuple[Config, ...]
    target: Target | None
    weights: Path | None
    epochs: int | None
    how: Retraining
    save: Path | None
    chip: str | None = None

    @property
    def name(self) -> str:
        """The network's, without folders."""
        return self.spec.rsplit("/", 1)[-1]

    @property
    def file_name(self) -> str:
        """Of the network and its methods, as all systems allow it."""
        return re.sub(r"[^\w.-]", "-", "-".join((self.name, *(config.method for config in self.configs))))

    def check_target(self, last: str) -> None:
        """Raise BaleError where the target is not for the last method, or its text gives the field to be chosen."""
        if self.target is None:
            return
        if self.target.kind == "adc_bits":
            with_adc_bits(self.configs, int(self.target.value))
        chosen = varied_field(self.configs[-1])
        given = [each.partition("=")[0].strip() for each in last.partition(":")[2].split(",")]
        if chosen in given:
            raise BaleError(
                f"--target {self.target} chooses {chosen}, which --method {last} gives; leave one of them out"
            )

    @property
    def traffic_chip(self) -> str | None:
        """The chip whose traffic a method looks at; None: none does."""
        return (
            (self.chip or _CHIP) if any(isinstance(each, CommunicationAwareConfig) for each in self.configs) else None
        )

    def check_chip(self) -> None:
        """Raise BaleError for a chip that no method looks at."""
        if self.chip is not None and self.traffic_chip is None:
            raise BaleError(
                f"--chip {self.chip} is for --method {CommunicationAwareConfig.method}; the others look at no chip"
            )

    def on_chip(self, model: nn.Module, train: Images) -> _Asked:
        """The same, where methods that look at a chip know its traffic."""
        chip = self.traffic_chip
        if chip is None:
            return self
        return replace(self, configs=with_traffic(self.configs, model, chip, train[:1].pixels()))

    def check_fit(self, model: nn.Module) -> None:
        """Raise BaleError, before any training, where a method fits no layer, or no setting reaches a ratio.

        Bytes of weights before and after training differ by codes that become 0, of the strongest settings hardly.
        """
        if self.target is None or self.target.kind == "adc_bits":
            trial = copy.deepcopy(model)
            for config in self.chosen:
                compress_(trial, config)
        elif self.target.kind == "ratio":
            setting_for_ratio(model, self.configs, self.target.value)
        else:
            settings_of(model, self.configs)

    @property
    def chosen(self) -> tuple[Config, ...]:
        """The methods, where no search has to choose their numbers."""
        if self.target is not None and self.target.kind == "adc_bits":
            return with_adc_bits(self.configs, int(self.target.value))
        return self.configs

    def options(self, images: ReadImages, width: int | None) -> dict[str, Any]:
        """All that the result depends on, threads aside, by the options' names."""
        weights = None if self.weights is None else _with_digest(str(self.weights), self.weights)
        file = self.spec.rpartition(":")[0]
        before = of_amount(images.train, EPOCHS, EPOCHS_OF_FEW) if self.epochs is None else self.epochs
        return {
            "model": _with_digest(self.spec, Path(file)) if file.endswith(".py") else self.spec,
            "data": images.name,
            "width": width,
            "weights": weights,
            "epochs": None if weights else before,
            "method": [_text_of(config) for config in self.configs],
            **({} if self.traffic_chip is None else {"chip": _chip_text(self.traffic_chip)}),
            "target": None if self.target is None else str(self.target),
            "retrain-epochs": self.how.epochs,
            "lr": self.how.lr,
            "seed": self.how.seed,
        }


@dataclass
class _Bars:
    """Says which training comes next: of which try, of which part of it."""

    progress: TrainingsProgress
    images: Images
    save: Path | None
    title: str
    folder: Path | None = field(init=False)

    def __post_init__(self) -> None:
        self.folder = None if self.save is None else self.save / "compressed"

    def on_try(self, number: int, most: int, setting: Setting) -> None:
        self.title = f"try {number} of at most {most}: {setting}"
        self.folder = None if self.save is None else folder_of(self.save, setting)

    def on_part(self, place: int, part: Part) -> None:
        done = 0 if self.folder is None else steps_done(part_folder(self.folder, place))
        self.progress.begin(f"{self.title} ({part.name})", part.epochs * -(-len(self.images) // _HOW.batch_size), done)


@dataclass(frozen=True, eq=False)
class _Compressed:
    """A network after compression, its report, and the tries that led to it."""

    model: nn.Module
    report: Report
    tries: tuple[Try, ...] = ()


def _check_files(packed: Path, force: bool, save: Path | None, json_to: Path | None) -> None:
    """Raise BaleError for files that cannot be written, and for a packed file that was written by something else.

    One that the run in `save` has written may be replaced, by that run: `keep_options` refuses another.
    """
    check_json(json_to)
    check_writable(packed, "--packed expects a file")
    if packed.exists() and not force and (save is None or not is_packed_of(save, packed)):
        raise BaleError(f"{packed}: exists already; choose another name with --packed, or replace it with --force")


def _compress(
    asked: _Asked, images: ReadImages, width: int | None, path: Path, json_to: Path | None, notes: Console
) -> None:
    """Train, choose, compress and train again, write, read back, report."""
    seed, save = asked.how.seed, asked.save
    model = build_classifier(asked.spec, images.train, width=width, seed=seed)
    asked = asked.on_chip(model, images.train)
    asked.check_fit(model)
    if save is not None:
        keep_options(save, asked.options(images, width))
    dense = None if save is None else save / "dense"
    trained = with_weights(
        asked.spec, asked.name, model, images.train, asked.weights, asked.epochs, seed, notes, save=dense
    )
    before = image_accuracy(model, images.test)
    with TrainingsProgress(notes) as progress:
        compressed = _search(asked, model, images, before, _Bars(progress, images.train, save, asked.name))
    if save is not None:
        keep_packed(save, path)
    file = write_and_test(compressed.model, model, path, compressed.report.configs, images.test)
    result = CompressionResult(
        asked.name, compressed.report, before, len(images.test), file, asked.target, compressed.tries
    )
    _print_report(result, trained, images, asked, json_to)


def _search(asked: _Asked, model: nn.Module, images: ReadImages, before: float, bars: _Bars) -> _Compressed:
    """Compress a copy of a model, and train it again, by the methods' numbers or by those that the target chooses."""
    target, how = asked.target, asked.how
    if target is not None and target.kind == "accuracy":
        found = find_for_accuracy(
            model,
            images.train,
            images.test,
            asked.configs,
            target.least(before),
            how,
            on_try=bars.on_try,
            on_part=bars.on_part,
            on_step=bars.progress.on_step,
            save=asked.save,
        )
        return _Compressed(found.model, found.report, found.tries)
    configs: Sequence[Config] = asked.chosen
    if target is not None and target.kind == "ratio":
        configs = setting_for_ratio(model, configs, target.value).configs
    compressed = copy.deepcopy(model)
    report = compress_and_train(
        compressed, images.train, configs, how, on_part=bars.on_part, on_step=bars.progress.on_step, save=bars.folder
    )
    return _Compressed(compressed, report)


def _print_report(
    result: CompressionResult, trained: Trained, images: ReadImages, asked: _Asked, json_to: Path | None
) -> None:
    how, chip = asked.how, asked.traffic_chip
    facts = {"data": {"name": images.train.name}, "trained": trained.facts, "retraining": asdict(how)}
    facts |= {} if chip is None else {"chip": chip}
    write_json({**compression_dict(result), **facts}, json_to)
    if str(json_to) == "-":
        return
    epochs = f"{how.epochs} epoch{'' if how.epochs == 1 else 's'}"
    again = f"{epochs} by Adam, lr {how.lr:g}, seed {how.seed}" if how.epochs else "no"
    lines = [("data", images.text), ("weights", trained.text), ("trained again", again)]
    lines += [] if chip is None else [("chip", chip)]
    warnings = ["the network had random weights: its accuracy means nothing"] if trained.random else []
    Console().print(compression_table(result, lines, warnings))


def _with_digest(text: str, file: Path) -> str:
    """So that another content of a file of the same name is seen."""
    return f"{text} (SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]})"


def _chip_text(chip: str) -> str:
    return _with_digest(chip, Path(chip)) if Path(chip).is_file() else chip


def _text_of(config: Config) -> str:
    """As `parse_config` reads it, with all fields."""
    numbers = {name: value for name, value in config.to_dict().items() if name != "method"}
    listed = ",".join(f"{name}={'none' if value is None else value}" for name, value in numbers.items())
    return f"{config.method}:{listed}"
