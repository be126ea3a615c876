"""Where on the chip do a network's matrices lie, how often, and what if there is no room?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bale.errors import MappingError
from bale.hardware.bounds import Lossless, lossless
from bale.hardware.chip import Chip
from bale.hardware.circulant import Circulant
from bale.hardware.encode import Block, encode
from bale.hardware.network import Network
from bale.hardware.quantize import IntegerMatrix
from bale.hardware.replicate import Load, allocate
from bale.hardware.vector import VectorCycles, vector_cycles


@dataclass(frozen=True, eq=False)
class Mapped:
    """One matrix as cells: its blocks, and what converters they need.

    `circulant`: of one whose circulant blocks are stored once, how its rows and outputs are those of its blocks.
    """

    name: str
    blocks: tuple[Block, ...]
    bounds: Lossless
    outputs: int  # of all groups
    signed: bool  # its inputs
    circulant: Circulant | None = None

    @property
    def crossbars(self) -> int:
        """Of one copy."""
        return sum(block.crossbars for block in self.blocks)

    @property
    def rotations(self) -> int:
        """Of the inputs, for one vector."""
        return 1 if self.circulant is None else self.circulant.rotations

    def digits(self, chip: Chip) -> int:
        """Cycles in which the crossbars are driven by one vector, in all its rotations."""
        return self.rotations * chip.input_cycles(self.signed)

    def fetches(self, chip: Chip) -> int:
        """Reads of a row block's inputs, for one rotation and tile: by each of its crossbars, unless they share one."""
        if self.circulant is None or self.circulant.how.share_inputs:
            return 1
        return min(chip.tile_crossbars, max(block.crossbars for block in self.blocks))

    def vector(self, chip: Chip) -> VectorCycles:
        """How long a vector takes."""
        digits, fetch = chip.input_cycles(self.signed), self.fetches(chip)
        if self.circulant is None:
            return vector_cycles(digits)
        how = self.circulant.how
        again = 1 if how.reuse_slices else fetch
        return vector_cycles(digits, self.rotations, fetch=fetch, again=again, pipelined=how.pipelined)

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

    @property
    def ways(self) -> dict[str, tuple[Mapped]]:
        """The one way in which each matrix lies, to be placed again (`place`)."""
        return {name: (mapped,) for name, mapped in self.matrices.items()}

    def in_turn(self, turn: int) -> list[str]:
        """The matrices of a turn."""
        return [name for name, placed in self.places.items() if placed.turn == turn]

    def tiles_of(self, name: str) -> range:
        """The tiles that a matrix's copies lie in."""
        first, size = self.places[name].first, self.chip.tile_crossbars
        return range(first // size, (first + self.crossbars(name) - 1) // size + 1)


def map_matrices(
    matrices: dict[str, IntegerMatrix], chip: Chip, circulants: Mapping[str, Circulant] | None = None
) -> dict[str, tuple[Mapped, ...]]:
    """Encode every matrix for the chip's crossbars: in all the ways that there are to choose from, the smallest first.

    Of a matrix whose circulant blocks are stored once (`circulants`) ways differ in duplicates. Others have one, and
    so have those that nobody has named, or said the duplicates of, and that would take more crossbars.
    """
    mapped: dict[str, tuple[Mapped, ...]] = {}
    for name, matrix in matrices.items():
        weight, circulant = matrix.weight.numpy(), (circulants or {}).get(name)
        outputs = matrix.weight.shape[0] * matrix.weight.shape[2]
        if circulant is None or circulant.found:
            blocks = encode(weight, chip, name)
            mapped[name] = (Mapped(name, blocks, lossless(blocks, chip), outputs, matrix.signed),)
        if circulant is not None:
            stored = [circulant.with_duplicates(many) for many in circulant.widths(chip)]
            ways = tuple(_stored(matrix, each, chip) for each in stored)
            if name not in mapped or ways[0].crossbars <= mapped[name][0].crossbars:
                mapped[name] = ways
    return mapped


def _stored(matrix: IntegerMatrix, circulant: Circulant, chip: Chip) -> Mapped:
    """A matrix whose circulant blocks are stored once."""
    blocks = encode(circulant.stored(matrix.weight.numpy()), chip, matrix.name, circulant.piece_rows(chip))
    outputs = circulant.groups * circulant.outputs
    return Mapped(matrix.name, blocks, lossless(blocks, chip), outputs, matrix.signed, circulant)


def place(
    network: Network,
    ways: Mapping[str, Sequence[Mapped]],
    chip: Chip,
    *,
    crossbars: int | None = None,
    copy: bool = True,
    multiplex: bool = False,
) -> Placement:
    """Lay matrices side by side in the order of their calls, with copies that balance the pipeline (`allocate`).

    `ways`: those that there are to lay each, the smallest first, which is taken where there are no copies. `crossbars`:
    a budget; the whole chip's by default. `copy=False`: one copy of each. Where there is no room for one copy of each,
    `multiplex=True` takes turns: as many matrices as fit, in order, then the next; a matrix larger than the chip goes
    in parts. Raises `MappingError`, with the numbers, where there is no room and it may not.
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
    loads = _loads(network, ways, chip, size)
    turns = _turns([each[0] for each in loads.values()], budget)
    if len(turns) > 1 or _parts(loads[turns[0][0]][0], budget) > 1:
        if not multiplex:
            needed = sum(each[0].cost(1) for each in loads.values())
            raise MappingError(
                f"{chip.name} has room for {budget:,} crossbars, and the network needs {needed:,}; take a larger chip "
                "or fewer bits, or let matrices take turns, with multiplex=True (--multiplex)"
            )
        _check_turns(network, turns)
    places: dict[str, Placed] = {}
    chosen: dict[str, Mapped] = {}
    for turn, names in enumerate(turns):
        parts = _parts(loads[names[0]][0], budget)
        spread = copy and parts == 1
        taken = allocate([loads[name] for name in names], budget) if spread else [(0, 1)] * len(names)
        first = 0
        for name, (way, many) in zip(names, taken, strict=True):
            places[name], chosen[name] = Placed(name, first, many, turn, parts), ways[name][way]
            first += loads[name][way].cost(many)
    return Placement(chip, budget, {name: chosen[name] for name in ways}, places, len(turns))


def _loads(network: Network, ways: Mapping[str, Sequence[Mapped]], chip: Chip, size: int) -> dict[str, list[Load]]:
    """Vectors, and cycles of each; a matrix whose vectors wait for one another has one load of all of them."""
    loads: dict[str, list[Load]] = {}
    for name, each in ways.items():
        free = [call.positions for call in network.calls if call.matrix == name and not call.use.in_turn]
        positions = sum(call.positions for call in network.calls if call.matrix == name)
        loads[name] = [
            Load(name, way.crossbars, positions, way.vector(chip).occupied, max(free), size)
            if free
            else Load(name, way.crossbars, 1, copy_cycles(network, name, way.vector(chip)), 1, size)
            for way in each
        ]
    return loads


def copy_cycles(network: Network, name: str, vector: VectorCycles, copies: int = 1) -> int:
    """How long an image occupies the busiest copy of a matrix: vectors that wait for one another are in one of them."""
    calls = [call for call in network.calls if call.matrix == name]
    if all(call.use.in_turn for call in calls):
        return sum(vector.series(call.positions, call.use.in_turn) for call in calls)
    return -(-sum(call.positions for call in calls) // copies) * vector.occupied


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
