"""What does SmartDeal save on Fashion-MNIST, over dense weights of 8 bits and over uniform ones of as many bytes?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bale.codesign.figure import Figure
from bale.codesign.smartdeal import (
    UNIFORM_BASELINE,
    inference,
    inference_figures,
    training,
    training_figures,
    wide_macs_figure,
)
from bale.codesign.smartdeal_exact import exactness
from bale.codesign.smartdeal_mechanisms import mechanism_figures, mechanisms
from bale.compress import decompositions
from bale.hardware.mac_array import smartdeal
from benchmarks.codesign.networks import SMARTDEAL, TWO_BITS, Networks

_CALIBRATION = 256  # images of the training set, which say how large inputs are


def figures(networks: Networks, network: str, seed: int) -> Iterator[tuple[Figure, float]]:
    """Each figure, and the accuracy of the decomposed network.

    Where the baseline is uniform quantisation to as many bytes, its conditions have the accuracy of a network that was
    trained with about as many bits, `TWO_BITS`, by the same steps, and that of the dense network that it was of.
    """
    dense = networks.dense(network, seed)
    ours = networks.compressed(network, SMARTDEAL, seed)
    uniform = networks.told(network, TWO_BITS, seed)
    assert ours.packed is not None
    weights, array, pixels = decompositions(ours.packed), smartdeal(), networks.test[:64].pixels()
    sizes = {"setting": SMARTDEAL, "packed_bytes": ours.packed.stat().st_size}
    beside = {
        "uniform_setting": TWO_BITS,
        "uniform_accuracy": uniform["accuracy"],
        "uniform_dense_accuracy": uniform["dense_accuracy"],
        "uniform_packed_bytes": uniform["packed_bytes"],
    }
    costs = inference(dense.model, ours.model, weights, array, pixels)
    for figure in inference_figures(costs):
        more = sizes | (beside if figure.baseline == UNIFORM_BASELINE else {})
        yield replace(figure, conditions={**figure.conditions, **more}), ours.accuracy
    for figure in training_figures(training(ours.model, weights, array, pixels)):
        yield figure, ours.accuracy
    for figure in mechanism_figures(mechanisms(ours.model, weights, array, pixels)):
        yield figure, ours.accuracy
    run = exactness(ours.model, weights, array, networks.train[:_CALIBRATION], networks.checked(seed))
    for figure in (*run.figures(), wide_macs_figure(costs, run.weight_bits)):
        yield figure, ours.accuracy
