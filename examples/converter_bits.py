"""How few bits may a chip's converters have before a network on it goes wrong, and what does each bit cost?

    python examples/converter_bits.py

Trains LeNet-5 on scikit-learn's digits, which need no download, and lays it on ISAAC with converters of 8 to 5 bits.
"""

import torch

import bale
from bale.data import digits
from bale.models import LeNet5
from bale.train import train_images


def main() -> list[float]:
    torch.manual_seed(0)
    train, test = digits("train"), digits("test")
    model = LeNet5()
    train_images(model, train, epochs=15)
    accuracies = []
    print("bits  accuracy  clipped  uJ an image")
    for bits in (8, 7, 6, 5):
        report = bale.simulate(model, f"isaac_adc({bits})", test.pixels(), test.labels, weight_bits=8, input_bits=8)
        run, energy = report.run, report.cost.energy
        made = sum(layer.converted.conversions for layer in run.layers)
        print(f"{bits:4}  {run.accuracy:8.1%}  {run.clipped / made:7.1%}  {energy.total_pj * 1e-6:11.3f}")
        accuracies.append(run.accuracy)
    needed = max(layer.adc_bits_exact for layer in report.cost.layers)
    print(f"from {needed} bits on nothing is clipped: every sum is the integer that PyTorch computes")
    return accuracies


if __name__ == "__main__":
    main()
