"""Where on the chip do a network's matrices lie, how often, and what if there is no room?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bale.errors import MappingError
from bale.hardware.bounds import Lossless, lossless
from bale.hardware.chip import Chip
from bale.hardware.encode import Block, encode
from bale.hardware.network import Network
from bale.hardware.quantize import IntegerMatrix
from bale.hardware.replicate import Load, replicate


@dataclass(frozen=True, eq=False)
class Mapped:
    """One matrix as cells: its blocks, and what converters they need."""

    name: str
    blocks: tuple[Block, ...]
    bounds: Lossless
    outputs: int  # of all groups
    signed: bool  # its inputs

    @property
    def crossbars(self) -> int:
        """Of one copy."""
        return sum(block.crossbars for block in self.blocks)

    def utilisation(self, chip: Chip) -> float:
        """Cells that hold weights, of all cells of its crossbars."""
        return sum(block.cells_used for block in self.blocks) / (self.crossbars * chip.crossbar.cells)


@dataclass(frozen=True)
class Placed:
    """Where one matrix lies: `copies` of it side by side from crossbar `first` of the chip, in round `turn`.

    `parts`: one unless the matrix is larger than the chip, which then holds a part of it after the other.
    """

    name: str
    first: int
    copies: int
    turn: int = 0
    parts: int = 1


@dataclass(frozen=True, eq=False)
class Placement:
    """All matrices of a network on a chip, or on `budget` crossbars of it.

    More than one turn where these hold only some of them at a time.
    """

    chip: Chip
    budget: int
    matrices: dict[str, Mapped]
    places: dict[str, Placed]
    turns: int

    def crossbars(self, name: str) -> int:
        """All copies of a matrix, as far as they are there at once."""
        return min(self.budget, self.matrices[name].crossbars * self.places[name].copies)

    @property
    def used(self) -> int:
        """Crossbars in use, in the turn that uses most."""
        return max(sum(self.crossbars(name) for name in self.in_turn(turn)) for turn in range(self.turns))

    @property
    def tiles(self) -> int:
        """Tiles in use, in the turn that uses most."""
        tiles = {turn: set[int]() for turn in range(self.turns)}
        for name, placed in self.places.items():
            tiles[placed.turn].update(self.tiles_of(name))
        return max(map(len, tiles.values()))

    def in_turn(self, turn: int) -> list[str]:
        """The matrices of a turn."""
        return [name for name, placed in self.places.items() if placed.turn == turn]

    def tiles_of(self, name: str) -> range:
        """The tiles that a matrix's copies lie in."""
        first, size = self.places[name].first, self.chip.tile_crossbars
        return range(first // size, (first + self.crossbars(name) - 1) // size + 1)


def map_matrices(matrices: dict[str, IntegerMatrix], chip: Chip) -> dict[str, Mapped]:
    """Encode every matrix for the chip's crossbars."""
    mapped = {}
    for name, matrix in matrices.items():
        blocks = encode(matrix.weight.numpy(), chip, name)
        outputs = matrix.weight.shape[0] * matrix.weight.shape[2]
        mapped[name] = Mapped(name, blocks, lossless(blocks, chip), outputs, matrix.signed)
    return mapped


def place(
    network: Network,
    mapped: dict[str, Mapped],
    chip: Chip,
    *,
    crossbars: int | None = None,
    copy: bool = True,
    multiplex: bool = False,
) -> Placement:
    """Lay matrices side by side in the order of their calls, with copies that balance the pipeline (`replicate`).

    `crossbars`: a budget; the whole chip's by default. `copy=False`: one copy of each. Where there is no room for one
    copy of each, `multiplex=True` takes turns: as many matrices as fit, in order, then the next; a matrix larger than
    the chip goes in parts. Raises `MappingError`, with the numbers, where there is no room and it may not.
    """
    budget = chip.crossbars if crossbars is None else crossbars
    if not 1 <= budget <= chip.crossbars:
        raise MappingError(f"crossbars: must be 1 to {chip.crossbars:,}, which {chip.name} has; got {budget:,}")
    size = 1 if chip.share_tiles else chip.tile_crossbars
    if budget < size:
        raise MappingError(
            f"crossbars: {budget} are less than a tile's {size}, and on {chip.name} no two layers share one"
        )
    budget = budget // size * size
    loads = {load.name: load for load in _loads(network, mapped, chip, size)}
    turns = _turns(list(loads.values()), budget)
    if len(turns) > 1 or _parts(loads[turns[0][0]], budget) > 1:
        if not multiplex:
            needed = sum(load.cost(1) for load in loads.values())
            raise MappingError(
                f"{chip.name} has room for {budget:,} crossbars, and the network needs {needed:,}; take a larger chip "
                "or fewer bits, or let matrices take turns, with multiplex=True (--multiplex)"
            )
        _check_turns(network, turns)
    places: dict[str, Placed] = {}
    for turn, names in enumerate(turns):
        parts = _parts(loads[names[0]], budget)
        copies = replicate([loads[name] for name in names], budget) if copy and parts == 1 else [1] * len(names)
        first = 0
        for name, many in zip(names, copies, strict=True):
            places[name] = Placed(name, first, many, turn, parts)
            first += loads[name].cost(many)
    return Placement(chip, budget, mapped, places, len(turns))


def _loads(network: Network, mapped: dict[str, Mapped], chip: Chip, size: int) -> list[Load]:
    positions = dict.fromkeys(mapped, 0)
    copies = dict.fromkeys(mapped, 1)
    for call in network.calls:
        positions[call.matrix] += call.positions
        if not call.use.in_turn:
            copies[call.matrix] = max(copies[call.matrix], call.positions)
    return [
        Load(name, matrix.crossbars, positions[name], chip.input_cycles(matrix.signed), copies[name], size)
        for name, matrix in mapped.items()
    ]


def _turns(loads: Sequence[Load], budget: int) -> list[list[str]]:
    """As many matrices at a time as there is room for one copy of, in order."""
    turns: list[list[str]] = []
    free = 0
    for load in loads:
        if not turns or load.cost(1) > free:
            turns.append([])
            free = budget
        turns[-1].append(load.name)
        free -= load.cost(1)  # below 0 for a matrix larger than the chip, beside which nothing else has room
    return turns


def _parts(load: Load, budget: int) -> int:
    return max(1, -(-load.crossbars // max(1, budget)))


def _check_turns(network: Network, turns: list[list[str]]) -> None:
    turn = {name: index for index, names in enumerate(turns) for name in names}
    for call in network.calls:
        for edge in call.inputs:
            producer = network.calls[edge.producer].matrix
            if turn[producer] > turn[call.matrix]:
                raise MappingError(
                    f"{call.matrix}: waits for {producer}, which waits for it: no turns for them; take a larger chip"
                )
