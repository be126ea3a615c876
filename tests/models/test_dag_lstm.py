"""The LSTM on graphs computes what its formula says, by recursion from the sinks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.made import CLASSES, HIDDEN, KINDS, Dag

from bale.models import DagLSTM


@st.composite
def dags(draw):
    nodes = draw(st.integers(1, 9))
    operands = [tuple(draw(st.lists(st.integers(0, node - 1), max_size=3))) if node else () for node in range(nodes)]
    return Dag(tuple(draw(st.integers(0, KINDS - 1)) for _ in range(nodes)), tuple(operands))


def build():
    torch.manual_seed(0)
    return DagLSTM(KINDS, CLASSES, HIDDEN).double()


def gate(weights, path, number, x):
    rows = slice(number * HIDDEN, (number + 1) * HIDDEN)
    return weights[f"{path}.gates.weight"][rows] @ x + weights[f"{path}.gates.bias"][rows]


def state(weights, dag, node):
    """h, c of a node."""
    kind, operands = dag.kinds[node], dag.operands[node]
    if not operands:
        x = weights["source.embed.weight"][kind]
        i, o, u = (gate(weights, "source", k, x) for k in range(3))
        c = torch.sigmoid(i) * torch.tanh(u)
    else:
        below = [state(weights, dag, operand) for operand in operands]
        h_sum, c_sum = sum(h for h, _ in below), sum(c for _, c in below)
        i, o, u, f = (gate(weights, f"nodes.{kind}", k, h_sum) for k in range(4))
        c = torch.sigmoid(i) * torch.tanh(u) + torch.sigmoid(f) * c_sum
    return torch.sigmoid(o) * torch.tanh(c), c


@settings(max_examples=40, deadline=None)
@given(dags())
def test_it_is_the_formula(dag):
    model = build()
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    sinks = set(range(len(dag.kinds))) - {operand for operands in dag.operands for operand in operands}
    total = sum(state(weights, dag, sink)[0] for sink in sinks)
    expected = weights["head.weight"] @ total + weights["head.bias"]
    torch.testing.assert_close(model(dag), expected, rtol=1e-12, atol=1e-13)


def test_the_order_of_operands_does_not_count():
    model, kinds = build(), (0, 1, 2, 1)
    torch.testing.assert_close(model(Dag(kinds, ((), (), (), (0, 1, 2)))), model(Dag(kinds, ((), (), (), (2, 0, 1)))))


def test_an_operand_that_is_read_twice_counts_twice():
    model, kinds = build(), (0, 1)
    assert not torch.allclose(model(Dag(kinds, ((), (0,)))), model(Dag(kinds, ((), (0, 0)))))


def test_every_kind_has_weights_of_its_own():
    model = build()
    logits = torch.stack([model(Dag((0, kind), ((), (0,)))) for kind in range(KINDS)])
    assert torch.unique(logits.detach().round(decimals=9), dim=0).shape[0] == KINDS


def test_depth_is_no_problem():
    chain = Dag((0,) * 3_000, ((), *((node,) for node in range(2_999))))
    assert torch.isfinite(build()(chain)).all()


def test_what_is_no_graph_is_an_error():
    model = build()
    with pytest.raises(ValueError, match="at least one node"):
        model(Dag((), ()))
    for operand in (-1, 1, 2):
        with pytest.raises(ValueError, match=f"node 1 reads node {operand}, which is not before it"):
            model(Dag((0, 1, 2), ((), (operand,), ())))
    for kind in (-1, KINDS):
        with pytest.raises(IndexError, match=f"of kind {kind}, and there are cells for the kinds 0 to {KINDS - 1}"):
            model(Dag((0, kind), ((), (0,))))
        with pytest.raises(IndexError):
            model(Dag((kind,), ((),)))
