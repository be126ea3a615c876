"""What is an array of MACs made of, and what does each event cost there? A table, and data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from bale import __version__
from bale.hardware.mac_array import MacArray, mac_energy_pj
from bale.report.grids import fact_grid, plain_table, titled
from bale.report.hardware import FORMAT
from bale.report.quantities import digits

_EVENTS = {
    "mac_pj": "multiply-accumulate, 8 x 8 bits",
    "add_pj": "addition, and a shift with it",
    "register_pj": "register",
    "input_buffer_pj": "input buffer",
    "buffer_pj": "weight or output buffer",
    "dram_pj": "DRAM",
    "compare_pj": "comparison of two bits",
}
_WIDTHS = ((8, 8), (16, 16), (32, 32))


def array_dict(array: MacArray) -> dict[str, Any]:
    """Return an array as JSON can hold it: its fields, buffers in bytes, and MACs of other widths."""
    return {
        "format": FORMAT,
        "bale": __version__,
        "array": asdict(array),
        "macs": array.all_macs,
        "mac_pj_by_width": {f"{weight} x {value}": mac_energy_pj(weight, value) for weight, value in _WIDTHS},
    }


def array_table(array: MacArray) -> RenderableType:
    """Return an array for a rich console: its sizes, what 8 bits of each event cost, and MACs of other widths."""
    kib = (array.input_buffer / 1024, array.weight_buffer / 1024, array.output_buffer / 1024)
    facts = [
        ("array", f"{array.name}, of MACs that are bit-serial; for `bale simulate --chip {array.name}`"),
        ("MACs", f"{array.slices} slices x {array.lines} lines x {array.macs} = {array.all_macs:,}"),
        ("numbers", f"weights of {array.weight_bits} bits, inputs of {array.input_bits}, as Booth digits"),
        ("rebuilding", f"{array.engines} engines a line"),
        ("sums", f"{array.sums} a slice"),
        ("buffers", "{:g} KiB for inputs and outputs of layers, {:g} for weights, {:g} for sums".format(*kib)),
        ("clock", f"{array.clock_ghz:g} GHz; DRAM {array.dram_bits} bits a cycle"),
        ("waiting", f"MACs of a line wait for one another after each {array.wait}"),
    ]
    events = plain_table(["an event, of 8 bits", "pJ", "MACs"])
    for field, text in _EVENTS.items():
        cost = getattr(array, field)
        events.add_row(text, digits(cost), digits(cost / array.mac_pj) if array.mac_pj else "")
    widths = plain_table(["a MAC in training, bits", "pJ"])
    for weight, value in _WIDTHS:
        widths.add_row(f"{weight} x {value}{', float' if weight == 32 else ''}", digits(mac_energy_pj(weight, value)))
    note = Text("Sources and marks: `bale chip constants`, the names that begin with array_.", style="dim")
    return Group(fact_grid(facts), Text(), titled("energy", events), Text(), widths, Text(), note)
