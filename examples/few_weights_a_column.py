"""What does a network gain on a chip when no crossbar column holds more weights than a cheap converter can sum?

    python examples/few_weights_a_column.py

Trains LeNet-5 on scikit-learn's digits, prunes it for converters of 5 bits (our reconstruction of TinyADC's rule),
trains it again, and lays both on ISAAC with a column for each sign and converters of 8 and of 5 bits.
"""

import copy
from dataclasses import replace

import torch

import bale
from bale.data import digits
from bale.hardware import Encoding
from bale.models import LeNet5
from bale.train import Retraining, compress_and_train, train_images


def main() -> dict[tuple[str, int], float]:
    torch.manual_seed(0)
    train, test = digits("train", size=16), digits("test", size=16)
    pixels = test.pixels()
    dense = LeNet5(size=16)
    train_images(dense, train, epochs=10, lr=3e-3)
    pruned = copy.deepcopy(dense)
    print(compress_and_train(pruned, train, [bale.ADCAwareConfig(adc_bits=5)], Retraining(epochs=12)))
    print("\nnetwork  ADC bits  accuracy  conversions clipped  wrong sums  uJ an image")
    accuracies = {}
    for name, model in (("dense", dense), ("pruned", pruned)):
        for bits in (8, 5):
            chip = replace(bale.load_chip(f"isaac_adc({bits})"), encoding=Encoding.DIFFERENTIAL, flip=False)
            report = bale.simulate(model, chip, pixels, test.labels, weight_bits=8, input_bits=8)
            run, energy = report.run, report.cost.energy.total_pj * 1e-6
            made = sum(layer.converted.conversions for layer in run.layers)
            wrong = sum(layer.wrong for layer in run.layers)
            print(f"{name:7}  {bits:8}  {run.accuracy:8.1%}  {run.clipped / made:19.2%}  {wrong:10,}  {energy:11.3f}")
            accuracies[name, bits] = run.accuracy
    return accuracies


if __name__ == "__main__":
    main()
