"""What does recording a call cost, beside the Python that makes it?

    python -m benchmarks.trace_cost [--batch 64] [--repeats 21] [--json -]

A line per workload: microseconds of CPU time per recorded call of tracing (making the shadow, all forwards, the arrays
of the Graph and which constants each node has; types are known), of the same Python where cells and torch functions
return a thing that is there already, and the difference; then of finding equal constants, and per node of one policy's
schedule. Real torch calls on the sample's own data (`torch.as_tensor(words)`) stay in both. Medians of alternated
repeats in one process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bale
from bale.batching.engine import Settings, make_plan, trace_samples
from bale.batching.plans import Plans
from bale.batching.schedule import make_schedule
from bale.data import KINDS, lattice_samples, random_functions, random_lattices
from bale.models import BiLSTMTagger, ChildSumTreeLSTM, LatticeLSTM
from benchmarks import command
from benchmarks.train_step.tree_lstm.model import TreeLSTM
from benchmarks.train_step.tree_lstm.trees import random_trees

VOCABULARY, TAGS, WORDS = 2000, 9, 20


class RowsTagger(nn.Module):
    """A tagger that looks all words up at once and goes through the rows, both ways."""

    def __init__(self, hidden: int):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, hidden)
        self.right, self.left = nn.LSTMCell(hidden, hidden), nn.LSTMCell(hidden, hidden)
        self.head = nn.Linear(2 * hidden, TAGS)
        self.start = nn.Parameter(torch.zeros(hidden))

    def forward(self, words: Tensor) -> Tensor:
        rows = self.embed(words)
        right, left = (self.start, self.start), (self.start, self.start)
        rights, lefts = [], []
        for k in range(len(words)):
            right = self.right(rows[k], right)
            rights.append(right[0])
        for row in reversed(list(rows)):
            left = self.left(row, left)
            lefts.append(left[0])
        return self.head(torch.cat([torch.stack(rights), torch.stack(lefts[::-1])], 1))


class Arithmetic(nn.Module):
    """A recurrence written out in torch functions, a gate at a time."""

    def __init__(self, hidden: int):
        super().__init__()
        self.embed, self.mix = nn.Embedding(VOCABULARY, hidden), nn.Linear(hidden, hidden)

    def forward(self, words: Sequence[Tensor]) -> Tensor:
        h = self.embed(words[0])
        for word in words[1:]:
            gate = torch.sigmoid(self.mix(self.embed(word)))
            h = gate * h.tanh() + (1 - gate) * h
        return h


class Nothing:
    """Stands for every value: whatever is done to it gives it back."""

    def __init__(self, length: int = 0):
        self.length = length

    def same(self, *_: Any, **__: Any) -> Any:
        return self

    __add__ = __radd__ = __mul__ = __rsub__ = __getitem__ = unbind = sum = mean = tanh = same

    def __iter__(self) -> Any:
        return iter([self] * self.length)


NOTHING, ALWAYS = Nothing(WORDS), Nothing(1 << 12)
DOES_NOTHING = types.SimpleNamespace(
    as_tensor=torch.as_tensor, tensor=torch.tensor, stack=NOTHING.same, cat=NOTHING.same, sigmoid=NOTHING.same
)


class NoCell:
    def __init__(self, result: Any, embed: Any = None):
        self.result, self.embed = result, embed

    def __call__(self, *_: Any) -> Any:
        return self.result


class Twin:
    """A model's own Python over cells that do nothing, without torch's functions."""

    def __init__(self, model: nn.Module):
        for name, held in (*model.named_children(), *model.named_parameters(), *model.named_buffers()):
            if "." not in name:
                setattr(self, name, self._nothing(held))
        self.__dict__ |= {name: held for name, held in vars(model).items() if isinstance(held, int)}
        for cls in type(model).__mro__[: type(model).__mro__.index(nn.Module)][::-1]:
            for name, function in vars(cls).items():
                if isinstance(function, types.FunctionType) and name != "__init__":
                    setattr(self, name, types.MethodType(_without_torch(function), self))

    @staticmethod
    def _nothing(held: Any) -> Any:
        if isinstance(held, nn.ModuleList):
            return [Twin._nothing(each) for each in held]
        if isinstance(held, Tensor):
            return held
        single = isinstance(held, (nn.Linear, nn.Embedding)) or type(held).__name__ == "Forget"
        return NoCell(NOTHING if single else (NOTHING, NOTHING), NoCell(ALWAYS) if hasattr(held, "embed") else None)


def _without_torch(function: types.FunctionType) -> types.FunctionType:
    """The same Python where torch does nothing, also in what it calls of the models' own functions."""
    names = {**function.__globals__, "torch": DOES_NOTHING}
    for name in function.__code__.co_names:
        called = names.get(name)
        if isinstance(called, types.FunctionType) and called.__module__.startswith("bale.models"):
            names[name] = _without_torch(called)
    return types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)


def workloads(batch: int, hidden: int, seed: int) -> dict[str, tuple[nn.Module, list[Any]]]:
    rng = np.random.default_rng(seed)
    sentences = [torch.from_numpy(rng.integers(VOCABULARY, size=WORDS)) for _ in range(batch)]
    return {
        "tree-lstm": (
            TreeLSTM(hidden),
            random_trees(rng, batch),
        ),
        "bilstm": (BiLSTMTagger(VOCABULARY, TAGS, hidden, hidden), sentences),
        "bilstm-rows": (RowsTagger(hidden), sentences),
        "child-sum": (
            ChildSumTreeLSTM(len(KINDS), 5, hidden),
            [tree for tree, _ in random_functions(batch, seed)],
        ),
        "lattice-lstm": (
            LatticeLSTM(501, VOCABULARY + 1, TAGS, hidden, hidden),
            [lattice for lattice, _ in lattice_samples(random_lattices(batch, seed, words=VOCABULARY))],
        ),
        "arithmetic": (Arithmetic(hidden), [list(sentence.unbind()) for sentence in sentences]),
    }


def measure(model: nn.Module, samples: list[Any], repeats: int, policy: str) -> dict[str, Any]:
    batched = bale.batch(model)
    batched(samples)
    settings, registry = batched.settings, batched.registry
    traced = trace_samples(model, samples, {}, settings, registry)
    graph = make_plan(traced.trace, settings, Plans()).graph
    nodes, twin = len(traced.trace.graph), Twin(model)
    seconds = alternate(
        {
            "trace": partial(trace, model, samples, settings, registry),
            "no_op": lambda: [twin.forward(sample) for sample in samples],  # pyright: ignore[reportAttributeAccessIssue]
            "constant_ids": traced.trace.constant_ids,
            "schedule": lambda: make_schedule(graph, policy),
        },
        repeats,
    )
    trace_us, no_op_us = 1e6 * seconds["trace"] / nodes, 1e6 * seconds["no_op"] / nodes
    return {
        "calls": nodes,
        "trace_us": round(trace_us, 2),
        "no_op_us": round(no_op_us, 2),
        "difference_us": round(trace_us - no_op_us, 2),
        "constant_ids_us": round(1e6 * seconds["constant_ids"] / nodes, 2),
        "policy": policy,
        "schedule_us_per_node": round(1e6 * seconds["schedule"] / len(graph), 3),
    }


def trace(model: nn.Module, samples: list[Any], settings: Settings, registry: Any) -> None:
    recorded = trace_samples(model, samples, {}, settings, registry).trace
    recorded.graph, recorded.constant_ids()


def alternate(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """The median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    lines = []
    for name, (model, samples) in workloads(args.batch, args.hidden, args.seed).items():
        lines.append(
            {
                "workload": name,
                "batch": args.batch,
                **measure(model, samples, args.repeats, args.policy),
                "repeats": args.repeats,
                "threads": args.threads,
                "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "bale": bale.__version__},
            }
        )
    command.write(lines, args.json)


def arguments() -> argparse.Namespace:
    parser = command.parser("trace_cost", __doc__)
    for name, default in (("batch", 64), ("hidden", 64), ("threads", 1), ("repeats", 21), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--policy", default="auto", help="the policy whose schedule is timed")
    parser.add_argument("--json", default="-", help="a file, or - for standard output")
    return parser.parse_args()


if __name__ == "__main__":
    main()
