"""`bale simulate --chip smartdeal`: networks on an array of MACs, their weights in up to three forms, and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from bale.cli.networks import Trained, read_images, with_weights
from bale.cli.options import write_json
from bale.compress import decompositions
from bale.data import Images
from bale.errors import BaleError
from bale.hardware.mac_array import (
    ARRAYS,
    SCHEMES,
    Decomposed,
    MacArray,
    MacArrayCost,
    SmartDealTraining,
    TrainingCost,
    UniformWeights,
    by_matrix,
    compare,
    dense_weights,
    mac_array_costs,
    training_cost,
)
from bale.hardware.network import read_network
from bale.report import mac_array_dict, mac_array_table
from bale.train import build_classifier, save_weights
from bale.train.weights import PACKED

ARRAY_SAMPLES = 16

_CALIBRATION, _UNIFORM_BITS = 64, 4
_HOW = "none; `bale compress MODEL --method smartdeal` writes a .bale with powers of two and bases for --weights"


def chosen_array(chips: Sequence[str], unused: Mapping[str, bool]) -> MacArray | None:
    """The array that `--chip` names, if one; raises BaleError beside other chips, and for options without meaning."""
    arrays = [chip for chip in chips if chip in ARRAYS]
    if not arrays:
        return None
    if len(chips) > 1:
        raise BaleError(f"--chip {arrays[0]} is an array of MACs, not of crossbars; give it by itself")
    for name, given in unused.items():
        if given:
            raise BaleError(f"--{name} means nothing to {arrays[0]}, an array of MACs of 8 bits; leave it out")
    return ARRAYS[arrays[0]]()


def simulate_array(
    array: MacArray,
    models: Sequence[tuple[str, str]],
    *,
    data: str | None,
    width: int | None,
    weights: Path | None,
    save: Path | None,
    epochs: int | None,
    samples: int | None,
    seed: int,
    threads: int | None,
    download: bool,
    json_to: Path | None,
) -> None:
    """Count what networks (what was asked for, and its name) cost on an array, and print or write it."""
    notes = Console(stderr=True)
    if threads is not None:
        torch.set_num_threads(threads)
    images = read_images(data, download, notes)
    # Ranges are those of the images that are counted, too: nothing is said of accuracy here.
    train, test = images.train, images.test.take(min(samples or ARRAY_SAMPLES, len(images.test)))
    reports: list[dict[str, Any]] = []
    for spec, name in models:
        model = build_classifier(spec, train, width=width, seed=seed)
        trained = with_weights(spec, name, model, train, weights, epochs, seed, notes)
        decomposed = _decomposed(model, weights, test)
        if save is not None:
            save_weights(model, save)
        with notes.status(f"{name} on {array.name}"):
            costs, training = _costs(array, trained, decomposed, test)
        told = {**trained.facts, "decomposed": sorted(decomposed)}
        more = {"data": {"name": train.name, "samples": len(test)}, "weights": told}
        reports.append({**mac_array_dict(costs, training), **more})
        if str(json_to) != "-":
            facts = [("data", images.text), ("weights", trained.text)]
            facts.append(("decomposed", ", ".join(decomposed) or _HOW))
            random = f"{name} has random weights: its inputs' digits, and so its energy, may differ"
            Console().print(mac_array_table(costs, training, facts, [random] if trained.random else []))
    write_json(reports if len(reports) > 1 else reports[0], json_to)


def _decomposed(model: nn.Module, weights: Path | None, test: Images) -> Mapping[str, Decomposed]:
    """The matrices of which a packed file has powers of two and bases; other files have none."""
    if weights is None or weights.suffix != PACKED:
        return {}
    return by_matrix(read_network(model, (test[:1].pixels(),)), decompositions(weights))


def _costs(
    array: MacArray, trained: Trained, decomposed: Mapping[str, Decomposed], test: Images
) -> tuple[tuple[MacArrayCost, ...], tuple[TrainingCost, ...]]:
    """Of inference by form of the weights, and of training; what needs a decomposition only where there is one."""
    model, pixels = trained.model, test.pixels()
    options = {"samples": len(test), "calibration": _CALIBRATION}
    schemes = SCHEMES
    if decomposed:
        costs: tuple[MacArrayCost, ...] = compare(model, array, pixels, decomposed, **options)
    else:
        network = read_network(model, (pixels[:1],))
        uniform = dict.fromkeys(network.matrices, UniformWeights(_UNIFORM_BITS))
        forms = {"dense": dense_weights(network), f"uniform, {_UNIFORM_BITS} bits": uniform}
        costs = mac_array_costs(model, array, pixels, forms, **options)
        schemes = tuple(scheme for scheme in SCHEMES if not isinstance(scheme, SmartDealTraining))
    training = training_cost(model, array, pixels, decomposed, schemes=schemes)
    return tuple(replace(cost, model=trained.name) for cost in costs), training
