"""Nodes: what a recorded call adds to the trace, and the lazy values that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from bale.batching.cells.call import PER_ROW, Kind
from bale.batching.cells.celltype import CellType
from bale.batching.cells.probe import OutputLeaf
from bale.batching.cells.segment import constant_type
from bale.batching.graph import Spec
from bale.batching.trace.arguments import Column
from bale.batching.trace.ref import Ref
from bale.batching.trace.tracer import Tracer
from bale.batching.trace.whole import settle


def add_node(trace: Tracer, cell: CellType, columns: Sequence[Column]) -> Any:
    """A node of type `cell` with the operands in `columns`; returns its outputs in the shape the user's call has."""
    slots: list[list[int]] = []
    constants: list[Any] = []
    length = 1
    for column in columns:
        if column.kind is Kind.VALUE:
            slots.append([column.leaf.part])
        elif column.kind in PER_ROW:
            constants.append(column.leaf)
        if column.spec is not None and column.spec.ragged:
            length = column.length or 1
    if cell.stateful:
        previous = trace.last_of_module.get(id(cell.module))
        slots.append([] if previous is None else [previous])
    first = trace.add(cell, slots, constants, length)
    if cell.stateful:
        trace.last_of_module[id(cell.module)] = first
    operands = [column.leaf for column in columns if column.kind in PER_ROW]
    flat, code = [], first
    for leaf in cell.outputs:
        if leaf.tensor is None:
            flat.append(leaf.plain)
            continue
        flat.append(_output(trace, code, leaf, operands, length))
        code += 1
    share_among(cell.outputs, flat)
    if cell.out_spec is None or cell.out_spec.is_leaf():
        return flat[0]
    return tuple(flat) if cell.returns_tuple else pytree.tree_unflatten(flat, cell.out_spec)


def share_among(outputs: Sequence[OutputLeaf], flat: list[Any]) -> None:
    """Let results of one call be one lazy value, or share memory, where they are or do in the per-sample program."""
    for number, leaf in enumerate(outputs):
        if leaf.twin is not None:
            flat[number] = flat[leaf.twin]
        elif leaf.beside is not None:
            flat[number].share_memory_with(flat[leaf.beside])


def _output(trace: Tracer, code: int, leaf: OutputLeaf, operands: Sequence[Any], length: int) -> Any:
    assert leaf.tensor is not None
    if leaf.same_as is not None:
        return operands[leaf.same_as]  # returned as it is: the same tensor, not a copy
    spec = leaf.tensor
    ref = trace.ref(code, spec, length if spec.ragged else None)
    if spec.ragged:
        trace.lengths.add(length)
    if leaf.view_of is not None:
        ref.share_memory_with(operands[leaf.view_of])
    return ref


def as_ref(trace: Tracer, tensor: Any) -> Ref:
    """`tensor` itself where it is a Ref; a constant node where it is a real tensor."""
    if type(tensor) is Ref:
        trace.owns(tensor)
        return settle(trace, tensor)
    spec = Spec.of(tensor)
    key = ("constant", spec)
    cell = trace.registry.types.get(key)
    if cell is None:
        cell = trace.registry.types[key] = constant_type(spec)
    return trace.ref(trace.add(cell, [], [tensor]), spec)


def lift(trace: Tracer, tensor: Any) -> Ref:
    """A sample's own tensor as a ragged value, so that taking its rows makes no type per length."""
    known = trace.lifted.get(id(tensor))
    if known is not None:
        return known[1]
    with torch._C.DisableTorchFunction():
        length, spec = tensor.shape[0], Spec.of(tensor)
    row = Spec(spec.shape[1:], spec.dtype, spec.device, spec.requires_grad, ragged=True)
    key = ("constant", row)
    cell = trace.registry.types.get(key)
    if cell is None:
        cell = trace.registry.types[key] = constant_type(row)
    ref = trace.ref(trace.add(cell, [], [tensor], length), row, length)
    trace.lifted[id(tensor)] = (tensor, ref)
    return ref
