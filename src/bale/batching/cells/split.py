"""Split: which part of a captured cell runs once a call, which per batch, and which once over the rows of all batches?

prologue   what hangs on weights alone
forward    what the outputs need, batch by batch
backward   what the gradients of the columns need, batch by batch in reverse
weights    what only the gradients of weights need: sums over rows, so once over the rows of all batches
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from bale.batching.cells.capture import Captured, CaptureError, Rows


@dataclass(frozen=True, eq=False)
class Pieces:
    """The nodes of each part, in an order in which they can run."""

    captured: Captured
    prologue: tuple[fx.Node, ...]
    forward: tuple[fx.Node, ...]
    backward: tuple[fx.Node, ...]
    weights: tuple[fx.Node, ...]

    def between(self, nodes: Iterable[fx.Node]) -> set[fx.Node]:
        """What `nodes` read that they do not compute themselves."""
        own = set(nodes)
        return {source for node in own for source in node.all_input_nodes if source not in own}


def split(captured: Captured, per_batch: Callable[[fx.Node], bool] = lambda node: False) -> Pieces:
    """Assign every node to its part. Raises CaptureError where a weight's gradient hangs on rows.

    `per_batch`: what only weights need but is better done with each batch, while its rows are at hand.
    """
    nodes = [node for node in captured.graph.nodes if node.op == "call_function"]
    batched = _reach(nodes, {*captured.columns, *captured.numbers, *filter(None, captured.output_gradients)})
    rows = next(iter(captured.graph.nodes))
    batched |= _reach(nodes, {rows}) - {n for n in nodes if not _is_tensor_like(n)}
    need_output = _ancestors(captured.outputs)
    need_columns = _ancestors(captured.column_gradients)
    need_weights = _ancestors(captured.trained_gradients)
    late = _reach(nodes, set(filter(None, captured.output_gradients)))
    parts: dict[str, list[fx.Node]] = {"prologue": [], "forward": [], "backward": [], "weights": []}
    for node in nodes:
        if not _is_tensor_like(node):
            continue  # a size: written out where it is used
        if node not in batched:
            parts["prologue"].append(node)
        elif node in need_output and node not in late:
            parts["forward"].append(node)
        elif node in need_columns:
            parts["backward"].append(node)
        elif node in need_weights:
            waits = any(source in parts["weights"] for source in node.all_input_nodes)
            parts["backward" if per_batch(node) and not waits else "weights"].append(node)
    for gradient, tensor in zip(captured.trained_gradients, captured.trained, strict=True):
        if gradient is not None and gradient.meta.get("shape") != tuple(tensor.shape):
            raise CaptureError("the gradient of a weight has another shape than the weight")
    return Pieces(captured, *(tuple(part) for part in parts.values()))


def _is_tensor_like(node: fx.Node) -> bool:
    """A tensor or several; not a multiple of the rows."""
    return isinstance(node.target, torch._ops.OpOverload) or any(map(_is_tensor_like, node.all_input_nodes))


def _reach(nodes: Iterable[fx.Node], sources: set[fx.Node]) -> set[fx.Node]:
    reached: set[fx.Node] = set()
    for node in nodes:
        if any(source in sources or source in reached for source in node.all_input_nodes):
            reached.add(node)
    return reached


def _ancestors(ends: Iterable[Any]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    pending = [end for end in ends if isinstance(end, fx.Node)]
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return found


def row_axis(node: fx.Node) -> int | None:
    """The axis of a tensor that grows with the rows, or None."""
    shape = node.meta.get("shape", ())
    axes = [axis for axis, size in enumerate(shape) if isinstance(size, Rows)]
    if len(axes) > 1:
        raise CaptureError("a value has two axes that grow with the rows")
    return axes[0] if axes else None
