"""ReBoc: circulant blocks stored once, on ISAAC's chip at its own 16 bits, beside the dense network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bale.codesign.exact import exact_images
from bale.codesign.figure import Figure
from bale.codesign.reboc import (
    Sides,
    ablations,
    against_dense,
    against_others,
    efficiency,
    placed,
    with_fewer_bits,
)
from bale.hardware import CirculantMapping, Encoding, isaac_ce, put_on_chip, small_tiles
from benchmarks.codesign.networks import CIRCULANT, CIRCULANT_SIX_BITS, Networks, settings

BLOCK, CALIBRATION = 8, 64


def sides(networks: Networks, network: str, setting: str, seed: int) -> Sides:
    """A network, dense and of circulant blocks."""
    data = networks.train[:CALIBRATION].pixels()
    dense, circulant = networks.dense(network, seed), networks.compressed(network, setting, seed)
    return Sides(dense.model, circulant.model, isaac_ce(), data, CirculantMapping(BLOCK))


def figures(networks: Networks, network: str, seed: int) -> Iterator[tuple[Figure, float]]:
    """Every figure, with the accuracy of the network of circulant blocks that it is of.

    What a chip costs depends on shapes, not on weights (cells are read at a fixed cost), and so not on the seed.
    """
    accuracy = networks.compressed(network, CIRCULANT, seed).accuracy
    both = sides(networks, network, CIRCULANT, seed)
    for part in (against_dense(both), against_others(both), ablations(both), efficiency(both)):
        yield from ((figure, accuracy) for figure in part)
    on_chip = both.lay(True, crossbars=round(1.2 * both.least()))
    yield exact_images(on_chip, both.circulant, networks.checked(seed), CIRCULANT), accuracy
    if network != "lstm":  # whose states the model has at home
        yield from ((figure, accuracy) for figure in placed(both, small_tiles()))
    if CIRCULANT_SIX_BITS in settings(network)["reboc"]:
        yield from fewer_bits(networks, network, seed, both)


def fewer_bits(networks: Networks, network: str, seed: int, both: Sides) -> Iterator[tuple[Figure, float]]:
    """With ADC-aware pruning, on ISAAC's structure with 8 bits and columns for each sign."""
    chip = replace(isaac_ce(), name="isaac_differential", weight_bits=8, input_bits=8, flip=False)
    chip = replace(chip, encoding=Encoding.DIFFERENTIAL, adc=replace(chip.adc, bits=9))
    pruned = networks.compressed(network, CIRCULANT_SIX_BITS, seed)
    on_chip = put_on_chip(pruned.model, chip, both.data, copy=False, circulant=both.how, adc_bits="exact")
    yield exact_images(on_chip, pruned.model, networks.checked(seed), CIRCULANT_SIX_BITS), pruned.accuracy
    for figure in with_fewer_bits(replace(both, chip=chip), pruned.model):
        yield figure, pruned.accuracy
