"""Q-learning: which table of states do rewards lead to? (ED-Batch, ICML 2023, section 2.3, and its public code)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit

from bale.batching.schedule.encoding import SURE, Encoding, encode, sure
from bale.batching.schedule.frontier import Dataflow, Frontier, advance, open_frontier
from bale.batching.schedule.height import enter_levels, leave_levels, no_levels, open_levels
from bale.batching.schedule.lessons import Lessons, Table
from bale.batching.schedule.states import NEW, States, add
from bale.batching.schedule.sufficient import FirstLevels, open_first_levels, run_first
from bale.errors import PolicyError

OnEpisode = Callable[[int, int | None], None]
"""Hears the number of episodes, and the fewest batches of a greedy run so far, if there was one."""

NEAR_ENOUGH = 1.01  # learning ends below so many times the bound (read in ED-Batch's code)


@dataclass(frozen=True)
class QLearning:
    """Tabular Q-learning with n-step returns; all numbers but `patience` are read in ED-Batch's code.

    episodes   the most runs that are learned from
    horizon    steps whose rewards are summed up
    bootstrap  add the value of the state after them, the greatest of the choices that were tried there. The public
               code's is always 0, since rewards are never positive and its maximum begins at 0
    every      episodes between two greedy runs; the best of their tables is kept
    patience   episodes without a better table after which learning ends
    """

    episodes: int = 1000
    horizon: int = 10
    rate: float = 0.4
    epsilon: float = 0.5
    decay: float = 0.9
    least_epsilon: float = 0.05
    bootstrap: bool = True
    every: int = 50
    patience: int = 150

    def __post_init__(self) -> None:
        for name in ("episodes", "horizon", "every", "patience"):
            if getattr(self, name) < 1:
                raise PolicyError(f"{name} must be at least 1, got {getattr(self, name)}")

    def table(self, lessons: Lessons, encoding: Encoding, rng: np.random.Generator, on_episode: OnEpisode) -> Table:
        """Learn on the mini-batches in turn, and return the best table of all greedy runs."""
        firsts = [open_first_levels(flow) for flow in lessons.flows]
        states = States.empty()
        value = np.zeros((0, len(lessons.types)))  # [states, types]
        tried = np.zeros((0, len(lessons.types)), np.bool_)
        epsilon = self.epsilon
        best: Table | None = None
        enough = False
        for episode in range(1, self.episodes + 1):
            turn = episode % len(lessons.flows)
            states = lessons.room(states)
            value, tried = _as_long(value, states), _as_long(tried, states)
            flow, height, first = lessons.flows[turn], lessons.height[turn], firsts[turn].copy()
            path = run_episode(flow, height, first, int(encoding), states, value, rng, epsilon)
            update_values(*path, value, tried, self.horizon, self.rate, self.bootstrap)
            epsilon = max(self.least_epsilon, self.decay * epsilon)
            if episode % self.every == 0 or episode == self.episodes:
                choices = _greedy(value, tried)
                batches = lessons.batches(encoding, states, choices)
                if best is None or batches < best.batches:
                    best = Table(States(*(part.copy() for part in states)), choices, batches, episode)
                enough = best.batches < NEAR_ENOUGH * lessons.bound or episode - best.episodes >= self.patience
            on_episode(episode, None if best is None else best.batches)
            if enough:
                break
        assert best is not None  # the last episode always ends with a greedy run
        return best


def _as_long(table: np.ndarray, states: States) -> np.ndarray:
    """The table with a row for every state that there is room for."""
    missing = states.start.size - 1 - table.shape[0]
    return np.concatenate([table, np.zeros((missing, table.shape[1]), table.dtype)]) if missing > 0 else table


def _greedy(value: np.ndarray, tried: np.ndarray) -> np.ndarray:
    """int32 [states]: the best of the choices that were tried; NEW where there is no state yet."""
    best = np.where(tried, value, -np.inf).argmax(1)
    return np.where(tried.any(1), best, NEW).astype(np.int32)


@njit(cache=True)
def run_episode(
    flow: Dataflow, height: np.ndarray, first: FirstLevels, encoding: int, states: States, value: np.ndarray,
    rng: np.random.Generator, epsilon: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Run once, a random type with probability `epsilon`; the states, choices and rewards of all steps.

    The state is SURE where the table is not asked.
    """
    frontier = open_frontier(flow)
    uses_levels = encoding == Encoding.SHARE
    levels = open_levels(flow, frontier, height) if uses_levels else no_levels(flow)
    state = np.empty(flow.types + 1, np.int32)
    freed = np.empty(flow.type.size, np.int32)
    visited = np.empty(flow.type.size, np.int32)
    choice = np.empty(flow.type.size, np.int32)
    reward = np.empty(flow.type.size, np.float64)
    steps = 0
    size = encode(encoding, frontier, levels, state)
    while size > 0:
        number, chosen = SURE, sure(encoding, frontier, levels)
        if chosen < 0:
            number = add(states, state, size)
            chosen = _random(frontier, rng) if rng.random() < epsilon else _most(frontier, value[number])
        visited[steps], choice[steps] = number, chosen
        # -1 for the batch, and back the part that it has of all that could ever have run in it
        reward[steps] = (frontier.high[chosen] - frontier.low[chosen]) / first.size[chosen] - 1.0
        steps += 1
        batch = advance(flow, frontier, chosen)
        run_first(flow, first, batch, chosen, freed)
        if uses_levels:
            leave_levels(levels, height, batch, chosen)
            enter_levels(levels, height, frontier)
        size = encode(encoding, frontier, levels, state)
    return visited[:steps], choice[:steps], reward[:steps]


@njit(cache=True)
def _random(frontier: Frontier, rng: np.random.Generator) -> int:
    ready = np.flatnonzero(frontier.high > frontier.low)
    return ready[rng.integers(0, ready.size)]


@njit(cache=True)
def _most(frontier: Frontier, value: np.ndarray) -> int:
    chosen = -1
    for kind in range(value.size):
        if frontier.high[kind] > frontier.low[kind] and (chosen < 0 or value[kind] > value[chosen]):
            chosen = kind
    return chosen


@njit(cache=True)
def update_values(
    visited: np.ndarray, choice: np.ndarray, reward: np.ndarray, value: np.ndarray, tried: np.ndarray,
    horizon: int, rate: float, bootstrap: bool,
) -> None:  # fmt: skip
    """Move every value towards its return, from the first step to the last, in place."""
    steps = visited.size
    for step in range(steps):
        if visited[step] == SURE:
            continue
        total = reward[step : step + horizon].sum()
        after = step + horizon
        if bootstrap and after < steps and visited[after] != SURE and tried[visited[after]].any():
            best = -np.inf
            for kind in range(value.shape[1]):
                if tried[visited[after], kind]:
                    best = max(best, value[visited[after], kind])
            total += best
        state, kind = visited[step], choice[step]
        value[state, kind] += rate * (total - value[state, kind])
        tried[state, kind] = True
