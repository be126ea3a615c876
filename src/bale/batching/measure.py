"""measure_costs: how long do batches of each type take on this machine? The model runs, batch by batch, on a clock."""

from __future__ import annotations

import copy
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import nn

from bale.batching.api import Batched, as_samples, batch
from bale.batching.engine import run_samples
from bale.batching.execute.frame import Frame, Gradients
from bale.batching.execute.planned import Filled, PlannedCall
from bale.batching.schedule.costs import Costs, TypeCost
from bale.batching.schedule.fingerprint import TypeKey, type_keys
from bale.batching.trace.tracer import Registry
from bale.errors import BaleError


def measure_costs(
    model: nn.Module,
    samples: Iterable[Any],
    *,
    batch_size: int | None = None,
    repeats: int = 5,
    backward: bool = False,
    **kwargs: Any,
) -> Costs:
    """Time every batch of some mini-batches, and lay a line over its rows through the times of each type.

    Use the result as `bale.batch(model, policy=bale.Portfolio(costs=costs))`; keep it with `costs.save(path)`,
    `bale.Costs.load(path)`. Nothing uses it unasked: schedules by it depend on the machine that was measured, and on
    nothing else once it is saved.

    batch_size  samples in a mini-batch, best as large as those to come; None makes one of all samples
    repeats     timed runs of each mini-batch after one that warms up; a batch's time is their median
    backward    time the backward of each batch too, not the forward alone
    kwargs      go to every forward of the model

    A line is the best in least squares of relative errors, so that batches of few rows count as much as large ones,
    with neither per_batch nor per_row below 0. Where all batches of a type have equally many rows, the two cannot be
    told apart: per_batch is the whole mean, per_row 0. A type's first batch in a run (backward, its last) also opens
    its code and does what is done once for all; it counts only where the type has no other. Forward and backward have
    lines of their own, which are added.

    Runs on a copy: neither the model (batched or not), its buffers and gradients nor torch's random state changes.
    Raises BaleError where there are no samples, where the planned executor cannot run the model, where `backward` is
    asked of outputs without gradients, and for arguments that are not among these; and what the forwards raise.
    """
    batched = model if isinstance(model, Batched) else batch(model)
    given = as_samples(samples, batched.settings.star)
    size = len(given) if batch_size is None else batch_size
    if not given:
        raise BaleError("costs are measured on samples, and there are none")
    if size < 1:
        raise BaleError(f"batch_size must be at least 1, got {batch_size}")
    if repeats < 1:
        raise BaleError(f"repeats must be at least 1, got {repeats}")
    inner, registry = copy.deepcopy(batched.inner), Registry()
    settings = replace(
        batched.settings,
        executor="planned",
        capture="eager",
        cells=batched.settings.cells.moved(batched.inner, inner),
    )
    readings: dict[TypeKey, Readings] = {}
    devices = {tensor.device for tensor in (*inner.parameters(), *inner.buffers()) if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)), torch.set_grad_enabled(backward):
        for low in range(0, len(given), size):
            result = run_samples(inner, given[low : low + size], kwargs, settings, registry)
            if result.stats.executor != "planned":
                raise BaleError(
                    "costs are those of the planned executor, and a cell of this model keeps state or has a backward "
                    "that it cannot run"
                )
            if backward and not result.call.wants_gradients:
                raise BaleError("backward=True, but no output of the model carries gradients; leave backward=False")
            _read(replace(result.call, check="off"), repeats, backward, readings)
    costs = tuple(TypeCost(key, *found.line()) for key, found in readings.items())
    measured = {
        "machine": platform.machine(),
        "devices": sorted({"cpu", *map(str, devices)}),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "samples": len(given),
        "batch_size": size,
        "repeats": repeats,
        "backward": backward,
    }
    return Costs(costs, measured)


@dataclass
class Readings:
    """What was read of one type: [(rows, microseconds)] forward and backward, of the batches that open it apart."""

    usual: tuple[list[tuple[int, float]], ...] = field(default_factory=lambda: ([], []))
    opening: tuple[list[tuple[int, float]], ...] = field(default_factory=lambda: ([], []))

    def line(self) -> tuple[float, float]:
        """per_batch and per_row."""
        lines = [fit_line(usual or opening) for usual, opening in zip(self.usual, self.opening, strict=True)]
        return round(sum(line[0] for line in lines), 3), round(sum(line[1] for line in lines), 3)


def fit_line(points: list[tuple[int, float]]) -> tuple[float, float]:
    """a, b >= 0 with the least sum of ((a + b * rows - time) / time)^2; the mean time, 0 for equal rows."""
    if not points:
        return 0.0, 0.0
    rows, times = np.array(points, np.float64).T
    if np.all(rows == rows[0]):
        return float(times.mean()), 0.0
    weight = 1 / np.maximum(times, 1e-3) ** 2  # a clock may tell no time
    mean_rows, mean_time = np.average(rows, weights=weight), np.average(times, weights=weight)
    spread = np.average((rows - mean_rows) ** 2, weights=weight)
    slope = np.average((rows - mean_rows) * (times - mean_time), weights=weight) / spread
    if slope < 0:
        return float(mean_time), 0.0
    if mean_time < slope * mean_rows:
        return 0.0, float(np.sum(weight * rows * times) / np.sum(weight * rows**2))
    return float(mean_time - slope * mean_rows), float(slope)


def _read(call: PlannedCall, repeats: int, backward: bool, readings: dict[TypeKey, Readings]) -> None:
    """Run the call `repeats` times, and add what its batches took."""
    times_of_batches(call, backward)
    runs = np.array([times_of_batches(call, backward) for _ in range(repeats)])  # [repeats, 2, batches], seconds
    microseconds = 1e6 * np.median(runs, axis=0)
    keys = type_keys(call.graph.types)
    for kind in np.unique(call.schedule.batch_type).tolist():
        found, batches = readings.setdefault(keys[kind], Readings()), np.flatnonzero(call.schedule.batch_type == kind)
        for way in range(1 + backward):
            opens = batches[-1 if way else 0]
            for number in batches.tolist():
                kept = found.opening if number == opens else found.usual
                kept[way].append((int(call.layout.batch_rows[number]), float(microseconds[way, number])))


def times_of_batches(call: PlannedCall, backward: bool) -> np.ndarray:
    """float64 [2, batches]: the seconds of each batch's forward and backward, in a run over memory of its own."""
    seconds = np.zeros((2, len(call.schedule)))
    blocks = call.blocks() if backward else []
    memory = call.memory(call.adjoint(blocks) if backward else None)
    filled = Filled(call, memory, blocks, None)
    filled.frames = [None if frame is None else _Timed(frame, seconds) for frame in filled.frames]
    with torch.no_grad():
        filled.forward()
        if backward:
            filled.backward([torch.ones_like(row) for group in call.groups for row in group.rows(memory)], keep=False)
    return seconds


class _Timed(Frame):
    """Another frame, and how long its batches take."""

    def __init__(self, frame: Frame, seconds: np.ndarray):
        """`seconds` [2, batches] is written to."""
        self.frame, self.seconds = frame, seconds
        self.cell, self.site = frame.cell, frame.site

    def forward(self, k: int) -> None:
        begin = self._now()
        self.frame.forward(k)
        self.seconds[0, self.site.batches[k]] = self._now() - begin

    def backward(self, k: int, keep: bool) -> None:
        begin = self._now()
        self.frame.backward(k, keep)
        self.seconds[1, self.site.batches[k]] = self._now() - begin

    def _now(self) -> float:
        """The time when all that was launched is done."""
        if self.cell.device.type == "cuda":
            torch.cuda.synchronize(self.cell.device)
        return perf_counter()

    def close_forward(self) -> None:
        self.frame.close_forward()

    def weights(self, keep: bool) -> Gradients:
        return self.frame.weights(keep)

    def destroyed(self) -> list[torch.Tensor]:
        return self.frame.destroyed()
