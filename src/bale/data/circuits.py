"""What do circuits look like, made from a seed? Graphs of logic gates, with what they say as the label."""

import numpy as np

from bale.data.dag import Dag, DagSample
from bale.data.generators import lengths
from bale.errors import DataError

CIRCUIT_KINDS = ("false", "true", "not", "and", "or", "xor", "majority")
"""The kinds of node: two inputs, then gates of one, two, two, two and three operands."""

_FALSE, _TRUE, _NOT, _AND, _OR, _XOR, _MAJORITY = range(len(CIRCUIT_KINDS))
_ARITY = (0, 0, 1, 2, 2, 2, 3)
_REACH = 12  # nodes back: wires are short, so that depth grows with the number of gates as it does in circuits


def random_circuits(samples: int, seed: int, *, inputs: int = 8, gates: int = 32) -> list[DagSample]:
    """Make circuits of `inputs` inputs and of `gates` gates on average, from half as many to half as many again.

    Kinds are numbered as in `CIRCUIT_KINDS`. A gate reads different nodes among the 12 before it. The label is 1
    where more than half of the sinks are true, else 0.

    Raises `DataError` for fewer than 3 inputs, which the first gate may have to read.
    """
    if inputs < 3:
        raise DataError(f"inputs must be at least 3, which a majority reads, got {inputs}")
    rng = np.random.default_rng(seed)
    data: list[DagSample] = []
    for size in lengths(rng, samples, gates):
        dag = _circuit(rng, inputs, size)
        values = _values(dag)
        true = sum(values[sink] for sink in dag.sinks)
        data.append((dag, int(2 * true > len(dag.sinks))))
    return data


def _circuit(rng: np.random.Generator, inputs: int, gates: int) -> Dag:
    kinds = rng.integers(_FALSE, _TRUE + 1, inputs).tolist() + rng.integers(_NOT, _MAJORITY + 1, gates).tolist()
    operands: list[tuple[int, ...]] = []
    for node, kind in enumerate(kinds):
        back = rng.choice(min(node, _REACH), _ARITY[kind], replace=False) if _ARITY[kind] else ()
        operands.append(tuple(node - 1 - int(steps) for steps in back))
    return Dag(tuple(kinds), tuple(operands))


def _values(dag: Dag) -> list[bool]:
    """What every node says. All gates are blind to the order of their operands, as a sum over them is."""
    values: list[bool] = []
    for kind, operands in zip(dag.kinds, dag.operands, strict=True):
        true = sum(values[operand] for operand in operands)
        values.append(
            (
                False,  # false
                True,  # true
                true == 0,  # not
                true == len(operands),  # and
                true > 0,  # or
                true == 1,  # xor
                true >= 2,  # majority
            )[kind]
        )
    return values
