"""Which groups of connections go, which come back, and which are drawn at the start? Over a whole network.

Our reconstruction of CANNON: those go whose cost is large for what they matter; cheaper ones may come back in their
place; and a network may start with near connections more often than far ones, P ~ exp(-distance / length).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

import numpy as np

from bale.compress.connections import Connections, Numbers

_LEAST_SALIENCY = 1e-30
_EMPTY = np.zeros(0, np.int64)
Groups = dict[str, Numbers]  # of each weight, by their numbers


def total_cost(network: Mapping[str, Connections]) -> float:
    """C of all weights."""
    return sum(each.cost for each in network.values())


def drop_to(
    network: Mapping[str, Connections],
    most: float,
    saliency: Mapping[str, Numbers],
    spared: Mapping[str, Numbers] | None = None,
) -> Groups:
    """Leave out groups, those of the largest cost / saliency first, until C is at most `most`; return which.

    saliency  of each weight's numbers, [outputs, rows]
    spared    groups that stay

    Left are groups without which an output would have no weight, so C may stay above.
    """
    names, places, scores = [], [], []
    for name, connections in network.items():
        shares = connections.shares()
        there = (connections.counts > 0) & (connections.own > 0)
        there[(spared or {}).get(name, _EMPTY)] = False
        chosen = there.nonzero()[0]
        matters = connections.total(saliency[name].ravel() * connections.kept)[chosen]
        names += [name] * len(chosen)
        places.append(chosen)
        scores.append(shares[chosen] / np.maximum(matters, _LEAST_SALIENCY))
    left, dropped = total_cost(network), dict[str, list[int]]()
    groups = np.concatenate(places) if places else _EMPTY
    for index in np.argsort(-np.concatenate(scores), kind="stable") if places else ():
        if left <= most:
            break
        name, group = names[index], int(groups[index])
        if not network[name].counts[group]:
            continue  # others have taken all of it already
        saved = network[name].drop(group)
        if saved is not None:
            left -= saved
            dropped.setdefault(name, []).append(group)
    return {name: np.array(groups) for name, groups in dropped.items()}


def bring_back(
    network: Mapping[str, Connections], dropped: Groups, share: float, scores: Mapping[str, Numbers]
) -> Groups:
    """Let groups come back that are cheaper than those just dropped, as many as `share` of them; return which.

    scores  of each weight's groups [groups]: the largest come back first; -inf: never
    """
    if not dropped:
        return {}
    costs = np.concatenate([network[name].own[groups] for name, groups in dropped.items()])
    cheap = float(np.median(costs))
    names, places, values = [], [], []
    for name, connections in network.items():
        chosen = connections.returning() & (connections.own < cheap) & np.isfinite(scores[name])
        chosen[dropped.get(name, _EMPTY)] = False
        found = chosen.nonzero()[0]
        names += [name] * len(found)
        places.append(found)
        values.append(scores[name][found])
    groups, order = np.concatenate(places), np.argsort(-np.concatenate(values), kind="stable")
    back: dict[str, list[int]] = {}
    for index in order[: round(share * len(costs))]:
        back.setdefault(names[index], []).append(int(groups[index]))
    for name, returned in back.items():
        network[name].dropped[returned] = False
        network[name].recount()
    return {name: np.array(returned) for name, returned in back.items()}


def by_distance(connections: Connections, length: float, generator: np.random.Generator) -> Numbers:
    """Scores of groups [groups] whose order is a draw without replacement by weights exp(-distance / length).

    (The Gumbel-top-k trick; Kool et al., ICML 2019.)
    """
    return generator.gumbel(size=len(connections.own)) - connections.distance / length


def connect_by_distance(connections: Connections, density: float, scores: Numbers) -> None:
    """Keep arrivals in the order of their scores until `density` of the weights are kept, of each output some.

    An output that has got nothing keeps its best arrival, beyond the density.
    """
    arrivals = np.argsort(-scores[: connections.arrivals], kind="stable")
    before = connections.total(connections.allowed)[arrivals]
    enough = int(np.searchsorted(before.cumsum(), ceil(density * int(connections.allowed.sum())))) + 1
    connections.dropped[: connections.arrivals] = True
    connections.dropped[arrivals[:enough]] = False
    connections.recount()
    for output in (connections.of_output == 0).nonzero()[0]:
        own = connections.allowed & (connections.output_of == output)
        if own.any() and not (own & connections.kept).any():
            groups = np.unique(connections.arrival_of[own])
            connections.dropped[groups[scores[groups].argmax()]] = False
            connections.recount()
