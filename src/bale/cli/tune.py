"""`bale tune`: measure this machine's rule, and write it where every process finds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from bale.batching.cells.rule import Rule, rule_path
from bale.batching.tune import NEVER, Tried
from bale.batching.tune import tune as measure
from bale.cli.app import command
from bale.cli.options import check_writable, option
from bale.errors import BaleError


@command
def tune(
    output: Annotated[
        Path | None, option("Where the rule goes, as JSON.", "where bale looks for it", "--output")
    ] = None,
    threads: Annotated[int | None, option("Threads that torch uses.", "as torch finds best")] = None,
    repeats: Annotated[int, typer.Option(help="Timed runs of each way.", min=1)] = 15,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rule as JSON instead of a table.")] = False,
) -> None:
    """Measure when packed weights, several threads and bfloat16 products pay on this machine.

    It takes some seconds. Results are as before but for last bits; delete the file to go back to the defaults. Nothing
    else should run meanwhile.
    """
    path = output or rule_path()
    if output is not None:
        check_writable(path, "give --output a file")
    if threads is not None:
        if threads < 1:
            raise BaleError(f"--threads is {threads}; expected at least 1")
        torch.set_num_threads(threads)
    notes = Console(stderr=True)
    with notes.status("measuring") as status:
        rule, tried = measure(repeats, lambda name: status.update(f"measuring {name}"))
    rule.save(path)
    if as_json:
        typer.echo(json.dumps({**asdict(rule), "tried": [asdict(each) for each in tried]}, indent=2))
        return
    Console().print(_tries(tried))
    Console().print(_numbers(rule))
    notes.print(f"written to {path}", highlight=False)


_MEANS = {
    "packed_from": "batches of a type from which its weights are copied into the order of products",
    "packed_up_to": "numbers in a weight up to which that pays",
    "shared_from": "numbers in a batch from which threads share a kernel",
    "half_from": "numbers in a weight from which bfloat16 products pay, where they are asked for",
}


def _numbers(rule: Rule) -> Table:
    """What was found, beside what holds where nothing was measured."""
    table = Table()
    for name in ("number", "default", "here", "what it says"):
        table.add_column(name, justify="right" if name in ("default", "here") else "left")
    for name, means in _MEANS.items():
        here = getattr(rule, name)
        table.add_row(name, f"{getattr(Rule(), name):,}", "never" if here >= NEVER else f"{here:,}", means)
    return table


def _tries(tried: Sequence[Tried]) -> Table:
    """Every comparison."""
    table = Table(caption="medians, microseconds")
    for name in ("number", "size", "without", "with", "ratio"):
        table.add_column(name, justify="left" if name == "number" else "right")
    for k, each in enumerate(tried):
        last = k + 1 == len(tried) or tried[k + 1].name != each.name
        ratio = each.with_it / each.without
        table.add_row(
            each.name, f"{each.size:,}", f"{each.without:.1f}", f"{each.with_it:.1f}", f"{ratio:.2f}", end_section=last
        )
    return table
