"""How much faster is a batched model than the loop over samples? A binary TreeLSTM on random trees, one training step.

    python -m benchmarks.law --batch 64 --hidden 128 --threads 1 [--pairs 20] [--json -]

A step is everything: trace, schedule, memory, forward and backward. Contestants take turns in one process; times are
medians. Losses and gradients are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import bale

VOCABULARY, CLASSES, LEAVES = 2000, 5, 20
WORDS = [torch.tensor(word) for word in range(VOCABULARY)]

Tree = int | tuple["Tree", "Tree"]


def random_tree(rng: np.random.Generator, leaves: int) -> Tree:
    if leaves == 1:
        return int(rng.integers(VOCABULARY))
    left = int(rng.integers(1, leaves))
    return random_tree(rng, left), random_tree(rng, leaves - left)


class Leaf(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.embed, self.gates = nn.Embedding(VOCABULARY, hidden), nn.Linear(hidden, 3 * hidden)

    def forward(self, word: Tensor) -> tuple[Tensor, Tensor]:
        i, o, u = self.gates(self.embed(word)).chunk(3, -1)
        c = i.sigmoid() * u.tanh()
        return o.sigmoid() * c.tanh(), c


class Inner(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.gates = nn.Linear(2 * hidden, 5 * hidden)

    def forward(self, h_left: Tensor, c_left: Tensor, h_right: Tensor, c_right: Tensor) -> tuple[Tensor, Tensor]:
        i, o, f_left, f_right, u = self.gates(torch.cat([h_left, h_right], -1)).chunk(5, -1)
        c = i.sigmoid() * u.tanh() + f_left.sigmoid() * c_left + f_right.sigmoid() * c_right
        return o.sigmoid() * c.tanh(), c


class TreeLSTM(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.leaf, self.inner, self.head = Leaf(hidden), Inner(hidden), nn.Linear(hidden, CLASSES)

    def encode(self, tree: Tree) -> tuple[Tensor, Tensor]:
        if isinstance(tree, int):
            return self.leaf(WORDS[tree])
        return self.inner(*self.encode(tree[0]), *self.encode(tree[1]))

    def forward(self, tree: Tree) -> Tensor:
        return self.head(self.encode(tree)[0])


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    trees = [random_tree(rng, int(rng.integers(LEAVES // 2, LEAVES * 3 // 2 + 1))) for _ in range(args.batch)]
    labels = torch.from_numpy(rng.integers(CLASSES, size=args.batch))
    model = TreeLSTM(args.hidden)
    batched = bale.batch(model)
    contestants: dict[str, Callable[[], list[Tensor]]] = {
        "bale": lambda: batched(trees),
        "per-sample": lambda: [model(tree) for tree in trees],
    }
    times = race(model, contestants, labels, args.pairs)
    lines = [
        {
            "workload": "tree-lstm",
            "batch": args.batch,
            "hidden": args.hidden,
            "impl": impl,
            "step_ms": round(1e3 * statistics.median(seconds), 2),
            "runs": len(seconds),
            "threads": args.threads,
            "versions": {"torch": torch.__version__, "bale": bale.__version__},
        }
        for impl, seconds in times.items()
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    if args.json == "-":
        sys.stdout.write(text)
    else:
        with open(args.json, "w", encoding="utf-8") as file:
            file.write(text)


def race(
    model: nn.Module, contestants: dict[str, Callable[[], list[Tensor]]], labels: Tensor, pairs: int
) -> dict[str, list[float]]:
    """Seconds per step of each contestant; raises where losses or gradients differ."""

    def step(run: Callable[[], list[Tensor]]) -> float:
        loss = F.cross_entropy(torch.stack(run()), labels, reduction="sum")
        loss.backward()
        return loss.item()

    seen = []
    for run in contestants.values():
        model.zero_grad()
        loss = step(run)
        seen.append((loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    for loss, gradient in seen[1:]:
        if (
            abs(loss - seen[0][0]) > 1e-4 * abs(loss)
            or (gradient - seen[0][1]).abs().max() > 1e-4 * gradient.abs().max()
        ):
            raise SystemExit("the contestants do not compute the same")
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(pairs):
        for name, run in contestants.items():
            model.zero_grad()
            start = time.perf_counter()
            step(run)
            times[name].append(time.perf_counter() - start)
    return times


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("batch", 64), ("hidden", 128), ("threads", 1), ("pairs", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", default="-", help="a file, or - for standard output")
    return parser.parse_args()


if __name__ == "__main__":
    main()
