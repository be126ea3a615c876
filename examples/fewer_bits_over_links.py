"""What does a network gain on a chip of many tiles when it keeps the connections that are near?

    python examples/fewer_bits_over_links.py

Trains LeNet-5 on scikit-learn's digits, and halves what it sends between tiles (our reconstruction of CANNON): by the
size of weights alone, by what connections cost on the chip, and by that with better places for the tiles in turn.
"""

import copy

import torch
from torch import nn

import bale
from bale.codesign import chip_traffic, place_and_prune, with_traffic
from bale.compress import all_weights, communication_cost
from bale.data import digits
from bale.hardware import estimate_noc, put_on_chip, simulate_noc, weight_masks
from bale.models import LeNet5
from bale.train import Retraining, compress_and_train, image_accuracy, train_images

CHIP = "small_tiles"


def main() -> dict[str, tuple[float, float]]:
    torch.manual_seed(0)
    train, test = digits("train", size=16), digits("test", size=16)
    sample = train[:1].pixels()
    dense = LeNet5(size=16)
    train_images(dense, train, epochs=10, lr=3e-3)
    traffic = chip_traffic(dense, CHIP, sample)
    found: dict[str, tuple[float, float]] = {}

    def show(name: str, model: nn.Module, placement: str = "snake") -> None:
        on_chip = put_on_chip(model, CHIP, train[:64].pixels(), copy=False)
        noc = estimate_noc(on_chip, placement=placement, masks=weight_masks(on_chip))
        run = simulate_noc(noc.mesh, noc.packets(load=0.3))
        weights = all_weights(model)
        kept = sum(int(w.count_nonzero()) for w in weights.values()) / sum(w.numel() for w in weights.values())
        left = communication_cost(traffic, weights) / communication_cost(traffic, all_weights(dense))
        found[name] = (image_accuracy(model, test), float(noc.energy_pj.sum()))
        print(
            f"{name:38} {found[name][0]:8.1%} {kept:12.0%} {left:10.0%} {found[name][1] / 1e3:10.1f} "
            f"{run.mean_latency:17.1f}"
        )

    print(f"{'':38} accuracy weights kept  C in snake  nJ an image  cycles a packet")
    show("dense", dense)
    for config in (bale.MagnitudeConfig(density=0.3), bale.CommunicationAwareConfig(cost=0.5)):
        model = copy.deepcopy(dense)
        compress_and_train(model, train, with_traffic([config], model, CHIP, sample), Retraining(epochs=4))
        show(config.method, model)
    config = bale.CommunicationAwareConfig(cost=0.5)
    placed = place_and_prune(dense, CHIP, sample, config, images=train, how=Retraining(epochs=4), rounds=2)
    show("the same, tiles placed in turn", placed.model, "annealed")
    return found


if __name__ == "__main__":
    main()
