"""CellFilter: which modules may be cells?"""

from __future__ import annotations

from typing import Any

from torch import nn

from bale.errors import CellError


class CellFilter:
    """Which modules may be cells: those that `cells` lists (instances, classes or paths), or all."""

    def __init__(self, cells: Any = None):
        self.given = None if cells is None else tuple(cells)
        for cell in self.given or ():
            if not isinstance(cell, (str, nn.Module)) and not (isinstance(cell, type) and issubclass(cell, nn.Module)):
                raise CellError(f"cells= lists modules, module classes or paths such as 'encoder.leaf'; got {cell!r}")

    def moved(self, model: nn.Module, copy: nn.Module) -> CellFilter:
        """The same filter for a copy of `model`: modules that it lists are found by their paths."""
        if self.given is None:
            return self
        paths = {id(module): path for path, module in model.named_modules()}
        copies = dict(copy.named_modules())
        return CellFilter(
            [copies[paths[id(c)]] if isinstance(c, nn.Module) and id(c) in paths else c for c in self.given]
        )

    def allows(self, module: nn.Module, path: str) -> bool:
        if self.given is None:
            return True
        return any(
            cell == path
            if isinstance(cell, str)
            else module is cell or (isinstance(cell, type) and type(module) is cell)
            for cell in self.given
        )
