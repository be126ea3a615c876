"""Is a ratio found, and in few tries?"""

from math import exp

import pytest
from benchmarks.decomposition import at_ratio


def line_of(number: float) -> dict:
    return {"ratio": round(6.0 * exp(1.1 * number + 0.2 * number**2), 2), "number": number}


def test_ratios_are_found_in_few_tries() -> None:
    tried: dict[float, dict] = {}
    for ratio in (6.9, 9.9, 13.9, 30.0):
        line = at_ratio(ratio, line_of, tried)
        assert line is not None and ratio <= line["ratio"] < 1.01 * ratio
    assert len(tried) <= 12


@pytest.mark.parametrize("ratio", [5.0, 1e9])
def test_a_ratio_that_no_number_has_is_none(ratio) -> None:
    def of(number: float) -> dict:
        return {"ratio": min(20.0, line_of(number)["ratio"]), "number": number}

    assert at_ratio(ratio, of, {}) is None
