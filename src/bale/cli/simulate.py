"""`bale simulate`: networks on accelerators, what they compute there and what that costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from bale.cli.app import command
from bale.cli.networks import (
    EPOCHS_TEXT,
    IMAGE_DATA,
    NETWORK,
    Trained,
    check_at_least,
    check_weights,
    read_images,
    with_weights,
)
from bale.cli.options import check_json, check_picture, check_writable, option, save_picture, write_json
from bale.cli.progress import SimulationProgress
from bale.cli.simulate_array import ARRAY_SAMPLES, chosen_array, simulate_array
from bale.data import Images
from bale.errors import BaleError
from bale.hardware import (
    PRESETS,
    Chip,
    CirculantMapping,
    Simulation,
    cost_on_chip,
    load_chip,
    parse_noise,
    put_on_chip,
    run_on_chip,
)
from bale.hardware.converters import AdcBits
from bale.hardware.mac_array import ARRAYS
from bale.report import draw_energy, draw_pipeline, simulation_dict, simulation_table
from bale.train import build_classifier, save_weights

_SAMPLES, _CALIBRATION = 1000, 64


@command
def simulate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=f"Networks: {NETWORK}", show_default=False)],
    chips: Annotated[
        list[str] | None,
        option(
            f"A preset, {', '.join(PRESETS)}, or a YAML file; several are compared. Or, by itself, an array of MACs: "
            f"{', '.join(ARRAYS)}; with it, only options of networks, images and the report.",
            "isaac_ce",
            "--chip",
        ),
    ] = None,
    data: Annotated[str | None, option(IMAGE_DATA, "fashion-mnist where it is installed, else digits")] = None,
    width: Annotated[int | None, option("Maps of the first convolutions of vgg8 and resnet20.", "16 and 8")] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="A state_dict, .safetensors or .pt, or a packed .bale, instead of training; for one network."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the trained weights to this .safetensors.")] = None,
    epochs: Annotated[int | None, option("Train so long first; 0: weights as they come.", EPOCHS_TEXT)] = None,
    samples: Annotated[
        int | None, option("Images of the test to run.", f"{_SAMPLES}, or all; on an array of MACs {ARRAY_SAMPLES}")
    ] = None,
    weight_bits: Annotated[int | None, option("Bits of a weight.", "the chip's")] = None,
    input_bits: Annotated[int | None, option("Bits of an input.", "the chip's")] = None,
    adc_bits: Annotated[
        str | None,
        option("Of converters: a number, or exact or a-priori: of each matrix the fewest without loss.", "the chip's"),
    ] = None,
    noise: Annotated[
        str,
        typer.Option(
            help="Of devices, such as variation=0.1,read=0.5; there are stuck_off and stuck_on, too.",
            show_default="none",
        ),
    ] = "",
    trials: Annotated[int, typer.Option(help="Draw devices so often.")] = 1,
    seed: Annotated[int, typer.Option(help="Of first weights, order of training and devices.")] = 0,
    every_conversion: Annotated[
        bool, typer.Option("--every-conversion", help="Make conversions that are proven lossless, too.")
    ] = False,
    crossbars: Annotated[int | None, option("Use so many crossbars at most.", "all of the chip")] = None,
    copies: Annotated[bool, typer.Option("--copies/--no-copies", help="Copy matrices to balance the pipeline.")] = True,
    multiplex: Annotated[
        bool, typer.Option("--multiplex", help="Let matrices take turns on a chip that is too small.")
    ] = False,
    circulant: Annotated[
        int | None,
        typer.Option(help="Store circulant blocks of so many rows and columns once, and turn the inputs (ReBoc)."),
    ] = None,
    duplicates: Annotated[
        int | None, option("With --circulant: columns for each block.", "what fills crossbars, and more if it pays")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a network that has products which no crossbar does.")
    ] = False,
    threads: Annotated[int | None, option("torch's threads.", "as torch finds best")] = None,
    download: Annotated[bool, typer.Option("--download", help="Download Fashion-MNIST where it is not found.")] = False,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON to this file, or to stdout for -.")
    ] = None,
    energy_picture: Annotated[
        Path | None, typer.Option(help="Draw the energy by component to this .svg, .png or .pdf.")
    ] = None,
    pipeline_picture: Annotated[
        Path | None, typer.Option(help="Draw when layers work on which image to this .svg, .png or .pdf.")
    ] = None,
) -> None:
    """Map a network on a ReRAM accelerator, run test images through its crossbars bit by bit, count energy and time.

    A known network is trained here first, on the images of training, unless --weights has what was trained. Ranges of
    inputs are calibrated on images of training. Several networks and chips are compared side by side. The report goes
    to stdout, progress to stderr; Ctrl-C ends at once, with exit code 130.
    """
    no_meaning = {
        "noise": bool(noise),
        "trials": trials != 1,
        "every-conversion": every_conversion,
        "weight-bits": weight_bits is not None,
        "input-bits": input_bits is not None,
        "adc-bits": adc_bits is not None,
        "crossbars": crossbars is not None,
        "no-copies": not copies,
        "multiplex": multiplex,
        "strict": strict,
        "circulant": circulant is not None,
        "duplicates": duplicates is not None,
        "energy-picture": energy_picture is not None,
        "pipeline-picture": pipeline_picture is not None,
    }
    array = chosen_array(chips or [], no_meaning)
    if array is not None:
        _check(len(models), models, weights, save, epochs, trials, samples, threads)
        check_json(json_to)
        simulate_array(
            array,
            list(zip(models, _names(models), strict=True)),
            data=data,
            width=width,
            weights=weights,
            save=save,
            epochs=epochs,
            samples=samples,
            seed=seed,
            threads=threads,
            download=download,
            json_to=json_to,
        )
        return
    notes = Console(stderr=True)
    devices = parse_noise(noise or "")
    known = _load_chips(chips or ["isaac_ce"])
    _check(len(models) * len(known), models, weights, save, epochs, trials, samples, threads)
    check_json(json_to)
    for picture in (energy_picture, pipeline_picture):
        if picture is not None:
            check_picture(picture)
    if pipeline_picture is not None and len(models) * len(known) > 1:
        raise BaleError("--pipeline-picture draws one network on one chip")
    if duplicates is not None and circulant is None:
        raise BaleError("--duplicates says how often circulant blocks are stored; give --circulant, too")
    if circulant is not None and weights is None and epochs != 0:
        raise BaleError(
            "--circulant needs circulant weights, and training here makes none; run bale compress --method "
            f"block-circulant:block={circulant}, and give what it writes with --weights"
        )
    stored = None if circulant is None else CirculantMapping(circulant, duplicates)
    if threads is not None:
        torch.set_num_threads(threads)
    images = read_images(data, download, notes)
    train, test = images.train, images.test
    test = test.take(min(_SAMPLES, len(test)) if samples is None else samples)
    mapping = {
        "weight_bits": weight_bits,
        "input_bits": input_bits,
        "adc_bits": _adc_bits(adc_bits),
        "crossbars": crossbars,
        "copy": copies,
        "multiplex": multiplex,
        "strict": strict,
        "circulant": stored,
    }
    bound = isinstance(mapping["adc_bits"], str)  # of weights that are not there yet
    early: dict[str, Any] = {**mapping, "adc_bits": None} if bound else mapping
    running = {"noise": devices, "seed": seed, "trials": trials, "every_conversion": every_conversion}
    simulations: list[Simulation] = []
    networks: list[Trained] = []
    for spec, name in zip(models, _names(models), strict=True):
        model = build_classifier(spec, train, width=width, seed=seed)
        for chip in known if stored is None else ():  # no room on the chip is an error now, not after training
            put_on_chip(model, chip, train[:1].pixels(), **early)
        networks.append(with_weights(spec, name, model, train, weights, epochs, seed, notes))
        if save is not None:
            save_weights(model, save)
        simulations += [_simulate(networks[-1], chip, train, test, mapping, running, notes) for chip in known]
    _print_report(simulations, networks, ("data", images.text), train, json_to)
    if energy_picture is not None:
        save_picture(draw_energy(simulations), energy_picture)
    if pipeline_picture is not None:
        save_picture(draw_pipeline(simulations[0]), pipeline_picture)


def _simulate(
    trained: Trained,
    chip: Chip,
    train: Images,
    test: Images,
    mapping: dict[str, Any],
    running: dict[str, Any],
    notes: Console,
) -> Simulation:
    """One network on one chip: calibrated on images of training, run on those of the test."""
    model, pixels = trained.model, test.pixels()
    on_chip = put_on_chip(model, chip, train[:_CALIBRATION].pixels(), calibration=_CALIBRATION, **mapping)
    cost = replace(cost_on_chip(on_chip, model, pixels), model=trained.name)
    with SimulationProgress(notes, f"{trained.name} on {chip.name}", running["trials"] * len(test)) as progress:
        run = run_on_chip(on_chip, model, pixels, test.labels, on_samples=progress.on_samples, **running)
    return Simulation(cost, run)


def _adc_bits(given: str | None) -> AdcBits:
    """As `put_on_chip` takes it."""
    if given is None or given == "exact":
        return given
    if given == "a-priori":
        return "a priori"
    if not given.isdecimal():
        raise BaleError(f"--adc-bits: expected a number, exact or a-priori, got {given!r}")
    return int(given)


def _load_chips(sources: list[str]) -> list[Chip]:
    """Chips, each with a name of its own: where two have the same, what was given."""
    chips = [load_chip(source) for source in dict.fromkeys(sources)]
    times = Counter(chip.name for chip in chips)
    return [
        chip if times[chip.name] == 1 else replace(chip, name=source)
        for source, chip in zip(dict.fromkeys(sources), chips, strict=True)
    ]


def _check(
    pairs: int,
    models: list[str],
    weights: Path | None,
    save: Path | None,
    epochs: int | None,
    trials: int,
    samples: int | None,
    threads: int | None,
) -> None:
    """Find out now, not after training, what cannot be."""
    check_at_least(0, epochs=epochs)
    check_at_least(1, trials=trials, samples=samples, threads=threads)
    for name, value in (("weights", weights), ("save", save)):
        if value is not None and len(models) > 1:
            raise BaleError(f"--{name} is for one network, got {len(models)}: {', '.join(models)}")
    if len(set(models)) < len(models):
        raise BaleError(f"a network stands there twice: {', '.join(models)}")
    check_weights(weights, epochs)
    if save is not None:
        if save.suffix != ".safetensors":
            raise BaleError(f"{save}: expected a name that ends in .safetensors")
        if save.exists():
            raise BaleError(f"{save}: exists already; use it with --weights, or choose another name")
        check_writable(save, "expected a file")


def _names(specs: list[str]) -> list[str]:
    """Networks' names in the report: without folders, where they stay unlike."""
    short = [spec.rsplit("/", 1)[-1] for spec in specs]
    return short if len(set(short)) == len(short) else specs


def _print_report(
    simulations: list[Simulation], networks: list[Trained], data: tuple[str, str], train: Images, json_to: Path | None
) -> None:
    by_name = {network.name: network for network in networks}
    reports = [
        {
            **simulation_dict(simulation),
            "data": {"name": train.name, "calibration": min(_CALIBRATION, len(train))},
            "weights": by_name[simulation.cost.model].facts,
        }
        for simulation in simulations
    ]
    write_json(reports if len(reports) > 1 else reports[0], json_to)
    if str(json_to) == "-":
        return
    one = len(networks) == 1
    facts = [data, *(("weights" if one else network.name, network.text) for network in networks)]
    warnings = [
        f"{network.name} has random weights: its accuracy means nothing, and its energy may differ"
        for network in networks
        if network.random
    ]
    Console().print(simulation_table(simulations, facts, warnings))
