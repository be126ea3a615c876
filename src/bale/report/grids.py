"""How are facts, numbers and warnings laid out on a console?"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Facts = Sequence[tuple[str, str]]

_NAME = 12  # characters that a name has at least, however narrow the console


def fact_grid(facts: Facts) -> Table:
    """Facts, a line each."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, value in facts:
        grid.add_row(name, Text(value))
    return grid


def plain_table(headings: Sequence[str]) -> Table:
    """A table without lines, its first column words, the others numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for place, heading in enumerate(headings):
        word = place == 0
        justify, least = ("left", _NAME) if word else ("right", None)
        table.add_column(heading, justify=justify, min_width=least, no_wrap=not word, overflow="fold")
    return table


def titled(title: str, *parts: RenderableType) -> RenderableType:
    """Parts below a title, which may be wider than they are."""
    return Group(Text(title, style="bold"), *parts)


def warned(lines: Sequence[str]) -> list[RenderableType]:
    if not lines:
        return []
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold red", no_wrap=True)
    grid.add_column(style="red")
    for line in lines:
        grid.add_row("WARNING", Text(line))
    return [Text(), grid]
