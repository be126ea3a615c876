"""At which router does each tile stand, so that bits have short ways?

A placement is int64 [tiles], the router of each; what it costs are bits times links. Finding the best one is the
quadratic assignment problem.
"""

from __future__ import annotations

from itertools import permutations
from math import perm

import numpy as np
from numba import njit

from bale.errors import BaleError
from bale.hardware.noc.topology import Mesh

PLACEMENTS = ("snake", "annealed", "exact")
MOST_EXACT = 400_000  # placements that are tried one by one: those of 9 tiles on 9 routers
_STEPS = 2_000_000
_COOLED = 1e-4  # of the first temperature


def bit_hops(flows: np.ndarray, mesh: Mesh, router: np.ndarray) -> float:
    """Bits times links, of flows [tiles, tiles] with tile i at `router[i]`."""
    return float((flows * mesh.hop_matrix()[np.ix_(router, router)]).sum())


def place_tiles(
    flows: np.ndarray, mesh: Mesh, method: str = "snake", *, seed: int = 0, steps: int = _STEPS
) -> np.ndarray:
    """int64 [tiles]: the router of each tile, for flows [tiles, tiles] in bits.

    `snake`: in order, along the rows, back and forth. `annealed`: simulated annealing from there (Kirkpatrick et al.,
    1983), `steps` swaps of two routers' tiles drawn from `seed`; the best that was met, so never worse than the snake.
    `exact`: the best of all, for so few tiles that all can be tried. Raises `BaleError` for another method, and for
    more tiles than routers.
    """
    tiles = len(flows)
    if tiles > mesh.nodes:
        raise BaleError(f"{tiles} tiles: the mesh has {mesh.nodes} routers")
    if method not in PLACEMENTS:
        raise BaleError(f"placement: expected {', '.join(PLACEMENTS)}, got {method!r}")
    snake = mesh.snake()[:tiles]
    if method == "snake" or tiles < 2:
        return snake
    return _exact(flows, mesh) if method == "exact" else _annealed(flows, mesh, snake, seed, steps)


def _exact(flows: np.ndarray, mesh: Mesh) -> np.ndarray:
    tiles, hops = len(flows), mesh.hop_matrix()
    many = perm(mesh.nodes, tiles)
    if many > MOST_EXACT:
        number = f"{many:,}" if many <= 10**12 else "more than 10^12"
        raise BaleError(f"placement exact: {number} placements to try, at most {MOST_EXACT:,}; annealed is for more")
    routers = np.array(list(permutations(range(mesh.nodes), tiles)))
    costs = sum(flows[a, b] * hops[routers[:, a], routers[:, b]] for a in range(tiles) for b in range(tiles))
    return routers[int(np.argmin(costs))].astype(np.int64)


def _annealed(flows: np.ndarray, mesh: Mesh, start: np.ndarray, seed: int, steps: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, mesh.nodes, steps)
    second = (first + rng.integers(1, mesh.nodes, steps)) % mesh.nodes
    both_ways = flows + flows.T  # a way is as long as the way back
    np.fill_diagonal(both_ways, 0)
    found = _anneal(both_ways, mesh.hop_matrix(), start, first, second, rng.random(steps), _COOLED)
    return found if bit_hops(flows, mesh, found) < bit_hops(flows, mesh, start) else start


@njit(cache=True)
def _anneal(
    flows: np.ndarray,
    hops: np.ndarray,
    start: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    chance: np.ndarray,
    cooled: float,
) -> np.ndarray:
    router, best = start.copy(), start.copy()
    tile = np.full(len(hops), -1)  # of each router; -1: none
    tile[router] = np.arange(len(router))
    # The first temperature: what swaps change in the mean, so that about a third of the bad ones are made.
    warm, tried = 0.0, min(1000, len(first))
    for step in range(tried):
        warm += abs(_change(flows, hops, router, tile, first[step], second[step])) / tried
    now = lowest = 0.0
    for step in range(len(first)):
        here, there = first[step], second[step]
        change = _change(flows, hops, router, tile, here, there)
        temperature = warm * cooled ** (step / len(first))
        if change > 0 and chance[step] >= np.exp(-change / max(temperature, 1e-300)):
            continue
        tile[here], tile[there] = tile[there], tile[here]
        for each in (here, there):
            if tile[each] >= 0:
                router[tile[each]] = each
        now += change
        if now < lowest:
            lowest = now
            best[:] = router
    return best


@njit(cache=True)
def _change(flows: np.ndarray, hops: np.ndarray, router: np.ndarray, tile: np.ndarray, here: int, there: int) -> float:
    """By how much the cost changes if two routers swap their tiles; the way between these two stays as long."""
    a, b = tile[here], tile[there]
    change = 0.0
    for other in range(len(router)):
        if other not in (a, b):
            nearer = hops[there, router[other]] - hops[here, router[other]]
            if a >= 0:
                change += flows[a, other] * nearer
            if b >= 0:
                change -= flows[b, other] * nearer
    return change
