"""What do tests of a search begin with? A small network, small images, and an evaluation that costs nothing."""

import torch
from torch import nn

from bale.codesign.search import Budgets, Costs, Outcome, Problem, Search, Space, split
from bale.data import digits
from bale.hardware import isaac_ce
from bale.train import Retraining, image_accuracy, train_images


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))


def small_problem(folder, budgets=None, epochs=2):
    """A network of three layers, trained on 256 images of 8 x 8 pixels less those held out."""
    train = digits("train", size=8).take(256)
    splits = split(train)
    model = small_network()
    train_images(model, splits.dense, epochs=10, batch_size=32, seed=0)
    accuracy = image_accuracy(model.eval(), splits.validation)
    how = Retraining(epochs=epochs)
    folder.mkdir(exist_ok=True)
    return Problem(
        model, train, splits.again, splits.validation, accuracy, isaac_ce(), budgets or Budgets(), how, folder
    )


def made_up(design):
    """Numbers that depend on the design alone; too much energy is not trained."""
    structure = design.structure
    energy, area = structure.rows * structure.weight_bits / 1000, design.room * structure.columns / 100
    costs = Costs(energy, area, 1.0, 1, 1, 8)
    if energy > 1.5:
        return Outcome(costs, refused="beyond a budget before training")
    drop = 0.1 / structure.weight_bits / (1 + len(design.methods))
    return Outcome(costs, 0.9 - drop, drop)


def made_up_search(folder):
    """What a worker begins with: a study, and an evaluation that costs nothing."""
    return Search.open(folder, {}, Space(), isaac_ce(), Budgets(), 0), made_up
