"""A made circuit has gates of the right arity, and its label is what it says."""

import pytest

from bale.data import CIRCUIT_KINDS, random_circuits
from bale.errors import DataError

ARITY = {"false": 0, "true": 0, "not": 1, "and": 2, "or": 2, "xor": 2, "majority": 3}
SAYS = {
    "false": lambda: False,
    "true": lambda: True,
    "not": lambda a: not a,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "majority": lambda a, b, c: a + b + c >= 2,
}


def test_a_gate_reads_as_many_nodes_as_its_kind():
    samples = random_circuits(100, 1, inputs=4, gates=10)
    for dag, _ in samples:
        names = [CIRCUIT_KINDS[kind] for kind in dag.kinds]
        assert [len(operands) for operands in dag.operands] == [ARITY[name] for name in names]
        assert all(len(set(operands)) == len(operands) for operands in dag.operands)
        assert {"true", "false"} >= set(names[:4]) and not {"true", "false"} & set(names[4:])
    assert {len(dag.kinds) - 4 for dag, _ in samples} == set(range(5, 16))
    assert {kind for dag, _ in samples for kind in dag.kinds} == set(range(7))


def test_the_label_says_whether_most_sinks_are_true():
    for dag, label in random_circuits(100, 2):
        values = []
        for kind, operands in zip(dag.kinds, dag.operands, strict=True):
            values.append(SAYS[CIRCUIT_KINDS[kind]](*(values[operand] for operand in operands)))
        true = sum(values[sink] for sink in dag.sinks)
        assert label == (true > len(dag.sinks) - true)


def test_both_labels_occur_and_circuits_are_deep():
    samples = random_circuits(300, 3)
    assert 0.3 < sum(label for _, label in samples) / 300 < 0.5
    deepest = 0
    for dag, _ in samples:
        depth = []
        for operands in dag.operands:
            depth.append(1 + max((depth[operand] for operand in operands), default=0))
        deepest = max(deepest, *depth)
    assert deepest >= 10


def test_a_majority_needs_three_to_read():
    with pytest.raises(DataError, match="inputs must be at least 3, which a majority reads, got 2"):
        random_circuits(1, 0, inputs=2)
