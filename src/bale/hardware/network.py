"""What does a model compute on one sample? Its matrices, their uses, who feeds whom, and what stays digital."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from bale.errors import MappingError
from bale.hardware.digital import FunctionKind, kind_of_function
from bale.hardware.evaluating import evaluating
from bale.hardware.layers import Matrix, Use, kind_of


@dataclass(frozen=True)
class Edge:
    """An input of a call: position p waits for the producer's positions up to `last[p]`.

    `producer` is the index of a call. `elements`: how many numbers it sends for one sample.
    """

    producer: int
    last: np.ndarray
    elements: int


@dataclass(frozen=True)
class Call:
    """One use of a matrix for one sample, and what it waits for; calls come in the order in which they ran."""

    use: Use
    inputs: tuple[Edge, ...]
    outside: int  # numbers of its input that come from no other call

    @property
    def matrix(self) -> str:
        return self.use.matrix

    @property
    def positions(self) -> int:
        return self.use.positions


@dataclass(frozen=True)
class Digital:
    """Operations that are on no crossbar: `times` of one function in one module, with `elements` results in all.

    `kind` says what the function is to a chip: an activation, a pool, a product, or anything else.
    """

    layer: str
    function: str
    kind: FunctionKind
    times: int
    elements: int


@dataclass(frozen=True)
class Network:
    """A model as it ran on one sample: matrices by name, calls, digital operations, numbers that come and leave."""

    matrices: dict[str, Matrix]
    calls: tuple[Call, ...]
    digital: tuple[Digital, ...]
    inputs: int
    outputs: int
    last: tuple[int, ...]  # the calls whose results leave

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all matrices for one sample."""
        return sum(self.matrices[call.matrix].weight.numel() * call.positions for call in self.calls)


def read_network(model: nn.Module, sample: tuple[Any, ...]) -> Network:
    """Run `model(*sample)`, of one sample, as it is, and write down what its matrices do.

    Raises `MappingError` where no module is a matrix, and, with the layer's name, for weights that are no numbers.
    """
    names = {module: name or type(model).__name__ for name, module in model.named_modules()}
    recorder = _Recorder(names)
    with evaluating(model), recorder.hooked(model), recorder:
        result = model(*sample)
    matrices = recorder.matrices
    if not matrices:
        raise MappingError(
            f"{type(model).__name__}: nothing of it is a matrix for crossbars; "
            "Linear, Conv1d, Conv2d, LSTM, GRU, LSTMCell and GRUCell are, where a forward calls them as modules"
        )
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise MappingError(f"{name}: has numbers that are NaN or infinite")
    outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    return Network(
        matrices,
        tuple(recorder.calls),
        recorder.digital(),
        inputs=sum(leaf.numel() for leaf in tree_leaves(sample) if isinstance(leaf, Tensor)),
        outputs=sum(leaf.numel() for leaf in outputs),
        last=tuple(sorted(recorder.sources(outputs))),
    )


class _Recorder(TorchFunctionMode):
    """Follows every tensor to the calls that it comes from.

    By storage, so that views and what is written in place are followed too. Every tensor is kept alive meanwhile: else
    a later one might get a storage's address.
    """

    def __init__(self, names: dict[nn.Module, str]) -> None:
        super().__init__()
        self.names = names
        self.calls: list[Call] = []
        self.layers: set[str] = set()
        self.matrices: dict[str, Matrix] = {}
        self.counts: Counter[tuple[str, str, FunctionKind]] = Counter()
        self.elements: Counter[tuple[str, str, FunctionKind]] = Counter()
        self.from_calls: dict[int, frozenset[int]] = {}
        self.alive: list[Any] = []
        self.stack: list[str] = []
        self.inside = 0

    def sources(self, values: Any) -> frozenset[int]:
        """The calls that values come from."""
        found = [self.from_calls.get(_place(leaf), frozenset()) for leaf in tree_leaves(values) if _is_dense(leaf)]
        return frozenset().union(*found)

    def comes_from(self, values: Any, calls: frozenset[int]) -> None:
        for leaf in tree_leaves(values):
            if _is_dense(leaf):
                self.alive.append(leaf)
                self.from_calls[_place(leaf)] = self.from_calls.get(_place(leaf), frozenset()) | calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        self.inside += 1  # what a function calls in turn is its own affair
        try:
            result = func(*args, **kwargs)
        finally:
            self.inside -= 1
        calls = self.sources((args, kwargs))
        self.comes_from(result, calls)
        name = _name(func)
        if name == "__setitem__" or (name.endswith("_") and not name.endswith("__")):
            self.comes_from(args[:1], calls)
        self.note(name, (args, kwargs), result)
        return result

    def note(self, name: str, given: Any, result: Any) -> None:
        kind = kind_of_function(name)
        if kind is None:
            return
        counted = given if kind == "pool" else result
        elements = [leaf.numel() for leaf in tree_leaves(counted) if isinstance(leaf, Tensor)]
        if not elements:
            return
        self.count(self.stack[-1] if self.stack else "", name, kind, max(elements))

    def count(self, layer: str, function: str, kind: FunctionKind, elements: int) -> None:
        self.counts[layer, function, kind] += 1
        self.elements[layer, function, kind] += elements

    def digital(self) -> tuple[Digital, ...]:
        return tuple(Digital(*key, times, self.elements[key]) for key, times in self.counts.items())

    @contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        """Know which module runs, and take a matrix's module for one step, whatever functions it calls."""
        with ExitStack() as hooks:
            for module in model.modules():
                before = module.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True)
                after = module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)
                hooks.callback(before.remove)
                hooks.callback(after.remove)
            yield

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.stack.append(self.names[module])
        self.inside += kind_of(module) is not None

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        self.stack.pop()
        kind = kind_of(module)
        if kind is None:
            return
        self.inside -= 1
        if self.inside or result is None:  # within another matrix's module, or it has failed
            return
        name, given = self.names[module], tree_leaves((args, kwargs))
        if any(isinstance(value, PackedSequence) for value in (*args, *kwargs.values())):
            raise MappingError(f"{name}: takes a PackedSequence; give it tensors, samples of one length at a time")
        if name not in self.layers:
            self.layers.add(name)
            self.matrices.update((matrix.name, matrix) for matrix in kind.matrices(name, module))
        first = given[0]
        uses = kind.uses(name, module, first.shape)
        self.comes_from(result, self._add(name, uses, self.sources(given), first.numel()))

    def _add(self, layer: str, uses: list[Use], before: frozenset[int], elements: int) -> frozenset[int]:
        """Write the uses of one call of a module down; return which of them its results come from."""
        start = len(self.calls)
        fed: set[int] = set()
        for use in uses:
            producers = [start + index for index in use.after] if use.after else sorted(before)
            fed.update(producers)
            edges = tuple(Edge(i, last_needed(use, self.calls[i].use), self._sent(i, use, elements)) for i in producers)
            self.calls.append(Call(use, edges, 0 if producers else elements))
            if use.gates:
                self.count(layer, "gates", "activation", use.positions * use.gates)
                self.count(layer, "sums and products of gates", "other", use.positions * use.gates)
        return frozenset(range(start, len(self.calls))) - fed

    def _sent(self, producer: int, use: Use, elements: int) -> int:
        """Numbers from a producer to a use: the use's whole input, unless the producer has not made so many.

        A state is where it was made, and the products of inputs are added to it there.
        """
        if use.in_turn:
            return 0
        made = self.calls[producer]
        produced = made.positions * self.matrices[made.matrix].width
        return min(produced, self.matrices[use.matrix].rows * use.positions if use.after else elements)


def last_needed(use: Use, producer: Use) -> np.ndarray:
    """The last position of `producer` that each position of `use` waits for.

    Between the two lie digital operations that are not looked into: where they leave the plane's size, position for
    position; where they make it smaller (a pool), a place stands for the block that it came from; a producer that runs
    backwards is waited for to its end.
    """
    if producer.backwards != use.backwards:
        return np.full(use.positions, producer.positions - 1)
    height, width = use.input_plane
    if height * width == producer.positions:
        return use.last_input
    rows, columns = producer.plane
    row, column = np.divmod(use.last_input, width)
    row = np.minimum(-(-(row + 1) * rows // height), rows) - 1
    column = np.minimum(-(-(column + 1) * columns // width), columns) - 1
    return np.maximum(row, 0) * columns + np.maximum(column, 0)


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _name(func: Any) -> str:
    return (resolve_name(func) or getattr(func, "__name__", str(func))).rsplit(".", 1)[-1]
