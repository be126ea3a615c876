"""Which simulations do reports tell of? Small ones, made once."""

from dataclasses import replace

import pytest
import torch

from bale.data import digits
from bale.hardware import Noise, isaac_adc, isaac_ce, simulate
from bale.models import LeNet5, LSTMClassifier

SIZE = 12


@pytest.fixture(scope="session")
def images():
    return digits("test", size=SIZE).take(8)


@pytest.fixture(scope="session")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LeNet5(size=SIZE)


@pytest.fixture(scope="session")
def lossless(network, images):
    """ISAAC's converters lose nothing: integer products stand in."""
    return simulate(network, "isaac_ce", images.pixels(), images.labels)


@pytest.fixture(scope="session")
def clipped(network, images):
    """Converters of four bits clip."""
    return simulate(network, isaac_adc(4), images.pixels(), images.labels, every_conversion=True)


@pytest.fixture(scope="session")
def noisy(network, images):
    noise = Noise(variation=0.2)
    return simulate(network, "small_tiles", images.pixels(), images.labels, noise=noise, trials=2, multiplex=True)


@pytest.fixture(scope="session")
def in_turns(images):
    """An LSTM on so few crossbars that its matrices take turns; without labels."""
    return simulate(LSTMClassifier(inputs=SIZE), "isaac_ce", images.pixels(), crossbars=40, multiplex=True)


@pytest.fixture
def bare_chip():
    """A chip without units for activations and pools."""
    chip = isaac_ce()
    return replace(chip, name="bare", units=tuple(u for u in chip.units if u.name not in ("sigmoid", "max pool")))
