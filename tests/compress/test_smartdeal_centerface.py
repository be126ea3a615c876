"""Is the decomposition of a real network's weights as near at as few bits as it is said to be?"""

import pytest
from benchmarks.decomposition import WANTED, centerface, measure

from bale.compress import SmartDealConfig
from bale.errors import BaleError


@pytest.fixture(scope="module")
def network():
    try:
        return centerface()
    except BaleError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("config", "ratio"),
    [(SmartDealConfig(0.0005, 4), 6.9), (SmartDealConfig(0.003), 9.9), (SmartDealConfig(0.035), 13.9)],
)
def test_the_error_at_a_ratio(network, config, ratio) -> None:
    found = measure(network, config)
    assert found["ratio"] >= ratio and found["error"] <= WANTED[ratio]


def test_it_is_the_network_that_is_meant(network) -> None:
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_732_808
