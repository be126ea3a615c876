"""What is left of TinyADC's claims on small networks, and what does each part of it bring?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from bale.codesign.figure import Figure
from bale.codesign.tinyadc import DIFFERENTIAL, ISAACS, SIGN_MAGNITUDE, Comparison, Cost, Side, Way
from bale.hardware import Encoding
from benchmarks.codesign.networks import (
    FIVE_BITS,
    FOUR_BITS,
    STRUCTURED,
    STRUCTURED_FIVE_BITS,
    Networks,
    Trained,
    settings,
)

DENSE, STRUCTURED_ALONE, FIVE, FOUR, BOTH = (
    "dense",
    "structured",
    "column rule (5 bits)",
    "column rule (4 bits)",
    "structured + column rule (5 bits)",
)
_SETTINGS = {STRUCTURED_ALONE: STRUCTURED, FIVE: FIVE_BITS, FOUR: FOUR_BITS, BOTH: STRUCTURED_FIVE_BITS}

# The abstract's: against earlier pruning, on ImageNet; of throughput, against what it does not say.
POWER, AREA, GOPS_A_WATT, GOPS_A_MM2 = 3.5, 2.9, 1.40, 1.29

# Baselines: ISAAC's chip; networks without the column rule, each in ISAAC's way and in that of the system.
_ISAAC = Side(DENSE, ISAACS, 8)
_DENSE, _STRUCTURED = Side(DENSE, SIGN_MAGNITUDE), Side(STRUCTURED_ALONE, SIGN_MAGNITUDE)
_STRUCTURED_ISAACS = Side(STRUCTURED_ALONE, ISAACS)
_FIVE, _FOUR, _SYSTEM = (Side(network, SIGN_MAGNITUDE) for network in (FIVE, FOUR, BOTH))

# (what, against what, the claim that it speaks of)
_OF_SYSTEM: tuple[tuple[Cost, Side, float | None], ...] = (
    ("energy an image", _ISAAC, None),
    ("energy an image", _DENSE, None),
    ("energy an image", _STRUCTURED_ISAACS, None),
    ("energy an image", _STRUCTURED, None),
    ("power of one copy", _ISAAC, None),
    ("power of one copy", _STRUCTURED_ISAACS, POWER),
    ("power of one copy", _STRUCTURED, POWER),
    ("area of one copy", _ISAAC, None),
    ("area of one copy", _STRUCTURED_ISAACS, AREA),
    ("area of one copy", _STRUCTURED, AREA),
    ("GOPS/W", _ISAAC, GOPS_A_WATT),
    ("GOPS/W", _DENSE, GOPS_A_WATT),
    ("GOPS/W", _STRUCTURED_ISAACS, None),
    ("GOPS/mm2", _ISAAC, GOPS_A_MM2),
    ("GOPS/mm2", _DENSE, GOPS_A_MM2),
    ("GOPS/mm2", _STRUCTURED_ISAACS, None),
)
_OF_RULE: tuple[tuple[Cost, Side, float | None], ...] = (
    ("GOPS/W", _ISAAC, GOPS_A_WATT),
    ("GOPS/W", _DENSE, GOPS_A_WATT),
    ("GOPS/mm2", _ISAAC, GOPS_A_MM2),
    ("GOPS/mm2", _DENSE, GOPS_A_MM2),
)
# One thing changed, all else the same.
_ABLATIONS: tuple[tuple[Cost, Side, Side], ...] = (
    ("energy an image", Side(DENSE, ISAACS), _ISAAC),  # the bits that lose nothing instead of 8
    ("energy an image", _STRUCTURED, _DENSE),  # structured pruning alone
    ("energy an image", Side(DENSE, ISAACS, "a priori"), Side(DENSE, Way(Encoding.OFFSET), "a priori")),  # the flip
    ("energy an image", Side(BOTH, ISAACS), _SYSTEM),  # the same weights with an offset, in half the columns
    ("energy an image", _SYSTEM, Side(BOTH, DIFFERENTIAL)),
    ("energy an image", _SYSTEM, Side(BOTH, SIGN_MAGNITUDE, "a priori")),
    ("energy an image", _SYSTEM, Side(BOTH, SIGN_MAGNITUDE, 5)),  # bits by matrix beside the same bits for all
)


def figures(networks: Networks, network: str, seed: int) -> Iterator[tuple[Figure, float]]:
    """All figures of a network, each with the accuracy of the compressed network that it is of."""
    trained: dict[str, Trained] = {DENSE: networks.dense(network, seed)}
    for name, setting in _SETTINGS.items():
        if setting in settings(network)["tinyadc"]:
            trained[name] = networks.compressed(network, setting, seed)
    models = {name: each.model for name, each in trained.items()}
    data = networks.train[:64].pixels()
    comparison = Comparison(models, data)
    for figure, name in chain(_of_costs(comparison), _of_inputs(Comparison(models, data, input_bits=16))):
        yield figure, trained[name].accuracy
    for side in (_ISAAC, _STRUCTURED_ISAACS, _FIVE, _FOUR, _SYSTEM):
        if side.network in trained:
            yield comparison.exactness(side, networks.checked(seed)), trained[side.network].accuracy


def _of_costs(comparison: Comparison) -> Iterator[tuple[Figure, str]]:
    yield comparison.crossbars(_SYSTEM, _ISAAC), BOTH
    for cost, baseline, claim in _OF_SYSTEM:
        yield comparison.figure(cost, _SYSTEM, baseline, claim), BOTH
    for side in (side for side in (_FIVE, _FOUR) if side.network in comparison.models):
        for cost, baseline, claim in _OF_RULE:
            yield comparison.figure(cost, side, baseline, claim), side.network
    yield comparison.whole("energy an image", _SYSTEM, (_STRUCTURED, _FIVE), _DENSE), BOTH
    yield comparison.whole("power of one copy", _SYSTEM, (_STRUCTURED, _FIVE), _DENSE), BOTH
    for cost, side, baseline in _ABLATIONS:
        yield comparison.figure(cost, side, baseline), side.network


def _of_inputs(comparison: Comparison) -> Iterator[tuple[Figure, str]]:
    """With inputs of 16 bits, as FORMS has them."""
    figure = comparison.figure("energy an image", _SYSTEM, _ISAAC)
    yield replace(figure, figure=f"{figure.figure}, inputs of 16 bits"), BOTH
