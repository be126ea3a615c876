"""How long does a vector take within a layer, stage by stage?

ISAAC's pipeline of 22 stages at 16 bits: fetch, a cycle for each input digit, then conversion, shift-and-add, output
register, activation, write. Where inputs are turned (ReBoc; our reconstruction) every rotation drives all digits once.
"""

from __future__ import annotations

from dataclasses import dataclass

STAGES = ("fetch", "crossbar", "conversion", "shift-add", "output register", "activation", "write")
_AFTER = len(STAGES) - 2  # cycles from a digit's read to its outputs' being written


@dataclass(frozen=True)
class VectorCycles:
    """Of one vector: `occupied`, until its copy takes the next; `through`, from its fetch to its last write."""

    occupied: int
    through: int

    def in_parts(self, parts: int) -> VectorCycles:
        """Of a matrix that is larger than its chip: one part after the other takes the digits."""
        return VectorCycles(parts * self.occupied, (parts - 1) * self.occupied + self.through)

    def series(self, vectors: int, in_turn: int) -> int:
        """Until a copy that takes some vectors is free; each waits for the write of the one `in_turn` before it."""
        busy = vectors * self.occupied
        return max(busy, (-(-vectors // in_turn) - 1) * self.through + self.occupied) if in_turn else busy


def vector_cycles(
    digits: int, rotations: int = 1, *, fetch: int = 1, again: int = 1, pipelined: bool = True
) -> VectorCycles:
    """Count the cycles of a vector.

    Args:
        digits: cycles in which the crossbars are driven, for each rotation.
        rotations: of the inputs.
        fetch: cycles in which inputs are read from the tile's buffer.
        again: cycles before every rotation but the first: a turn of the register, or another fetch.
        pipelined: rotations overlap, a fetch or turn with the digits before it; else one follows the other's write.

    The stages work at the same time, each on one thing; a test follows them one by one.
    """
    if not pipelined:
        whole = fetch + (rotations - 1) * again + rotations * (digits + _AFTER)
        return VectorCycles(whole, whole)
    turned = (rotations - 1) * max(digits, again)
    return VectorCycles(turned + max(digits, fetch), fetch + turned + digits + _AFTER)
