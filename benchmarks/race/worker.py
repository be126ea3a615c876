"""A peer's process: it reads the samples and weights, then takes a step whenever it is told to.

    python -m benchmarks.race.worker MODULE FOLDER THREADS OPTIONS

MODULE has a function make(samples, weights, threads, options), which returns a Peer; FOLDER/race.npz the arrays. The
protocol is that of benchmarks/race/peer.py. Runs in the peer's environment, so it imports numpy and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.race.contestant import Step

Arrays = dict[str, np.ndarray]


class Peer(Protocol):
    """What a peer's module makes. Its option "training" tells whether a step goes on to gradients."""

    versions: dict[str, str]

    def choose(self, numbers: list[int]) -> None:
        """Take the next steps over these samples; before, over all. Only races whose mini-batches change ask for it."""
        ...

    def step(self) -> Step: ...

    def gradients(self) -> Arrays:
        """Those of the latest step, by the names and in the shapes of the weights."""
        ...


def read(path: Path) -> tuple[Arrays, Arrays]:
    """The samples' arrays and the weights, in the order in which they were written."""
    with np.load(path) as file:
        parts = [(name.split(":", 1), file[name]) for name in file.files]
    samples, weights = ({key: array for (part, key), array in parts if part == kind} for kind in ("sample", "weight"))
    return samples, weights


def write(path: Path, samples: Arrays, weights: Arrays) -> None:
    arrays = {f"sample:{key}": array for key, array in samples.items()}
    np.savez(path, **arrays, **{f"weight:{key}": array for key, array in weights.items()})


def main() -> None:
    module, folder, threads, options = sys.argv[1:]
    # A framework that prints must not be taken for an answer: its output goes where its errors go.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    samples, weights = read(Path(folder) / "race.npz")
    peer: Peer = importlib.import_module(module).make(samples, weights, int(threads), json.loads(options))
    print(json.dumps({"versions": {"python": platform.python_version(), **peer.versions}}), file=answers)
    steps = 0
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "step":
            step = peer.step()
            print(json.dumps(vars(step)), file=answers)
            steps += 1
            if steps == 3:  # as the parent does: what was made before the race is not searched again during a step
                gc.collect()
                gc.freeze()
        elif command == "choose":
            peer.choose(json.loads(argument))
            print("{}", file=answers)
        else:
            gradients = peer.gradients()
            np.save(argument, np.concatenate([np.asarray(gradients[name]).reshape(-1) for name in weights]))
            print("{}", file=answers)


if __name__ == "__main__":
    main()
