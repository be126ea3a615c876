"""What does CANNON save of communication, against magnitude, structured and random pruning on the same tiles?

All networks lie as the dense one does: one copy on `small_tiles`, in snake order. Equal density: CANNON's connections
of a third of C beside the network of another method that has nearest as many weights; residual blocks let structured
pruning be no nearer. Equal accuracy: of each method the network that takes the least energy and loses at most a point;
where none is so good, the dense one. Both in the mean of all seeds that are measured, of what was trained
(networks.py), by accuracy on the test.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor, nn

from bale.codesign.cannon import (
    CLAIMS,
    Communication,
    at_equal_saliency,
    communication,
    compared,
    mechanisms,
    placed,
)
from bale.codesign.communication import Laid
from bale.codesign.exact import exact_images
from bale.codesign.figure import Figure
from bale.codesign.idle import without_idle
from bale.codesign.uncompacted import uncompacted
from bale.compress import CommunicationAwareConfig, Config, StructuredConfig, all_weights, compress_, parse_config
from bale.hardware import Router, cost_on_chip, put_on_chip
from bale.train import image_accuracy
from benchmarks.codesign.networks import (
    DENSE,
    THIRD,
    Networks,
    cannon,
    cannon_parts,
    magnitude,
    near_static,
    random_static,
    structured,
)
from benchmarks.compression.study import CHIP

LOSS = 0.01  # of accuracy, below dense, that counts as equal
NARROW_BITS = 32  # of a flit, beside the router's 256
CALIBRATION = 64

Told = Iterator[tuple[Figure, float]]


@dataclass(frozen=True, eq=False)
class Point:
    """A trained network, and what it sends.

    `sends`: in the dense one's shapes, without weights for which nothing need be sent (`without_idle`).
    """

    setting: str
    model: nn.Module
    sends: nn.Module
    accuracy: float
    density: float
    sent: Communication


class Contest:
    """The trained networks of all methods, of one architecture."""

    def __init__(self, networks: Networks, network: str) -> None:
        self.networks, self.network = networks, network
        self.others = {
            "magnitude pruning": magnitude(network),
            "structured pruning": structured(network),
            "random static sparsity": random_static(network),
        }
        self._laid: dict[int, Laid] = {}
        self._points: dict[tuple[str, int], Point] = {}

    def laid(self, seed: int) -> Laid:
        """How the dense network lies on the chip."""
        if seed not in self._laid:
            dense = self.networks.dense(self.network, seed).model
            self._laid[seed] = Laid.on(dense, CHIP, self.networks.train[:1].pixels())
        return self._laid[seed]

    def point(self, setting: str, seed: int) -> Point:
        """A setting's network of a seed; `DENSE`: not compressed."""
        if (setting, seed) not in self._points:
            dense = self.networks.dense(self.network, seed)
            trained = dense if setting == DENSE else self.networks.compressed(self.network, setting, seed)
            config = None if setting == DENSE else parse_config(setting)
            whole = trained.model
            if isinstance(config, StructuredConfig):
                whole = uncompacted(dense.model, whole, config.keep, config.by)
            weights, sends = [all_weights(whole)[name] for name in self.laid(seed).named], without_idle(whole)
            kept = sum(int(weight.count_nonzero()) for weight in weights)
            self._points[setting, seed] = Point(
                setting=setting,
                model=trained.model,
                sends=sends,
                accuracy=trained.accuracy,
                density=kept / sum(weight.numel() for weight in weights),
                sent=communication(self.laid(seed), sends),
            )
        return self._points[setting, seed]

    def mean(self, setting: str, of: Callable[[Point], float]) -> float:
        """Over seeds."""
        return _mean([of(self.point(setting, seed)) for seed in self.networks.seeds])

    def accuracy(self, setting: str) -> float:
        """The mean over seeds."""
        return self.mean(setting, lambda point: point.accuracy)

    def as_dense(self, settings: Sequence[str]) -> str:
        """The setting that leaves nearest as many weights as CANNON's of a third of C."""
        density = {each: self.mean(each, lambda point: point.density) for each in (THIRD, *settings)}
        return min(settings, key=lambda each: abs(density[each] - density[THIRD]))

    def within_a_point(self, settings: Sequence[str]) -> str:
        """The setting of the least energy whose accuracy is dense's but for a point; the dense one counts, too."""
        least = self.accuracy(DENSE) - LOSS
        near = [DENSE, *(each for each in settings if self.accuracy(each) >= least)]
        return min(near, key=lambda each: self.mean(each, lambda point: point.sent.energy_pj))

    def conditions(self, ours: Point, theirs: Point, seed: int) -> dict[str, Any]:
        """What a comparison of two points depends on, and how good and how dense both are."""
        return {
            "chip": CHIP,
            "tiles": self.laid(seed).tiles,
            "placement": "snake",
            "chosen_over_seeds": list(self.networks.seeds),
            "setting": ours.setting or "dense",
            "baseline_setting": theirs.setting or "dense",
            "density": ours.density,
            "baseline_density": theirs.density,
            "baseline_accuracy": theirs.accuracy,
            "mean_accuracy": self.accuracy(ours.setting),
            "baseline_mean_accuracy": self.accuracy(theirs.setting),
            "dense_mean_accuracy": self.accuracy(DENSE),
        }


@cache
def _contest(networks: Networks, network: str) -> Contest:
    return Contest(networks, network)  # what one seed has read, the others need for their means


def figures(networks: Networks, network: str, seed: int) -> Told:
    """All figures of a network, and the accuracy of the compressed network that each is of."""
    contest = _contest(networks, network)
    for how in ("equal density", "equal accuracy"):
        for name, settings in contest.others.items():
            ours, theirs = _pair(contest, how, settings, seed)
            conditions = contest.conditions(ours, theirs, seed)
            claims = CLAIMS if name == "magnitude pruning" else None  # what the paper calls pruning
            for figure in compared(how, name, ours.sent, theirs.sent, claims=claims, conditions=conditions):
                yield figure, ours.accuracy
    yield from _granted(contest, seed)
    yield from _own_tiles(contest, seed)
    third, dense = contest.point(THIRD, seed), contest.point(DENSE, seed)
    for figure in mechanisms(contest.laid(seed), dense.sends, third.sends):
        yield figure, third.accuracy
    yield from _at_once(contest, seed)
    yield from _trained_parts(contest, seed)
    yield from _on_chip(contest, seed)


def _pair(contest: Contest, how: str, settings: Sequence[str], seed: int) -> tuple[Point, Point]:
    if how == "equal density":
        return contest.point(THIRD, seed), contest.point(contest.as_dense(settings), seed)
    ours = contest.within_a_point(cannon(contest.network))
    return contest.point(ours, seed), contest.point(contest.within_a_point(settings), seed)


def _granted(contest: Contest, seed: int) -> Told:
    """At equal accuracy, with what is not CANNON's alone granted to magnitude pruning: places, trees, thin links."""
    ours, theirs = _pair(contest, "equal accuracy", magnitude(contest.network), seed)
    laid, name = contest.laid(seed), "magnitude pruning"
    conditions = contest.conditions(ours, theirs, seed)

    def pair(**options: Any) -> tuple[Communication, Communication]:
        return communication(laid, ours.sends, **options), communication(laid, theirs.sends, **options)

    ours_placed, theirs_placed = (communication(laid, each.sends, placed(laid, each.sends)) for each in (ours, theirs))
    energy, *_ = compared(
        "equal accuracy, places of each by annealing",
        name,
        ours_placed,
        theirs_placed,
        conditions=conditions | {"placement": "annealed"},
    )
    yield energy, ours.accuracy
    energy, *_ = compared(
        "equal accuracy, multicast trees for both", name, *pair(multicast=True), conditions=conditions
    )
    yield energy, ours.accuracy
    narrow = pair(router=Router(flit_bits=NARROW_BITS))
    how = f"equal accuracy, flits of {NARROW_BITS} bits"
    _, latency, _ = compared(how, name, *narrow, conditions=conditions | {"flit_bits": NARROW_BITS})
    yield latency, ours.accuracy


def _own_tiles(contest: Contest, seed: int) -> Told:
    """What structured pruning sends where its smaller layers lie on no more tiles than they need."""
    ours, theirs = _pair(contest, "equal accuracy", structured(contest.network), seed)
    own = Laid.on(theirs.model, CHIP, contest.networks.train[:1].pixels())
    conditions = contest.conditions(ours, theirs, seed) | {"baseline_tiles": own.tiles}
    baseline = "structured pruning, on its own tiles"
    sent = communication(own, without_idle(theirs.model))
    yield compared("equal accuracy", baseline, ours.sent, sent, conditions=conditions)[0], ours.accuracy


def _at_once(contest: Contest, seed: int) -> Told:
    """What distances and groups are worth in the choice of connections, without training."""
    laid, dense = contest.laid(seed), contest.point(DENSE, seed).model
    traffic = laid.traffic(laid.snake())

    def compressed(config: Config) -> tuple[nn.Module, float]:
        assert isinstance(config, CommunicationAwareConfig)
        model = copy.deepcopy(dense)
        compress_(model, config.on(traffic))
        return model, image_accuracy(model, contest.networks.test)

    third = CommunicationAwareConfig(0.33, bits=None)
    _, accuracy = compressed(third)
    for figure in at_equal_saliency(laid, dense, third.cost):
        yield figure, accuracy
    settings = near_static(contest.network), random_static(contest.network)[0]
    (near, accuracy), (anywhere, _) = (compressed(parse_config(setting)) for setting in settings)
    for figure in compared(
        "equal density, drawn by distance and not trained",
        "random static sparsity",
        communication(laid, without_idle(near)),
        communication(laid, without_idle(anywhere)),
        conditions=dict(zip(("setting", "baseline_setting"), settings, strict=True)),
    )[:1]:
        yield figure, accuracy


def _trained_parts(contest: Contest, seed: int) -> Told:
    """What rewiring and the start are worth in training; of networks that were trained without them."""
    if not cannon_parts(contest.network):
        return
    still, distance, anywhere, near = (contest.point(each, seed) for each in cannon_parts(contest.network))
    third, static = contest.point(THIRD, seed), contest.point(random_static(contest.network)[0], seed)
    for figure, baseline, ours, theirs in (
        ("accuracy at C = .33, groups come back", "none does", third, still),
        ("accuracy at C = .33, start by distance", "start from all trained weights", distance, third),
        ("accuracy at C = .33, start by distance", "start from as many drawn anywhere", distance, anywhere),
        ("accuracy at equal density, drawn by distance and kept", "random static sparsity", near, static),
    ):
        conditions = {"setting": ours.setting, "baseline_setting": theirs.setting, "baseline_accuracy": theirs.accuracy}
        conditions |= {"density": ours.density, "baseline_density": theirs.density}
        points = 100 * (ours.accuracy - theirs.accuracy)
        yield Figure(figure, baseline, points, unit="points", conditions=conditions), ours.accuracy


def _on_chip(contest: Contest, seed: int) -> Told:
    """How much of the chip's energy is communication, and is what is pruned still computed exactly?"""
    images = contest.networks.train[:CALIBRATION].pixels()
    ours, theirs = _pair(contest, "equal accuracy", magnitude(contest.network), seed)
    dense = contest.point(DENSE, seed)
    spent = {id(point): _spent(point.model, images) for point in (dense, ours, theirs)}
    total, router = spent[id(dense)]
    conditions = {"chip": CHIP, "chip_pj": total, "router_pj": router}
    share = "share of communication in the chip's energy"
    yield Figure(share, "dense network", router / total, unit="share", conditions=conditions), dense.accuracy
    (our_total, our_router), (total, router) = spent[id(ours)], spent[id(theirs)]
    conditions = contest.conditions(ours, theirs, seed)
    conditions |= {"chip_pj": our_total, "router_pj": our_router}
    conditions |= {"baseline_chip_pj": total, "baseline_router_pj": router}
    how = "energy of the whole chip, equal accuracy"
    yield Figure(how, "magnitude pruning", total / our_total, conditions=conditions), ours.accuracy
    on_chip = put_on_chip(ours.model, CHIP, images, copy=False)
    yield exact_images(on_chip, ours.model, contest.networks.checked(seed), ours.setting or "dense"), ours.accuracy


def _spent(model: nn.Module, images: Tensor) -> tuple[float, float]:
    """pJ of an image by counted events: of the chip, and of its routers."""
    energy = cost_on_chip(put_on_chip(model, CHIP, images, copy=False), model, images).energy
    return energy.total_pj, energy.by_unit()["router"]


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)
