"""Does every workload run, traced and with cells that do nothing?"""

import pytest

from benchmarks import trace_cost


@pytest.mark.parametrize("name", trace_cost.workloads(1, 4, 0))
def test_a_line_of_each_workload(name: str) -> None:
    model, samples = trace_cost.workloads(2, 4, 0)[name]
    line = trace_cost.measure(model, samples, repeats=1, policy="depth")
    assert line["calls"] >= 2 * len(samples)
