"""`bale noc`: what a network's numbers do on the way from tile to tile of its chip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from bale.cli.app import command
from bale.cli.networks import IMAGE_DATA, NETWORK, check_at_least, check_weights, read_images, with_weights
from bale.cli.options import check_json, check_picture, option, save_picture, write_json
from bale.errors import BaleError
from bale.hardware import (
    PLACEMENTS,
    PRESETS,
    ROUTER_ENERGIES,
    NocEnergy,
    Router,
    estimate_noc,
    load_chip,
    put_on_chip,
    simulate_noc,
    weight_masks,
)
from bale.hardware.mac_array import ARRAYS
from bale.report import draw_noc, noc_dict, noc_table
from bale.train import build_classifier

_CALIBRATION, _LOAD = 64, 0.5


@command
def noc(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"A network: {NETWORK}", show_default=False)],
    chip: Annotated[str, typer.Option(help=f"A preset, {', '.join(PRESETS)}, or a YAML file.")] = "small_tiles",
    placement: Annotated[str, typer.Option(help=f"Tiles to routers: {', '.join(PLACEMENTS)}.")] = "snake",
    torus: Annotated[bool, typer.Option("--torus", help="Link the rims of the mesh, too.")] = False,
    multicast: Annotated[
        bool, typer.Option("--multicast", help="Send once to all tiles that need the same; not once to each.")
    ] = False,
    sparse: Annotated[bool, typer.Option("--sparse", help="Send nothing for weights that are 0 on the chip.")] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Simulate a sample's packets cycle by cycle, too.")
    ] = False,
    load: Annotated[
        float | None, option("Flits a cycle on the busiest link, or from or to a router; simulates.", _LOAD)
    ] = None,
    router_energy: Annotated[str, typer.Option(help=f"What a router costs: {', '.join(ROUTER_ENERGIES)}.")] = "isaac",
    link_pj: Annotated[float | None, option("pJ of a bit on a link.", "0, part of the router's")] = None,
    vcs: Annotated[int, typer.Option(help="Virtual channels of a router's input.")] = 4,
    depth: Annotated[int, typer.Option(help="Flits that a virtual channel holds.")] = 8,
    flit_bits: Annotated[int, typer.Option(help="Bits of a flit.")] = 256,
    data: Annotated[str | None, option(IMAGE_DATA, "fashion-mnist where it is installed, else digits")] = None,
    width: Annotated[int | None, option("Maps of the first convolutions of vgg8 and resnet20.", "16 and 8")] = None,
    weights: Annotated[Path | None, typer.Option(help="A state_dict, .safetensors or .pt, or a packed .bale.")] = None,
    epochs: Annotated[int | None, option("Train so long first; traffic asks for no accuracy.", 0)] = None,
    weight_bits: Annotated[int | None, option("Bits of a weight.", "the chip's")] = None,
    input_bits: Annotated[int | None, option("Bits of an input.", "the chip's")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, of annealing, of when packets come.")] = 0,
    threads: Annotated[int | None, option("torch's threads.", "as torch finds best")] = None,
    download: Annotated[bool, typer.Option("--download", help="Download Fashion-MNIST where it is not found.")] = False,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the report as JSON to this file, or to stdout for -.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the mesh and its links to this .svg, .png or .pdf.")
    ] = None,
) -> None:
    """Map a network on a chip, a copy of each matrix, and say what travels between its tiles for one sample.

    Loads, energies and latencies are added up without contention; --simulate sends a sample's packets through routers
    cycle by cycle. Where weights lie, not what they are, makes the traffic: a known network is not trained unless
    --epochs or --weights say so, which matter with --sparse. The report goes to stdout, progress to stderr.
    """
    notes = Console(stderr=True)
    if chip in ARRAYS:
        raise BaleError(f"--chip {chip} is an array of MACs, which has no tiles; take one of {', '.join(PRESETS)}")
    known = load_chip(chip)
    _check(placement, load, epochs, threads)
    check_weights(weights, epochs)
    check_json(json_to)
    if picture is not None:
        check_picture(picture)
    router = Router(vcs, depth, flit_bits)
    energy = NocEnergy.of(router_energy)
    energy = energy if link_pj is None else NocEnergy(energy.router_pj, link_pj)
    if threads is not None:
        torch.set_num_threads(threads)
    images = read_images(data, download, notes)
    network = build_classifier(model, images.train, width=width, seed=seed)
    trained = with_weights(model, model.rsplit("/", 1)[-1], network, images.train, weights, epochs or 0, seed, notes)
    on_chip = put_on_chip(
        network,
        known,
        images.train[:_CALIBRATION].pixels(),
        calibration=_CALIBRATION,
        weight_bits=weight_bits,
        input_bits=input_bits,
        copy=False,
    )
    estimate = estimate_noc(
        on_chip,
        placement=placement,
        torus=torus,
        multicast=multicast,
        masks=weight_masks(on_chip) if sparse else None,
        energy=energy,
        router=router,
        seed=seed,
    )
    run = None
    if (simulate or load is not None) and len(estimate.ways):  # with --sparse there may be nothing to send
        with notes.status("simulating packets"):
            run = simulate_noc(estimate.mesh, estimate.packets(load or _LOAD, seed), router)
    report = noc_dict(estimate, run) | {"model": trained.name, "data": images.name, "weights": trained.facts}
    write_json(report, json_to)
    if str(json_to) != "-":
        facts = [("model", trained.name), ("data", images.text), ("weights", trained.text)]
        Console().print(noc_table(estimate, run, facts))
    if picture is not None:
        save_picture(draw_noc(estimate, trained.name), picture)


def _check(placement: str, load: float | None, epochs: int | None, threads: int | None) -> None:
    check_at_least(0, epochs=epochs)
    check_at_least(1, threads=threads)
    if placement not in PLACEMENTS:
        raise BaleError(f"--placement: expected {', '.join(PLACEMENTS)}, got {placement!r}")
    if load is not None and not 0 < load <= 1:
        raise BaleError(f"--load: must be above 0 and at most 1 flit a cycle, got {load:g}")
