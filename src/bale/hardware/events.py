"""What happens on the chip for one image, how often, and what does that cost?

An event is counted once, for one matrix; the chip's unit that it belongs to says what it costs. So the components'
energy adds up to the total, and what would be counted twice is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bale.errors import BaleError
from bale.hardware.chip import Chip, Event
from bale.hardware.encode import Block
from bale.hardware.extent import first_columns
from bale.hardware.mapping import Mapped, Placement
from bale.hardware.network import Network
from bale.hardware.noc.topology import mesh_of
from bale.hardware.reach import Reach, output_of_input, reach

# Where is counted what belongs to no matrix: activations and pools; the network's inputs and outputs.
DIGITAL, OUTSIDE = "(digital)", "(in and out)"
_WORD = 256  # bits of an access to eDRAM, of a flit


@dataclass
class Ledger:
    """Counts of events by (layer or matrix, event), for one image."""

    counts: dict[tuple[str, Event], float] = field(default_factory=dict)

    def count(self, where: str, event: Event, times: float) -> None:
        """Write an event down; raises `BaleError` where it has been counted already."""
        if (where, event) in self.counts:
            raise BaleError(f"{where}: the event {event} would be counted twice")
        self.counts[where, event] = float(times)

    def total(self, event: Event) -> float:
        """Of all matrices."""
        return sum(times for (_, kind), times in self.counts.items() if kind == event)


@dataclass(frozen=True)
class Energy:
    """pJ for one image: by (layer or matrix, unit of the chip), and the events that no unit pays for."""

    parts: dict[tuple[str, str], float]
    unpaid: tuple[Event, ...]

    @property
    def total_pj(self) -> float:
        return sum(self.parts.values())

    def by_unit(self) -> dict[str, float]:
        """pJ by unit of the chip."""
        return _sums((unit, energy) for (_, unit), energy in self.parts.items())

    def by_layer(self) -> dict[str, float]:
        """pJ by matrix."""
        return _sums((where, energy) for (where, _), energy in self.parts.items())


def _sums(pairs) -> dict[str, float]:  # type: ignore[no-untyped-def]
    sums: dict[str, float] = {}
    for name, energy in pairs:
        sums[name] = sums.get(name, 0.0) + energy
    return sums


def energy_of(ledger: Ledger, chip: Chip, conversions_pj: Mapping[str, float] | None = None) -> Energy:
    """Let the chip's units pay for what was counted; `conversions_pj`: by matrix, where its converters are its own."""
    own = {} if conversions_pj is None else conversions_pj
    payers = {unit.event: unit for unit in chip.all_units if unit.event is not None}
    parts: dict[tuple[str, str], float] = {}
    unpaid: list[Event] = []
    for (where, event), times in ledger.counts.items():
        if event is Event.CELL_WRITE:
            parts[where, "cell writes"] = times * chip.cell.write_pj
        elif event in payers:
            energy = payers[event].energy_pj
            if event is Event.CONVERSION:
                energy = own.get(where, energy)
            parts[where, payers[event].name] = times * energy
        elif times and event not in unpaid:
            unpaid.append(event)
    return Energy(parts, tuple(unpaid))


def count_events(
    network: Network,
    placement: Placement,
    kept: Mapping[str, np.ndarray],
    drives: Mapping[str, np.ndarray],
    images: int,
) -> Ledger:
    """Count what one image of `images` causes.

    `kept`: of each matrix, bool [outputs, rows]: which weights are not 0 (`kept_weights`); for others nothing is sent.
    `drives`: for each matrix, how strongly each of its rows [groups * rows] is driven, summed over the digits of one
    vector, mean over the data: 1 for a full drive, by the square of the voltage. Only a chip whose cells are read "by
    conductance" asks for it.
    """
    ledger = Ledger()
    chip = placement.chip
    spreads = {name: spread(placement, mapped) for name, mapped in placement.matrices.items()}
    positions = dict.fromkeys(placement.matrices, 0)
    for call in network.calls:
        positions[call.matrix] += call.positions
    for name, mapped in placement.matrices.items():
        _count_crossbars(ledger, chip, mapped, positions[name], drives[name])
        _count_tile(ledger, chip, mapped, positions[name], spreads[name])
        if placement.turns > 1 or placement.places[name].parts > 1:
            cells = sum(block.rows * block.columns for block in mapped.blocks) * placement.places[name].copies
            ledger.count(name, Event.CELL_WRITE, cells / images)
    reaches = {name: reach(placement, network.matrices[name], kept[name]) for name in placement.matrices}
    _count_traffic(ledger, network, placement, reaches)
    for kind, event in (("activation", Event.ACTIVATION), ("pool", Event.POOL)):
        ledger.count(DIGITAL, event, sum(op.elements for op in network.digital if op.kind == kind))
    return ledger


def _count_crossbars(ledger: Ledger, chip: Chip, mapped: Mapped, positions: int, drives: np.ndarray) -> None:
    """What every vector does in crossbars, digit by digit: the same, however many copies share the vectors.

    Where its inputs are turned, each rotation drives all rows and converts all columns, those of padding too.
    """
    cycles = positions * mapped.digits(chip)
    columns = sum(block.columns for block in mapped.blocks)
    rows = sum(block.rows * block.crossbars for block in mapped.blocks)
    for event in (Event.HOLD, Event.CONVERSION, Event.SHIFT_ADD, Event.OUTPUT_REGISTER):
        ledger.count(mapped.name, event, cycles * columns)
    ledger.count(mapped.name, Event.ROW_DRIVE, cycles * rows)
    ledger.count(mapped.name, Event.INPUT_REGISTER, positions * mapped.rotations * chip.input_bits * rows)
    if chip.cell.read == "fixed":
        read = cycles * sum(block.rows * block.columns for block in mapped.blocks)
    else:
        drives = drives if mapped.circulant is None else mapped.circulant.stored_drives(drives)
        read = positions * sum(_conducted(block, chip, drives) for block in mapped.blocks)
    ledger.count(mapped.name, Event.CELL_READ, read)


def _conducted(block: Block, chip: Chip, drives: np.ndarray) -> float:
    """Reads of one vector, in units of a cell at the highest level fully driven."""
    return float(
        drives[block.first_row : block.first_row + block.rows] @ chip.cell.share_of_read(block.cells).sum(axis=1)
    )


def _count_tile(ledger: Ledger, chip: Chip, mapped: Mapped, positions: int, spread: Spread) -> None:
    """What a vector moves within tiles: inputs to the IMAs, sums of several IMAs together, outputs to the buffer.

    A row block's inputs are read once for each tile that has some of its crossbars, in which the bus is a multicast;
    without Input Tile Sharing for each of its crossbars, and without Input Slice Reusing for every rotation.
    """
    name = mapped.name
    out_bits = mapped.outputs * chip.input_bits
    read = inputs_read(mapped, spread) * chip.input_bits
    sums = spread.sums_of_imas * mapped.rotations
    ledger.count(name, Event.EDRAM, positions * (read + out_bits) / _WORD)
    ledger.count(name, Event.BUS, positions * (read + sums * sum_bits(chip) + out_bits))
    ledger.count(name, Event.TILE_SHIFT_ADD, positions * (sums - spread.finished * mapped.rotations))
    ledger.count(name, Event.TILE_OUTPUT, positions * out_bits / _WORD)


def inputs_read(mapped: Mapped, spread: Spread) -> float:
    """Numbers that are read from tiles' buffers for one vector."""
    if mapped.circulant is None:
        return spread.rows_by_tile
    how = mapped.circulant.how
    once = spread.rows_by_tile if how.share_inputs else sum(block.rows * block.crossbars for block in mapped.blocks)
    return once if how.reuse_slices else once * mapped.rotations


@dataclass(frozen=True, eq=False)
class Spread:
    """How the vectors of a matrix are spread, mean over its copies.

    `rows_by_tile`: rows, once for each tile in which they are needed. `sums_of_imas`: outputs, once for each IMA that
    makes a part of them; `finished`: outputs, once. Both of one rotation, where there are several.
    """

    rows_by_tile: float
    sums_of_imas: float
    finished: int


def spread(placement: Placement, mapped: Mapped) -> Spread:
    """Count in which tiles and IMAs the crossbars of a matrix's copies lie."""
    chip, placed = placement.chip, placement.places[mapped.name]
    blocks = mapped.blocks
    block_of = np.repeat(np.arange(len(blocks)), [block.crossbars for block in blocks])
    widths = [np.bincount(block.crossbar[first_columns(block)], minlength=block.crossbars) for block in blocks]
    outputs = np.concatenate(widths)  # [crossbars], outputs that a crossbar sums for
    sums = [block.first_output * len(block_of) + np.arange(block.crossbars) for block in blocks]
    sum_of = np.unique(np.concatenate(sums), return_inverse=True)[1]  # the same: parts of the same outputs
    rows = np.array([block.rows for block in blocks])[block_of]
    many, copies = mapped.crossbars, placed.copies
    slot = placed.first + np.arange(many * copies)

    def once(what: np.ndarray, size: int) -> np.ndarray:
        """The first crossbar of each (copy, what, place of `size` crossbars), in that order."""
        places = int(slot[-1]) // size + 1  # more than the chip has, of a matrix that is larger
        key = (np.repeat(np.arange(copies), many) * many + np.tile(what, copies)) * places + slot // size
        return np.unique(key, return_index=True)[1]

    return Spread(
        rows[once(block_of, chip.tile_crossbars) % many].sum() / copies,
        outputs[once(sum_of, chip.crossbars_per_ima) % many].sum() / copies,
        mapped.outputs if mapped.circulant is None else mapped.circulant.groups * mapped.circulant.columns,
    )


def _count_traffic(ledger: Ledger, network: Network, placement: Placement, reaches: Mapping[str, Reach]) -> None:
    """What travels between tiles, and to and from the chip.

    A channel's activations are sent from the tiles in which they were finished, once to each tile that has a weight of
    the channel, that is not 0, in some copy (unicast): not to more copies than windows hold them. Parts of a matrix's
    sums travel to where they are finished. A bit passes hops + 1 routers, none within a tile; tiles stand in snake
    order on a mesh.
    """
    chip = placement.chip
    routed = dict.fromkeys(placement.matrices, 0.0)
    for call in network.calls:
        to, matrix, copies = reaches[call.matrix], network.matrices[call.matrix], placement.places[call.matrix].copies
        arrived = sum(edge.elements for edge in call.inputs)
        windows = -(-call.positions * matrix.groups * matrix.rows // arrived) if arrived else 1
        part = min(1.0, windows / copies)
        for edge in call.inputs:
            of = reaches[network.calls[edge.producer].matrix]
            sent = edge.elements / matrix.inputs * chip.input_bits
            passed = of.finished @ routers(chip, of.tiles[:, None], to.tiles[None, :])  # [outputs, tiles]
            source = output_of_input(matrix.inputs, len(passed))
            routed[call.matrix] += sent * part * float(passed[source][to.needed].sum())
        passed = routers(chip, *to.sums.T).sum() / copies if len(to.sums) else 0
        routed[call.matrix] += call.positions * float(passed) * sum_bits(chip)
    for name in placement.matrices:
        ledger.count(name, Event.ROUTER, routed[name] / _WORD)
    ledger.count(OUTSIDE, Event.OFF_CHIP, (network.inputs + network.outputs) * chip.input_bits)


def sum_bits(chip: Chip) -> int:
    """Bits of a sum of one crossbar's rows."""
    return chip.input_bits + chip.weight_bits + (chip.crossbar.rows - 1).bit_length()


def routers(chip: Chip, source: np.ndarray, to: np.ndarray) -> np.ndarray:
    """How many routers a bit passes from tiles `source` to tiles `to`, pair by pair; none on the same tile.

    Tiles of a matrix that is larger than the chip stand in rows that the mesh would have below.
    """
    mesh = mesh_of(chip)
    a, b = source // chip.tiles_per_router, to // chip.tiles_per_router
    rows = max(mesh.rows, int(max(a.max(), b.max())) // mesh.columns + 1)
    mesh = replace(mesh, rows=rows)
    place = mesh.snake()
    return np.where(to == source, 0, mesh.distances(place[a], place[b]) + 1)
