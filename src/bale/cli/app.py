"""What is the command `bale` itself, and what becomes of an error?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, ParamSpec

import typer

from bale import __version__
from bale.allocator import keep_freed_memory
from bale.errors import BaleError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
FAILED = 2

app = typer.Typer(
    name="bale",
    help="Neural networks that are cheap to run: planned, run, and what they cost said.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # what is no BaleError is a bug: Python's own traceback shows it
)

Parameters = ParamSpec("Parameters")


def guarded(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Let BaleErrors become one line on stderr and exit code 2, and Ctrl-C exit code 130."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except BaleError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return run


def command(function: Callable[Parameters, None], to: typer.Typer = app) -> Callable[Parameters, None]:
    """Add a command, guarded, to `bale` itself or to a group of its commands."""
    function = guarded(function)
    to.command()(function)
    return function


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bale {__version__}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    keep_freed_memory()
