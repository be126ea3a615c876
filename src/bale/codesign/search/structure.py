"""How does a chip look with other crossbars? Its units grow with the rows or the columns that they serve."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bale.hardware import Chip, Crossbar, Encoding, Event, Unit

_OF_ROWS = (Event.ROW_DRIVE, Event.INPUT_REGISTER)
_OF_COLUMNS = (Event.HOLD, Event.SHIFT_ADD, Event.OUTPUT_REGISTER)
_ONE_EACH = (Event.ROW_DRIVE, Event.HOLD)  # a DAC for each row, a sample-and-hold for each column


@dataclass(frozen=True)
class Structure:
    """What a search chooses of a chip. An offset goes with ISAAC's flip, which spares the converters a bit."""

    rows: int
    columns: int
    cell_bits: int
    encoding: Encoding
    weight_bits: int
    input_bits: int

    def of(self, base: Chip) -> Chip:
        """`base` with these crossbars, cells and bits; raises ChipError for what cannot be.

        A crossbar's power and area are in proportion to its cells; DACs and input registers of an IMA to its rows; what
        comes after its columns, converters aside, to those (the rule of the presets, our inference). What an event
        costs stays, and so do the converters' number and rate: wider crossbars take longer.
        """
        crossbar, rows, columns = base.crossbar, self.rows / base.crossbar.rows, self.columns / base.crossbar.columns
        return replace(
            base,
            weight_bits=self.weight_bits,
            input_bits=self.input_bits,
            encoding=self.encoding,
            flip=self.encoding is Encoding.OFFSET,
            cell=replace(base.cell, bits=self.cell_bits),
            crossbar=Crossbar(
                self.rows,
                self.columns,
                crossbar.read_ns,
                crossbar.power_mw * rows * columns,
                crossbar.area_mm2 * rows * columns,
            ),
            units=tuple(_scaled(unit, rows, columns) for unit in base.units),
        )

    def __str__(self) -> str:
        flip = "+flip" if self.encoding is Encoding.OFFSET else ""
        return f"{self.rows}x{self.columns} of {self.cell_bits} bit, {self.encoding}{flip}"


def _scaled(unit: Unit, rows: float, columns: float) -> Unit:
    if unit.per != "ima" or unit.event not in (*_OF_ROWS, *_OF_COLUMNS):
        return unit
    part = rows if unit.event in _OF_ROWS else columns
    count = max(1, round(unit.count * part)) if unit.event in _ONE_EACH else unit.count
    return replace(unit, count=count, power_mw=unit.power_mw * part, area_mm2=unit.area_mm2 * part)
