"""Do the laws say what was published?"""

import math
from itertools import pairwise

import pytest

from bale.errors import ChipError
from bale.hardware.adc import LAWS, converter_cost


@pytest.mark.parametrize(
    ("law", "bits", "energy", "area"),
    [
        ("saberi", 8, 1.5625, 1200),
        ("saberi", 4, 0.79 * 0.9375, 361),
        ("saberi", 10, 2.38 * 0.9375, 3002),
        ("exponential", 8, 1.5625, 1200),
        ("exponential", 5, 1.5625 / 8, 150),
        ("murmann", 6, 1.07, 6470),
        ("mnsim", 8, 2 / 1.28, 1200),
        ("mnsim", 4, 0.7 / 1.28, 500),
    ],
)
def test_published_points(law, bits, energy, area) -> None:
    cost = converter_cost(law, bits, 10_000)
    assert cost.energy_pj == pytest.approx(energy) and cost.area_um2 == pytest.approx(area)


def test_neurosims_formula() -> None:
    watts = (1.1294 * 6 + 8.90) * 1e-6 + 0.0794 * math.exp(-2.297 * 4)
    assert converter_cost("neurosim", 6, 10_000).energy_pj == pytest.approx(watts * 7e-9 * 1e12)


@pytest.mark.parametrize("law", list(LAWS))
def test_a_law_grows_with_its_bits_and_refuses_others(law) -> None:
    known = LAWS[law]
    costs = [converter_cost(law, bits, 10_000) for bits in range(known.fewest, known.most + 1)]
    assert all(a.energy_pj < b.energy_pj and a.area_um2 <= b.area_um2 for a, b in pairwise(costs))
    for bits in (known.fewest - 1, known.most + 1):
        with pytest.raises(ChipError, match=rf"adc.bits: the law {law} has figures for .*, got {bits}"):
            converter_cost(law, bits, 10_000)


def test_a_law_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(ChipError, match="no law 'sabery'; choose one of saberi, exponential"):
        converter_cost("sabery", 8, 1.0)
