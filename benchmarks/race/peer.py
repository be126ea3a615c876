"""The contestants of other frameworks: each a worker process in an environment of its own, which waits for its turn."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.race.contestant import TOLERANCE, Step
from benchmarks.race.workload import Workload

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".peers"


class PeerError(Exception):
    """A worker that ended or could not start; the message has its last words, `impl` the name of the peer."""

    def __init__(self, impl: str, message: str):
        super().__init__(f"{impl}: {message}")
        self.impl = impl


def python_of(peer: str) -> Path:
    """The interpreter of the environment that `make peers` builds."""
    return ENVIRONMENTS / peer / "bin" / "python"


def installed(peer: str) -> bool:
    return python_of(peer).exists() and (ENVIRONMENTS / peer / ".installed").exists()


class PeerContestant:
    """One worker. It answers a line with a line, and computes only between the two.

    step           -> {"loss": ..., "seconds": ..., "stages": {...}}
    choose LIST    -> {}, when the next steps are over these samples, numbers in the order in which they were written
    gradient PATH  -> {}, when the gradient is in the file

    module    of the peer's, with the function `make` of benchmarks/race/worker.py
    mode      how the peer runs; what the variant is named after
    training  whether a step goes on to gradients
    """

    tolerance = TOLERANCE

    def __init__(
        self, peer: str, module: str, folder: Path, threads: int, mode: dict[str, Any], *, training: bool = True
    ):
        self.impl, self.folder, self.training = peer, folder, training
        self.variant = " ".join(f"{option} {value}" for option, value in mode.items()) or None
        self.said = folder / f"{peer} {self.variant}.log"
        command = [str(python_of(peer)), "-m", "benchmarks.race.worker", module, str(folder)]
        limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        with self.said.open("w") as log:
            self.process = subprocess.Popen(
                [*command, str(threads), json.dumps({**mode, "training": training})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env={**os.environ, **limits, "PYTHONPATH": str(ROOT), "DGLBACKEND": "pytorch"},
            )
        try:
            self.versions: dict[str, str] = self._answer()["versions"]
        except BaseException:
            self.close()
            raise

    def turn_to(self, workload: Workload) -> None:
        self._ask(f"choose {json.dumps(workload.chosen)}")

    def step(self) -> Step:
        return Step(**self._ask("step"))

    def gradient(self) -> np.ndarray | None:
        if not self.training:
            return None
        path = self.folder / f"{self.impl} gradient.npy"
        self._ask(f"gradient {path}")
        return np.load(path)

    def close(self) -> None:
        """End the worker: it stops when its input ends."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def _ask(self, line: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; its answer says so
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            words = self.said.read_text(errors="replace").strip()
            raise PeerError(self.impl, f"its worker ended with {self.process.wait()}:\n{words[-2000:]}")
        return json.loads(line)
