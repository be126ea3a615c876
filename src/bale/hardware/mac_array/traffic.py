"""Which maps of a network pass DRAM, and how do a matrix's positions follow one another?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bale.hardware.mac_array.array import MacArray
from bale.hardware.mac_array.counts import Traffic
from bale.hardware.mac_array.rows import RowShape
from bale.hardware.network import Network

_SUMS = frozenset(("add", "__add__", "add_", "__iadd__"))
_KEPT = 3  # maps that must fit the input buffer together, where one of them waits for a sum


def plane_widths(network: Network) -> dict[str, int]:
    """Positions of each matrix that follow one another in a row of its plane; 1 where a position waits for another."""
    widths: dict[str, int] = {}
    for call in network.calls:
        widths.setdefault(call.matrix, 1 if call.use.in_turn else max(1, call.use.plane[1]))
    return widths


def traffic_of(network: Network, array: MacArray, shapes: Mapping[str, RowShape]) -> dict[str, Traffic]:
    """Which maps come from DRAM and go there: the network's own, and those beyond half the input buffer."""
    half = 8 * array.input_buffer / 2
    read = {edge.producer for call in network.calls for edge in call.inputs}
    parts: dict[str, list[Traffic]] = {}
    for place, call in enumerate(network.calls):
        matrix, shape = network.matrices[call.matrix], shapes[call.matrix]
        plane = call.use.input_plane
        inputs = matrix.groups * shape.channels * plane[0] * plane[1]
        outputs = matrix.width * call.positions
        fits = [many * array.input_bits <= half for many in (inputs, outputs)]
        first = not call.inputs and not call.use.of_state
        parts.setdefault(call.matrix, []).append(
            Traffic(
                inputs=inputs,
                outputs=outputs,
                inputs_from_dram=first or not fits[0],
                inputs_fit=fits[0],
                outputs_to_dram=place not in read or not fits[1],
                in_turn=call.use.in_turn > 0,
            )
        )
    return {name: _joined(calls) for name, calls in parts.items()}


def _joined(calls: Sequence[Traffic]) -> Traffic:
    """Of a matrix in several calls: all their numbers, by DRAM if one call's are."""
    return Traffic(
        sum(call.inputs for call in calls),
        sum(call.outputs for call in calls),
        any(call.inputs_from_dram for call in calls),
        all(call.inputs_fit for call in calls),
        any(call.outputs_to_dram for call in calls),
        any(call.in_turn for call in calls),
    )


def waiting_bits(network: Network, array: MacArray) -> float:
    """Bits of DRAM, out and in, of one operand of every sum of tensors that is too large to wait on the array."""
    sums = [op for op in network.digital if op.function in _SUMS]
    return sum(
        2.0 * op.elements * array.input_bits
        for op in sums
        if _KEPT * op.elements / op.times * array.input_bits > 8 * array.input_buffer
    )
