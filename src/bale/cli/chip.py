"""`bale chip`: look at a chip, check files of chips, see every constant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bale.cli.app import FAILED, app, command
from bale.cli.options import check_json, write_json
from bale.errors import ChipError
from bale.hardware import PRESETS, dump_chip, load_chip
from bale.hardware.mac_array import ARRAYS, MacArray
from bale.report import array_dict, array_table, chip_report, chip_summary, chip_table, constants_table

chip_app = typer.Typer(
    help="Chips for `bale simulate`: what they are made of, whether a file describes one, where numbers are from.",
    no_args_is_help=True,
)
app.add_typer(chip_app, name="chip")
_command = partial(command, to=chip_app)


@_command
def show(
    chip: Annotated[
        str,
        typer.Argument(help=f"A preset, {', '.join(PRESETS)}, a YAML file, or an array of MACs, {', '.join(ARRAYS)}."),
    ],
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the chip's file, to change and use as another.")
    ] = False,
    json_to: Annotated[
        Path | None, typer.Option("--json", help="Write the chip as JSON to this file, or to stdout for -.")
    ] = None,
) -> None:
    """Print a chip's units with their power, area and energy, and what the whole chip draws, covers and could do.

    Of an array of MACs its sizes, and the energy of each event.
    """
    check_json(json_to)
    if chip in ARRAYS:
        _show_array(ARRAYS[chip](), as_yaml, json_to)
        return
    found = load_chip(chip)
    write_json(chip_report(found), json_to)
    if str(json_to) == "-":
        return
    if as_yaml:
        typer.echo(dump_chip(found), nl=False)
        return
    Console().print(chip_table(found))


def _show_array(array: MacArray, as_yaml: bool, json_to: Path | None) -> None:
    if as_yaml:
        raise ChipError(
            f"--yaml: {array.name} is an array of MACs, which no file describes; --json has its fields, and Python "
            "changes them: dataclasses.replace(bale.hardware.mac_array.smartdeal(), lines=8)"
        )
    write_json(array_dict(array), json_to)
    if str(json_to) != "-":
        Console().print(array_table(array))


@_command
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Chips as YAML.", show_default=False)],
) -> None:
    """Check files of chips: a line for each, what it describes or what is wrong with it; exit code 2 for any wrong."""
    failed = False
    for file in files:
        try:
            typer.echo(f"{file}: {chip_summary(load_chip(file))}")
        except ChipError as error:
            typer.echo(f"error: {error}", err=True)
            failed = True
    if failed:
        raise typer.Exit(FAILED)


@_command
def constants() -> None:
    """Print every constant of the accelerator model: its value, unit and source, and how sure that is."""
    Console().print(constants_table())
