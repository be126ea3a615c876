"""Traffic: what does one batch of a captured cell launch, and copy inside the cell, with a plan and without?"""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import fx

from bale.batching.cells.capture import SPLITS, Rows
from bale.batching.cells.kinds import added_to
from bale.batching.cells.places import Places
from bale.batching.cells.together import Joint

aten = torch.ops.aten


@dataclass(frozen=True)
class Count:
    """Of one batch, forward or backward.

    ops       operations of the captured cell that compute or move something: no views
    launches  calls of functions and kernels
    copies    of values from one place inside the cell to another; what is gathered for the cell is counted elsewhere
    bytes     that these write for each row of the batch
    """

    ops: int
    launches: int
    copies: int
    bytes: int


@dataclass(frozen=True)
class BothWays:
    forward: Count
    backward: Count


@dataclass(frozen=True)
class Traffic:
    """A cell without and with a plan; not what runs once a call, which is gradients of weights, and joining weights.

    before  naive. Every operation is a launch of its own. The copies are those that joint calls would take if each
            value lay where its operation left it: every concatenation is a copy, and so are of every joint the
            operands, where there are several, and what it is added to, where that is several other products; and a
            result of the cell, or the gradient of an operand, that no operation makes, or that is one twice.
    after   as planned, where weights of all steps are joined and nothing runs once for all batches. A copy is a launch,
            or a value that a kernel writes in a second place.
    joined  bytes of weights that are copied together once a call of the model, at most
    """

    before: BothWays
    after: BothWays
    joined: int


def naive(places: Places, part: str) -> Count:
    """Count `part`, "forward" or "backward", without a plan."""
    pieces = places.pieces
    nodes = pieces.forward if part == "forward" else pieces.backward
    results = pieces.captured.outputs if part == "forward" else pieces.captured.column_gradients
    made = {node for node in nodes if not is_view(node)}
    ops = len(made)
    copied = [row_bytes(node) for node in nodes if node.target is aten.cat.default]
    for result in results:
        if result is not None and result not in made:
            copied.append(row_bytes(result))
        made.discard(result)
    for joint in places.together.joints:
        if joint.products[0][0] in nodes:
            copied += [
                sum(map(row_bytes, values)) for values in (joint.operands, _bases(joint, places)) if len(values) > 1
            ]
    return Count(ops, ops, len(copied), sum(copied))


def _bases(joint: Joint, places: Places) -> list[fx.Node]:
    """The products of other calls that its results are added to."""
    members = {*joint.members}
    found = [source for product in joint.members for source in product.all_input_nodes if source not in members]
    return [source for source in found if added_to(source, places.kind) in members]


def is_view(node: fx.Node) -> bool:
    if node.target in SPLITS or node.target is operator.getitem:
        return True
    returns = node.target._schema.returns if isinstance(node.target, torch._ops.OpOverload) else ()
    return bool(returns) and returns[0].alias_info is not None


def row_bytes(node: fx.Node) -> int:
    """Bytes of a value for each row of the batch."""
    numbers = 1
    for size in node.meta.get("shape", ()):
        numbers *= size.times if isinstance(size, Rows) else size
    return numbers * node.meta["dtype"].itemsize if "dtype" in node.meta else 0
