"""How does one run of a model become calls? Hooks say which module runs, a mode which function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves

from bale.errors import MappingError
from bale.hardware.call import Call, Digital, Edge, last_needed
from bale.hardware.digital import FunctionKind, kind_of_function
from bale.hardware.layers import Matrix, Use, kind_of
from bale.hardware.provenance import Provenance, Source, Sources


class Recorder(TorchFunctionMode):
    """Writes down what a model's matrices do; enter `hooked(model)`, then the mode itself, then run the model."""

    def __init__(self, names: dict[nn.Module, str]) -> None:
        super().__init__()
        self.names = names
        self.calls: list[Call] = []
        self.matrices: dict[str, Matrix] = {}
        self.provenance = Provenance()
        self._layers: set[str] = set()
        self._counts: Counter[tuple[str, str, FunctionKind]] = Counter()
        self._elements: Counter[tuple[str, str, FunctionKind]] = Counter()
        self._stack: list[str] = []
        self._inside = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return func(*args, **kwargs)
        self._inside += 1  # what a function calls in turn is its own affair
        try:
            result = func(*args, **kwargs)
        finally:
            self._inside -= 1
        name = (resolve_name(func) or getattr(func, "__name__", str(func))).rsplit(".", 1)[-1]
        self.provenance.through(name, (args, kwargs), result)
        self._note(name, (args, kwargs), result)
        return result

    def _note(self, name: str, given: Any, result: Any) -> None:
        kind = kind_of_function(name)
        counted = given if kind == "pool" else result
        elements = [leaf.numel() for leaf in tree_leaves(counted) if isinstance(leaf, Tensor)]
        if kind is not None and elements:
            self._count(self._stack[-1] if self._stack else "", name, kind, max(elements))

    def _count(self, layer: str, function: str, kind: FunctionKind, elements: int) -> None:
        self._counts[layer, function, kind] += 1
        self._elements[layer, function, kind] += elements

    def digital(self) -> tuple[Digital, ...]:
        """The operations that are on no crossbar."""
        return tuple(Digital(*key, times, self._elements[key]) for key, times in self._counts.items())

    @contextmanager
    def hooked(self, model: nn.Module) -> Iterator[None]:
        """Know which module runs, and take a matrix's module for one step, whatever functions it calls."""
        with ExitStack() as hooks:
            for module in model.modules():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                before = module.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True)
                after = module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)
                hooks.callback(before.remove)
                hooks.callback(after.remove)
            yield

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._stack.append(self.names[module])
        self._inside += kind_of(module) is not None

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        self._stack.pop()
        kind = kind_of(module)
        if kind is None:
            return
        self._inside -= 1
        if self._inside or result is None:  # within another matrix's module, or it has failed
            return
        name = self.names[module]
        given = args[0] if args else kwargs["input"]
        if isinstance(given, PackedSequence):
            raise MappingError(f"{name}: takes a PackedSequence; give it tensors, samples of one length at a time")
        if name not in self._layers:
            self._layers.add(name)
            self._inside += 1  # a compressed layer computes its weights when it is asked for them
            self.matrices.update((matrix.name, matrix) for matrix in kind.matrices(name, module))
            self._inside -= 1
        states = self.provenance.of((args[1:], {key: value for key, value in kwargs.items() if key != "input"}))
        uses = kind.uses(name, module, given.shape)
        made = self._add(name, uses, self.provenance.of(given), states)
        for leaf in (leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            self.provenance.set(leaf, {call: Source(leaf.numel() / len(made), True) for call in made})

    def _add(self, layer: str, uses: list[Use], inputs: Sources, states: Sources) -> list[int]:
        """Write the uses of one call of a module down; return which of them its results come from."""
        start = len(self.calls)
        fed: set[int] = set()
        for use in uses:
            edges = [self._inner(start + index, use, len(use.after)) for index in use.after]
            fed.update(edge.producer for edge in edges)
            outer = inputs if not use.after else {}
            if use.of_state:
                outer = states
            elif use.in_turn:  # its first states may be another's
                outer = {call: Source(source.elements, False) for call, source in states.items()}
            edges += [self._outer(call, source, use, layer) for call, source in sorted(outer.items())]
            self.calls.append(Call(use, tuple(edges)))
            activations, others = use.gates
            if activations:
                self._count(layer, "gates", "activation", use.positions * activations)
                self._count(layer, "sums and products of gates", "other", use.positions * others)
        return [call for call in range(start, len(self.calls)) if call not in fed]

    def _inner(self, producer: int, use: Use, producers: int) -> Edge:
        """Within a layer: states of the layer below travel; products of inputs are added to those of states at home."""
        sent = 0 if use.in_turn else self.matrices[use.matrix].rows * use.positions // producers
        return Edge(producer, last_needed(use, self.calls[producer].use), sent)

    def _outer(self, producer: int, source: Source, use: Use, layer: str) -> Edge:
        """From another layer, or the same in an earlier call, whose states are at home."""
        made = self.calls[producer]
        at_home = (use.of_state or use.in_turn > 0) and self.matrices[made.use.matrix].layer == layer
        produced = made.positions * self.matrices[made.matrix].width
        sent = 0 if at_home else min(produced, round(source.elements))
        everything = np.full(use.positions, made.positions - 1)
        return Edge(producer, last_needed(use, made.use) if source.aligned else everything, sent)
